from __future__ import annotations

import multiprocessing
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from prm_backend.engine import score
from prm_backend.errors import PrmError
from prm_backend.score_cache import ScoreCache, content_key
from prm_backend.stepmodel import StepModel
from prm_backend.types import Solution, SolutionTree, StepScores
from tests.prm_backend.readers import tiny_reader

SOLUTION = Solution("s", "p", "how many", ("so", "we add"))
SCORES = StepScores((0.5, 0.25), (0.25, 0.5), (0.25, 0.25), (0.0, 0.125), windowed_from=1)


def cache_in(folder: Path, *, checkpoint: str = "digest", adapter: str = "adapter") -> ScoreCache:
    return ScoreCache(folder, checkpoint=checkpoint, adapter={"name": adapter})


def test_what_is_put_comes_back_as_it_was(tmp_path: Path) -> None:
    cache_in(tmp_path).put({"a": SCORES, "empty": StepScores((), (), (), ())})
    assert cache_in(tmp_path).get({"a", "empty", "missing"}) == {"a": SCORES, "empty": StepScores((), (), (), ())}


def test_another_checkpoint_or_adapter_has_scores_of_its_own(tmp_path: Path) -> None:
    cache_in(tmp_path).put({"a": SCORES})
    assert not cache_in(tmp_path, checkpoint="other").get({"a"})
    assert not cache_in(tmp_path, adapter="other").get({"a"})


def test_text_decides_and_names_do_not() -> None:
    assert content_key(SOLUTION) == content_key(replace(SOLUTION, key="other", problem_key="other"))
    others = [
        replace(SOLUTION, problem="how many?"),
        replace(SOLUTION, steps=("so", "we", "add")),
        replace(SOLUTION, steps=("so we", "add")),
        SolutionTree.of(SOLUTION),
    ]
    assert len({content_key(item) for item in [SOLUTION, *others]}) == 5


def test_the_cache_gives_the_same_scores_without_reading_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = tiny_reader("qwen2")
    pool = [SOLUTION, SolutionTree.of(replace(SOLUTION, key="tree")), Solution("none", "p", "how", ())]
    fresh = list(score(reader, pool, cache=cache_in(tmp_path)))

    def never(*_: object) -> None:
        raise AssertionError("the model was run although everything is cached")

    monkeypatch.setattr(StepModel, "judge", never)
    monkeypatch.setattr(type(reader), "encode", never)
    assert list(score(reader, pool, cache=cache_in(tmp_path))) == fresh


def test_windowed_scores_are_no_answer_to_who_wants_whole_ones(tmp_path: Path) -> None:
    reader = tiny_reader("qwen2", max_tokens=6)
    cache = cache_in(tmp_path)
    [(_, windowed)] = score(reader, [SOLUTION], cache=cache, too_long="window")
    assert windowed.windowed_from == 1
    assert list(score(reader, [SOLUTION], cache=cache, too_long="window")) == [("s", windowed)]
    with pytest.raises(PrmError, match="solution s: "):
        list(score(reader, [SOLUTION], cache=cache))


def test_what_is_no_number_is_not_kept(tmp_path: Path) -> None:
    reader = tiny_reader("qwen2")
    torch.nn.init.constant_(reader.model.head.weight, torch.nan)  # type: ignore[arg-type]
    with pytest.raises(PrmError, match="not a number"):
        list(score(reader, [SOLUTION], cache=cache_in(tmp_path)))
    assert not cache_in(tmp_path).get({content_key(SOLUTION)})


def write_many(folder: Path, name: str) -> None:
    cache = cache_in(folder)
    for number in range(50):
        cache.put({f"{name} {number}": SCORES, "shared": SCORES})


def test_two_processes_may_write_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write_many, args=(tmp_path, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    keys = [f"{name} {number}" for name in ("a", "b") for number in range(50)]
    assert len(cache_in(tmp_path).get(keys)) == 100


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = cache_in(tmp_path).path
    path.write_bytes(b"not a database, certainly not one of scores" * 100)
    with pytest.raises(PrmError, match=f"{path}: not usable as a cache of scores"):
        cache_in(tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PrmError, match="not usable as a cache of scores"):
        cache_in(tmp_path / "file")


def test_a_killed_writer_leaves_a_readable_file(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    cache.put({"a": SCORES})
    database = sqlite3.connect(cache.path)
    database.execute("INSERT INTO scores VALUES ('b', -1, x'')")
    database.close()  # without commit
    assert cache.get({"a", "b"}) == {"a": SCORES}
