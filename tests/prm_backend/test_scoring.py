from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prm_backend import features
from prm_backend.encoding import SolutionTooLong
from prm_backend.errors import Cancelled, PrmError
from prm_backend.model import Backbone, StepHeads
from prm_backend.pretraining import init_backbone
from prm_backend.scoring import Scorer
from prm_backend.training import train_heads
from prm_backend.types import Progress, Solution, StepScores
from tests.prm_backend.tiny import FAMILIES, labeled_solutions, plain_solutions, random_model

POOL = plain_solutions(30, seed=3)


@pytest.fixture(scope="module", params=FAMILIES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    model = random_model(request.param, folder / "model")
    init_backbone(model, folder / "cold", solutions=POOL[:10])
    train_heads(folder / "cold", labeled_solutions(20), folder / "heads")
    return folder / "heads"


def assert_same(first: dict[str, StepScores], second: dict[str, StepScores]) -> None:
    assert list(first) == list(second)
    for key, scores in first.items():
        for name in ("bad", "neutral", "good", "spread"):
            np.testing.assert_allclose(getattr(scores, name), getattr(second[key], name), atol=1e-4)


def test_scores_come_in_order_for_every_step_and_add_up(trained: Path) -> None:
    scored = list(Scorer.load(trained).score(POOL))
    assert [key for key, _ in scored] == [solution.key for solution in POOL]
    for solution, (_, scores) in zip(POOL, scored, strict=True):
        assert len(scores) == len(solution.steps)
        np.testing.assert_allclose(np.sum([scores.bad, scores.neutral, scores.good], axis=0), 1.0, atol=1e-5)
        assert min(*scores.bad, *scores.neutral, *scores.good, *scores.spread) >= -1e-6


def test_scores_do_not_depend_on_company_or_order(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer.load(trained)
    together = dict(scorer.score(POOL))
    alone = {key: scores for solution in POOL for key, scores in scorer.score([solution])}
    assert_same(together, alone)
    monkeypatch.setattr(features, "WINDOW", 7)
    monkeypatch.setattr(features, "TOKENS_PER_BATCH", 200)
    backwards = dict(scorer.score(POOL[::-1]))
    assert_same(together, {solution.key: backwards[solution.key] for solution in POOL})


def test_the_cache_gives_the_same_scores_without_reading_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = dict(Scorer.load(trained).score(POOL))
    dict(Scorer.load(trained, cache_dir=tmp_path).score(POOL[:20]))
    assert_same(fresh, dict(Scorer.load(trained, cache_dir=tmp_path).score(POOL)))

    def never(*_: object) -> None:
        raise AssertionError("the backbone was run although everything is cached")

    monkeypatch.setattr(Backbone, "read", never)
    assert_same(fresh, dict(Scorer.load(trained, cache_dir=tmp_path).score(POOL)))


def test_the_same_steps_under_another_problem_are_not_the_same_solution(trained: Path, tmp_path: Path) -> None:
    scorer = Scorer.load(trained, cache_dir=tmp_path)
    [(_, first)] = scorer.score([POOL[0]])
    [(_, second)] = scorer.score([replace(POOL[0], problem="Ana has 3 shells.")])
    assert first != second


def test_a_stream_is_read_window_by_window(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "WINDOW", 4)
    drawn = 0

    def stream() -> Iterator[Solution]:
        nonlocal drawn
        for solution in POOL:
            drawn += 1
            yield solution

    next(Scorer.load(trained).score(stream()))
    assert drawn == 4


def test_nothing_to_score_is_no_error(trained: Path) -> None:
    scorer = Scorer.load(trained)
    assert list(scorer.score([])) == []
    [(_, scores)] = scorer.score([Solution("empty", "p", "problem", ())])
    assert len(scores) == 0


def test_a_solution_over_the_limit_is_named(trained: Path) -> None:
    with pytest.raises(SolutionTooLong, match="solution long one: "):
        list(Scorer.load(trained).score([*POOL[:3], Solution("long one", "p", "problem", ("apples " * 300,))]))


def test_a_score_that_is_no_number_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer.load(trained)

    def broken(self: StepHeads, array: np.ndarray) -> StepScores:
        return StepScores(*[(float("nan"),) * len(array)] * 4)

    monkeypatch.setattr(StepHeads, "predict", broken)
    with pytest.raises(PrmError, match=f"solution {POOL[0].key}: a step score is not a number"):
        list(scorer.score(POOL))


def test_a_model_that_gives_no_number_is_named_and_not_cached(trained: Path, tmp_path: Path) -> None:
    scorer = Scorer.load(trained, cache_dir=tmp_path)
    for parameter in scorer.reader.backbone.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(PrmError, match=r"solution generated-\S+: the model gave a value that is not a number"):
        list(scorer.score(POOL))
    [file] = tmp_path.iterdir()
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM features").fetchone() == (0,)


def test_progress_counts_solutions_and_can_cancel(trained: Path) -> None:
    told: list[Progress] = []

    def cancel(progress: Progress) -> None:
        told.append(progress)
        if progress.done == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        list(Scorer.load(trained).score(POOL, progress=cancel, total=len(POOL)))
    assert [(progress.done, progress.total) for progress in told] == [(1, 60), (2, 60), (3, 60)]
