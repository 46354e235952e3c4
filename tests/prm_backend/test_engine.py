from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prm_backend import engine, prefix
from prm_backend.batching import Encoded, TokenBatch
from prm_backend.encoding import SolutionTooLong
from prm_backend.engine import interleave, score, score_trees, shard
from prm_backend.errors import Cancelled, PrmError
from prm_backend.own import OwnPrm
from prm_backend.stepmodel import StepModel, StepProbabilities
from prm_backend.types import Progress, Solution, SolutionTree, StepNode, StepScores
from tests.prm_backend.readers import BODIES, WordReader, encoder_reader, reference, tiny_reader
from tests.prm_backend.tiny_bodies import TREE, path_to, random_backbone

WORDS = ["so", "we", "add", "two", "and", "three", "to", "get", "five", "pens", "which", "is", "the", "answer"]


def solutions(count: int, *, seed: int = 0) -> list[Solution]:
    random_ = random.Random(seed)

    def text(most: int) -> str:
        return " ".join(random_.choices(WORDS, k=random_.randint(1, most)))

    return [
        Solution(f"s{index}", f"p{index}", text(12), tuple(text(9) for _ in range(random_.randint(1, 7))))
        for index in range(count)
    ]


POOL = solutions(30)


def rows(scores: StepScores) -> np.ndarray:
    """(steps, 4)"""
    return np.array([scores.bad, scores.neutral, scores.good, scores.spread]).T


def assert_same(first: Sequence[tuple[str, StepScores]], second: Sequence[tuple[str, StepScores]]) -> None:
    assert [key for key, _ in first] == [key for key, _ in second]
    for (_, one), (_, other) in zip(first, second, strict=True):
        np.testing.assert_allclose(rows(one), rows(other), atol=1e-5)


@pytest.mark.parametrize("family", BODIES)
def test_one_pass_scores_every_step_as_a_pass_over_its_own_prefix_does(family: str) -> None:
    reader = tiny_reader(family)
    scored = list(score(reader, POOL))
    assert [key for key, _ in scored] == [solution.key for solution in POOL]
    for solution, (_, scores) in zip(POOL, scored, strict=True):
        slow = reference(reader, solution.problem, solution.steps)
        np.testing.assert_allclose(rows(scores)[:, :3], slow, atol=1e-4)
        np.testing.assert_allclose(scores.spread, np.array(scores.bad) / 2, atol=1e-6)
        assert scores.windowed_from is None


