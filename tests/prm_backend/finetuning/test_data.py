from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.finetuning.data import (
    LabeledTree,
    mass_of,
    per_solution,
    record_tree,
    solution_tree,
)
from prm_backend.formats import read_records
from prm_backend.types import (
    HumanCompletion,
    LabeledSolution,
    LabeledStep,
    LabelingRecord,
    RatedCompletion,
    Solution,
    SolutionRecord,
    SolutionTree,
    StepLabel,
    StepNode,
)

GOOD, BAD, NEUTRAL, NOT_BAD = StepLabel.GOOD, StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.NOT_BAD
SHARED = Path(__file__).parents[4] / "shared" / "data"


def record(*steps: LabeledStep, phase: int = 1, **fields: object) -> SolutionRecord:
    labeling = LabelingRecord("someone", "2022-07-30T23:23:32", None, False, False, steps, 1, None)
    values = {"line": 1, "problem": "Why?", "steps": (), "phase": phase, "labeling": labeling, **fields}
    return SolutionRecord(**values)  # type: ignore[arg-type]  # the tests vary few fields


def rated(*ratings: int | None, chosen: int | None = None, human: str | None = None) -> LabeledStep:
    completions = tuple(RatedCompletion(f"{index}: {rating}", rating) for index, rating in enumerate(ratings))
    return LabeledStep(completions, HumanCompletion(human) if human else None, chosen)


def test_every_rated_completion_is_a_node_with_its_label() -> None:
    tree = record_tree(record(rated(1, chosen=0), rated(-1, 0, 1, None, chosen=2), rated(-1, -1)))
    assert [node.parent for node in tree.tree.nodes] == [-1, 0, 0, 0, 0, 3, 3]
    assert tree.labels == (GOOD, BAD, NEUTRAL, GOOD, None, BAD, BAD)


def test_a_step_written_by_the_labeler_is_read_and_carries_no_loss() -> None:
    tree = record_tree(record(rated(-1, -1, human="my own"), rated(1, chosen=0)))
    assert [(node.text, node.parent) for node in tree.tree.nodes][2:] == [("my own", -1), ("0: 1", 2)]
    assert tree.labels == (BAD, BAD, None, GOOD)


def test_a_labeling_ends_where_nothing_was_chosen() -> None:
    pending = LabeledStep(None, None, None)
    assert len(record_tree(record(rated(1, chosen=0), pending)).labels) == 1
    assert record_tree(record(rated(-1, -1), rated(1, chosen=0))).labels == (BAD, BAD)


def test_in_phase_2_the_judged_step_stands_first_and_goes_on() -> None:
    judged = record(rated(1, chosen=0), rated(-1, 1), rated(1), phase=2, steps=("a", "b", "c"))
    tree = record_tree(judged)
    assert [node.parent for node in tree.tree.nodes] == [-1, 0, 0, 1]


def test_bare_step_labels_make_a_chain() -> None:
    bare = SolutionRecord(line=1, problem="Why?", steps=("a", "b"), step_labels=(NOT_BAD, None), external_id="one")
    tree = record_tree(bare)
    assert tree.tree.key == "one"
    assert [node.parent for node in tree.tree.nodes] == [-1, 0]
    assert tree.labels == (NOT_BAD, None)


def test_labelings_of_one_ready_solution_share_a_key() -> None:
    one, other = (record(rated(rating), phase=2, steps=("a", "b")) for rating in (1, -1))
    assert record_tree(one).tree.key == record_tree(other).tree.key
    assert record_tree(dataclasses.replace(one, steps=("a", "c"))).tree.key != record_tree(one).tree.key


def test_genuine_rows_keep_every_rating() -> None:
    file = SHARED / "prm800k_sample.jsonl"
    if not file.exists():
        pytest.skip("the shared sample is not here")
    for row in read_records(file):
        assert row.labeling is not None
        ratings = [c.rating for step in row.labeling.steps for c in step.completions or ()]
        labels = record_tree(row).labels
        assert sum(label is not None for label in labels) == sum(rating is not None for rating in ratings)


def chain(*labels: StepLabel | None, weight: float = 1.0) -> LabeledTree:
    steps = tuple(f"step {index}" for index in range(len(labels)))
    return solution_tree(LabeledSolution(Solution("key", "problem", "Why?", steps), labels, weight))


@pytest.mark.parametrize(
    ("labels", "weight", "what"),
    [
        ((GOOD,), 1.0, "1 labels for 2 steps"),
        ((GOOD, (0.5, 0.2, 0.2)), 1.0, "not shares that add up to 1"),
        ((GOOD, (1.5, -0.5, 0.0)), 1.0, "not shares"),
        ((GOOD, (math.nan, 0.5, 0.5)), 1.0, "not shares"),
        ((GOOD, (0.5, 0.5)), 1.0, "not shares"),
        ((GOOD, None), 0.0, "weight"),
        ((GOOD, None), math.inf, "weight"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_name(labels: tuple[StepLabel], weight: float, what: str) -> None:
    tree = SolutionTree("the-key", "p", "Why?", (StepNode("a", -1), StepNode("b", 0)))
    with pytest.raises(ValueError, match=f"the-key: .*{what}"):
        LabeledTree(tree, labels, weight)


def test_a_step_comes_after_the_one_it_follows() -> None:
    with pytest.raises(ValueError, match="step 0 follows step 1"):
        LabeledTree(SolutionTree("k", "p", "Why?", (StepNode("a", 1), StepNode("b", -1))), (None, None))


def test_labelings_of_a_solution_weigh_one_together() -> None:
    kept = per_solution([chain(GOOD, BAD), chain(GOOD, GOOD), chain(BAD, None, weight=2.0)])
    assert [tree.weight for tree in kept] == [0.25, 0.25, 0.5]


@pytest.mark.parametrize("other", [{"problem": "Which?"}, {"steps": ("a", "c")}])
def test_rows_that_only_share_an_id_are_solutions_of_their_own(other: dict[str, object]) -> None:
    """As from two files that both number their rows."""
    values: dict[str, object] = {"line": 1, "problem": "Why?", "steps": ("a", "b"), "step_labels": (GOOD, BAD)}
    rows = [SolutionRecord(**{**values, **change}, external_id="1") for change in ({}, other)]  # type: ignore[arg-type]
    trees = [record_tree(row) for row in rows]
    assert [tree.tree.key for tree in trees] == ["1", "1"]
    assert [tree.weight for tree in per_solution(trees)] == [1.0, 1.0]
    assert [len(tree.labels) for tree in per_solution(trees, labelings="merge")] == [2, 2]


def test_merged_labelings_are_the_mean_of_what_was_said() -> None:
    labelings = [chain(GOOD, BAD, None), chain(GOOD, NOT_BAD, None), chain(BAD, None, None)]
    (merged,) = per_solution(labelings, labelings="merge")
    assert merged.weight == 1.0
    assert merged.labels == ((1 / 3, 0.0, 2 / 3, 0.0), (0.5, 0.0, 0.0, 0.5), None)
    assert [node.parent for node in merged.tree.nodes] == [-1, 0, 1]


def test_merging_joins_branches_by_their_text() -> None:
    one = record_tree(record(rated(-1, 1, chosen=1), rated(1), phase=2, steps=("x",)))
    other = record_tree(record(rated(-1, 0, chosen=0), phase=2, steps=("x",)))
    (merged,) = per_solution([one, other], labelings="merge")
    assert [(node.text, node.parent) for node in merged.tree.nodes] == [
        ("0: -1", -1),
        ("1: 1", -1),
        ("0: 1", 1),
        ("1: 0", -1),
    ]


@st.composite
def trees(draw: st.DrawFn) -> LabeledTree:
    count = draw(st.integers(1, 8))
    nodes = tuple(StepNode(f"step {index}", draw(st.integers(-1, index - 1))) for index in range(count))
    labels = tuple(draw(st.sampled_from([GOOD, BAD, NEUTRAL, NOT_BAD, None])) for _ in nodes)
    return LabeledTree(SolutionTree("key", "problem", "Why?", nodes), labels)


@given(trees())
def test_merging_one_labeling_keeps_what_it_says(tree: LabeledTree) -> None:
    (merged,) = per_solution([tree], labelings="merge")
    assert merged.tree == tree.tree
    assert [label and mass_of(label) for label in merged.labels] == [label and mass_of(label) for label in tree.labels]