@pytest.mark.parametrize("family", BODIES)
@pytest.mark.parametrize("tokens", [1, 50, 5000])
def test_scores_do_not_depend_on_the_batching(family: str, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = tiny_reader(family)
    usual = list(score(reader, POOL))
    monkeypatch.setattr(engine, "WINDOW", 7)
    assert_same(list(score(reader, POOL, tokens_per_batch=tokens)), usual)
    assert_same(list(score(reader, POOL[::-1], tokens_per_batch=tokens))[::-1], usual)


def test_a_body_in_bf16_stays_within_its_tolerance_and_has_its_head_in_fp32() -> None:
    reader = tiny_reader("qwen2", dtype=torch.bfloat16)
    together = list(score(reader, POOL))
    alone = [one for solution in POOL for one in score(reader, [solution])]
    for (_, first), (_, second) in zip(together, alone, strict=True):
        np.testing.assert_allclose(rows(first), rows(second), atol=0.02)
    assert reader.model.judge(TokenBatch.of([reader.encode(POOL[0])])).p.dtype == torch.float32


def test_a_model_in_training_is_read_without_dropout_and_left_as_it_was() -> None:
    reader = tiny_reader("qwen2")
    expected = list(score(reader, POOL))
    reader.model.head = nn.Sequential(nn.Dropout(0.5), reader.model.head)
    reader.model.train()
    assert_same(list(score(reader, POOL)), expected)
    assert reader.model.head.training


@pytest.mark.parametrize("family", ["qwen2-windows", "modernbert"])
def test_a_prm_of_ones_own_scores_a_tree_like_its_paths(family: str, tmp_path: Path) -> None:
    prm = OwnPrm.build(random_backbone(family, tmp_path / family))
    [(_, scores)] = score_trees(prm, [TREE])
    for node in range(len(TREE.nodes)):
        [(_, alone)] = score(prm, [path_to(TREE, node)])
        np.testing.assert_allclose(rows(scores)[node], rows(alone)[-1], atol=1e-4)


def test_an_encoder_that_is_padded_reads_what_it_reads_alone() -> None:
    reader = encoder_reader()
    assert_same(list(score(reader, POOL)), [one for solution in POOL for one in score(reader, [solution])])


@st.composite
def trees(draw: st.DrawFn) -> SolutionTree:
    texts = draw(st.lists(st.lists(st.sampled_from(WORDS), max_size=3), min_size=1, max_size=7))
    nodes = tuple(StepNode(" ".join(words), draw(st.integers(-1, index - 1))) for index, words in enumerate(texts))
    return SolutionTree("t", "p", "how many pens", nodes)


def assert_like_its_paths(reader: WordReader, tree: SolutionTree, scores: StepScores) -> None:
    assert len(scores) == len(tree.nodes)
    assert scores.windowed_from is None
    for path in prefix.paths([node.parent for node in tree.nodes]):
        slow = reference(reader, tree.problem, [tree.nodes[step].text for step in path])
        np.testing.assert_allclose(rows(scores)[list(path), :3], slow, atol=1e-4)


READERS = {family: tiny_reader(family) for family in BODIES}


@pytest.mark.parametrize("family", BODIES)
@pytest.mark.parametrize("pair", [0.0, 1e9])
@settings(max_examples=10)
@given(st.lists(trees(), min_size=1, max_size=3))
def test_a_tree_is_scored_like_each_of_its_paths(family: str, pair: float, found: list[SolutionTree]) -> None:
    """Whether everything is shared or nothing is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "MASKED_PAIR", pair)
        for tree, (_, scores) in zip(found, score_trees(READERS[family], found), strict=True):
            assert_like_its_paths(READERS[family], tree, scores)


def test_many_solutions_of_a_problem_are_scored_as_one_tree() -> None:
    reader = tiny_reader("qwen2")
    same = [replace(solution, problem="how many") for solution in POOL[:6]]
    same += [replace(same[0], key="copy"), replace(same[1], key="longer", steps=(*same[1].steps, "so five"))]
    tree, ways = prefix.tree_of(same)
    [(_, scores)] = score_trees(reader, [tree])
    for solution, way, (_, alone) in zip(same, ways, score(reader, same), strict=True):
        np.testing.assert_allclose(rows(scores)[list(way)], rows(alone), atol=1e-5, err_msg=solution.key)


def test_trees_and_solutions_may_be_mixed() -> None:
    reader = tiny_reader("llama")
    tree = prefix.tree_of([replace(POOL[0], problem="x"), replace(POOL[1], problem="x")], key="tree")[0]
    mixed = dict(score(reader, [POOL[2], tree, POOL[3]]))
    assert list(mixed) == ["s2", "tree", "s3"]
    assert_like_its_paths(reader, tree, mixed["tree"])


class Reluctant(WordReader):
    """Reads plain solutions only, like an adapter that cuts problem and steps into tokens together."""

    def encode(self, item: Solution | SolutionTree) -> Encoded:
        if isinstance(item, SolutionTree):
            raise PrmError("score each path alone")
        return super().encode(item)


def test_a_tree_that_cannot_be_encoded_as_one_is_read_path_by_path() -> None:
    tree = prefix.tree_of([replace(POOL[0], problem="x"), replace(POOL[1], problem="x")])[0]
    reader = Reluctant(tiny_reader("qwen2").model)
    [(_, scores)] = score_trees(reader, [tree])
    assert_like_its_paths(reader, tree, scores)


def test_a_step_of_a_tree_never_depends_on_later_ones_even_where_the_model_looks_ahead() -> None:
    reader = encoder_reader()
    tree = SolutionTree("t", "p", "how many", (StepNode("so", -1), StepNode("two", 0), StepNode("three pens", 0)))
    [(_, scores)] = score_trees(reader, [tree])
    assert_like_its_paths(reader, tree, scores)


def test_a_solution_over_the_limit_is_named() -> None:
    reader = tiny_reader("qwen2", max_tokens=100)
    long = Solution("long one", "p", "problem", ("so " * 200,))
    with pytest.raises(SolutionTooLong, match="solution long one: "):
        list(score(reader, [*solutions(2), long]))


def test_an_over_long_solution_is_read_in_windows_of_the_problem_and_the_last_steps_that_fit() -> None:
    reader = tiny_reader("qwen2", max_tokens=20)
    long = Solution("long", "p", "how many pens", tuple(f"{word} {word}" for word in WORDS[:10]))
    short = replace(long, key="short", steps=long.steps[:3])
    marked, whole = (scores for _, scores in score(reader, [long, short], too_long="window"))
    # 4 tokens of problem and 3 for each step: windows of steps 0 to 4, 3 to 7, 6 to 9
    assert (marked.windowed_from, whole.windowed_from) == (5, None)
    for first, judged in ((0, range(5)), (3, range(5, 8)), (6, range(8, 10))):
        slow = reference(reader, long.problem, long.steps[first : judged[-1] + 1])
        np.testing.assert_allclose(rows(marked)[list(judged), :3], slow[judged[0] - first :], atol=1e-4)


def test_the_context_of_a_window_makes_room_for_a_long_step() -> None:
    reader = tiny_reader("qwen2", max_tokens=20)
    steps = ("so", "we", "add", "two", "and", "three " * 14, "pens")
    [(_, scores)] = score(reader, [Solution("s", "p", "how", steps)], too_long="window")
    assert scores.windowed_from == 5
    slow = reference(reader, "how", steps[4:6])
    np.testing.assert_allclose(rows(scores)[5, :3], slow[1], atol=1e-4)


def test_a_step_that_fits_no_window_is_never_cut() -> None:
    reader = tiny_reader("qwen2", max_tokens=20)
    with pytest.raises(SolutionTooLong, match="solution s: step 2 and the problem are longer than this model reads"):
        list(score(reader, [Solution("s", "p", "how", ("so", "five " * 30, "pens"))], too_long="window"))
    with pytest.raises(SolutionTooLong, match="solution s: "):
        list(score(reader, [Solution("s", "p", "how " * 50, ())], too_long="window"))


def test_hostile_solutions_are_scored_like_any_other() -> None:
    reader = tiny_reader("qwen2", max_tokens=3000)
    enormous = Solution("enormous", "p", "how", ("so we add",) * 500)
    odd = [
        Solution("no steps", "p", "how many", ()),
        Solution("empty step", "p", "how many", ("", "so", "")),
        Solution("no problem", "p", "", ("so",)),
        enormous,
        Solution("twice", "p", "how", ("so",)),
        Solution("twice", "p", "how", ("we", "add")),
    ]
    scored = list(score(reader, odd, tokens_per_batch=64))
    assert [(key, len(scores)) for key, scores in scored] == [
        ("no steps", 0),
        ("empty step", 3),
        ("no problem", 1),
        ("enormous", 500),
        ("twice", 1),
        ("twice", 2),
    ]
    assert_same(scored, [one for solution in odd for one in score(reader, [solution])])


def test_nothing_to_score_is_no_error() -> None:
    assert list(score(tiny_reader("qwen2"), [])) == []
    assert list(score(tiny_reader("qwen2"), [Solution("s", "p", "how", ())])) == [("s", StepScores((), (), (), ()))]


def test_a_score_that_is_no_number_names_its_solution() -> None:
    reader = tiny_reader("qwen2")
    broken = reader.ids("five")[0]
    assert broken not in reader.ids("so we add two")
    with torch.no_grad():
        reader.model.body.embed_tokens.weight[broken] = torch.nan  # type: ignore[index,operator,union-attr]
    fine, bad = Solution("fine", "p", "so we", ("add two",)), Solution("bad one", "p", "so we", ("add five",))
    assert len(list(score(reader, [fine]))) == 1
    with pytest.raises(PrmError, match="solution bad one: a step score is not a number"):
        list(score(reader, [fine, bad]))


def test_equal_text_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = tiny_reader("qwen2")
    read: list[int] = []
    judge = StepModel.judge

    def counted(self: StepModel, batch: TokenBatch) -> StepProbabilities:
        read.append(len(batch.ids))
        return judge(self, batch)

    monkeypatch.setattr(StepModel, "judge", counted)
    scored = list(score(reader, [replace(POOL[0], key=str(copy)) for copy in range(5)]))
    assert sum(read) == 1
    assert [key for key, _ in scored] == ["0", "1", "2", "3", "4"]


def test_progress_counts_and_can_cancel() -> None:
    told: list[tuple[float, float]] = []

    def cancel(progress: Progress) -> None:
        told.append((progress.done, progress.total))
        if progress.done == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        list(score(tiny_reader("qwen2"), POOL, progress=cancel, total=len(POOL)))
    assert told == [(1, 30), (2, 30), (3, 30)]


def test_shards_put_together_are_the_whole() -> None:
    for count in (1, 2, 3, 40):
        shards = [list(shard(POOL, index, count)) for index in range(count)]
        assert list(interleave(shards)) == POOL
    reader = tiny_reader("qwen2")
    halves = [score(reader, shard(iter(POOL), index, 2)) for index in range(2)]
    assert_same(list(interleave(halves)), list(score(reader, POOL)))


class Counter(nn.Module):
    """A body that costs nothing, so that only the engine's own memory is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        return batch.read.float()[:, None].expand(-1, 3)


class CheapModel(StepModel):
    def forward(self, batch: TokenBatch) -> torch.Tensor:
        raw: torch.Tensor = self.body(batch)
        return raw


class CheapReader:
    model = CheapModel(Counter(), nn.Identity(), lambda raw: StepProbabilities(raw.softmax(-1), raw[:, 0]))

    def encode(self, item: Solution | SolutionTree) -> Encoded:
        return Encoded((1, 2, 3), (1, 2), (2, 3), (1, 2), (-1, 0))


def stream(count: int, *, texts: int = 10**9) -> Iterator[Solution]:
    return (Solution(str(index), "p", f"problem {index % texts}", ("one", "two")) for index in range(count))


def peak_of(items: Iterator[Solution], count: int) -> int:
    """Bytes."""
    tracemalloc.start()
    try:
        assert sum(1 for _ in score(CheapReader(), items, tokens_per_batch=300)) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WINDOW", 100)
    few = peak_of(stream(300), 300)
    assert peak_of(stream(3000), 3000) < few + 300_000  # the scores alone would be more than a million bytes


@pytest.mark.slow
def test_memory_does_not_grow_with_a_hundred_thousand_solutions() -> None:
    few = peak_of(stream(3 * engine.WINDOW, texts=50), 3 * engine.WINDOW)
    assert peak_of(stream(100_000, texts=50), 100_000) < few + 10**6


def test_a_stream_is_drawn_window_by_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "WINDOW", 4)
    drawn = 0

    def counted() -> Iterator[Solution]:
        nonlocal drawn
        for solution in stream(100):
            drawn += 1
            yield solution

    next(score(CheapReader(), counted()))
    assert drawn == 4
