"""Labeled solutions as trees, in which every rated completion carries a loss at its own read position.

The path that a labeling followed is the trunk; a completion that was rated but not followed is a branch of one step.
What stands before a branch is in the tree once, so its tokens are computed once. Steps that nobody rated, and steps
that a labeler wrote, are read by the steps behind them and carry no loss.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from prm_backend.types import (
    LABEL_OF_RATING,
    LabeledSolution,
    LabeledStep,
    SolutionRecord,
    SolutionTree,
    StepLabel,
    StepNode,
    problem_key,
)

Labelings = Literal["keep", "merge"]
Mass = tuple[float, float, float, float]
# Shares of −, 0, + and, where a fourth stands, of "not bad": 0 or +, nobody said which.
SoftLabel = tuple[float, float, float] | Mass
MASS_OF_LABEL: dict[StepLabel, Mass] = {
    StepLabel.BAD: (1.0, 0.0, 0.0, 0.0),
    StepLabel.NEUTRAL: (0.0, 1.0, 0.0, 0.0),
    StepLabel.GOOD: (0.0, 0.0, 1.0, 0.0),
    StepLabel.NOT_BAD: (0.0, 0.0, 0.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class LabeledTree:
    """One labeling of a solution: a label for each node (None: no loss), hard or soft, and the weight of the labeling.
    The weight multiplies the loss of each of its steps. `steps` are those of the solution as it was given, () where the
    labeling made it. Raises `ValueError` where they do not fit together."""

    tree: SolutionTree
    labels: tuple[StepLabel | SoftLabel | None, ...]
    weight: float = 1.0
    steps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        key = self.tree.key
        if len(self.labels) != len(self.tree.nodes):
            raise ValueError(f"{key}: {len(self.labels)} labels for {len(self.tree.nodes)} steps")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"{key}: weight {self.weight} is not a positive number")
        for index, (node, label) in enumerate(zip(self.tree.nodes, self.labels, strict=True)):
            if not -1 <= node.parent < index:
                raise ValueError(f"{key}: step {index} follows step {node.parent}, which does not come before it")
            if isinstance(label, tuple) and not _is_distribution(label):
                raise ValueError(f"{key}: step {index} has the soft label {label}: not shares that add up to 1")


def _is_distribution(label: SoftLabel) -> bool:
    whole = math.isclose(sum(label), 1.0, abs_tol=1e-4)
    return len(label) in (3, 4) and whole and all(share >= 0 for share in label)


def mass_of(label: StepLabel | SoftLabel) -> Mass:
    """Shares of −, 0, + and "not bad"."""
    if isinstance(label, StepLabel):
        return MASS_OF_LABEL[label]
    return label if len(label) == 4 else (*label, 0.0)


def solution_tree(labeled: LabeledSolution) -> LabeledTree:
    """A plain labeled solution: a chain."""
    return LabeledTree(SolutionTree.of(labeled.solution), labeled.labels, labeled.weight, labeled.solution.steps)


def record_tree(record: SolutionRecord) -> LabeledTree:
    """One row of a file. A PRM800K row gives a branch for each completion at each step of its labeling, up to where the
    labeling stopped; a row of bare step labels gives a chain.

    The key is the row's own id, or else a hash of problem and solution: labelings of one solution share it. In phase 1
    the labeling made the solution, so each is one of its own.
    """
    nodes: list[StepNode] = []
    labels: list[StepLabel | SoftLabel | None] = []
    if record.labeling is None:
        nodes = [StepNode(text, index - 1) for index, text in enumerate(record.steps)]
        labels = list(record.step_labels or [None] * len(nodes))
    else:
        parent: int | None = -1
        for step in record.labeling.steps:
            if parent is None:
                break
            parent = _grow(nodes, labels, step, parent, phase_2=record.phase == 2)
    texts = record.steps or tuple(node.text for node in nodes)
    content = json.dumps([record.problem, *texts]).encode()
    key = record.external_id or hashlib.sha256(content).hexdigest()[:32]
    tree = SolutionTree(key, problem_key(record.problem), record.problem, tuple(nodes))
    return LabeledTree(tree, tuple(labels), steps=record.steps)


def _grow(
    nodes: list[StepNode],
    labels: list[StepLabel | SoftLabel | None],
    step: LabeledStep,
    parent: int,
    *,
    phase_2: bool,
) -> int | None:
    """Add the completions of one step behind `parent`; returns the node that the labeling went on from."""
    first = len(nodes)
    for completion in step.completions or ():
        nodes.append(StepNode(completion.text, parent))
        labels.append(None if completion.rating is None else LABEL_OF_RATING[completion.rating])
    if step.chosen_completion is not None:
        return first + step.chosen_completion
    if step.human_completion is not None:
        nodes.append(StepNode(step.human_completion.text, parent))
        labels.append(None)
        return len(nodes) - 1
    # In phase 2 nothing is chosen at an error; the solution's own step stands first, and goes on where people do.
    return first if phase_2 and step.completions else None


def per_solution(trees: Iterable[LabeledTree], *, labelings: Labelings = "keep") -> list[LabeledTree]:
    """Labelings whose weights add up to 1 for each solution, however many people labeled it: "keep" each with its share
    of the weight, or "merge" them into one tree with soft labels, the mean of what was said of each step. A step that
    only some of them rated counts with their share when kept, and fully when merged.

    A solution is a key with a problem and steps: files of different origin number their rows alike.
    """
    groups: dict[tuple[str, str, tuple[str, ...]], list[LabeledTree]] = {}
    for labeled in trees:
        groups.setdefault((labeled.tree.key, labeled.tree.problem_key, labeled.steps), []).append(labeled)
    if labelings == "merge":
        return [_merged(group) for group in groups.values()]
    return [
        replace(labeled, weight=labeled.weight / sum(other.weight for other in group))
        for group in groups.values()
        for labeled in group
    ]


def _merged(group: Sequence[LabeledTree]) -> LabeledTree:
    nodes: list[StepNode] = []
    votes: list[list[float]] = []
    number: dict[tuple[int, str], int] = {}
    for labeled in group:
        merged = {-1: -1}
        for index, (node, label) in enumerate(zip(labeled.tree.nodes, labeled.labels, strict=True)):
            parent = merged[node.parent]
            merged[index] = here = number.setdefault((parent, node.text), len(nodes))
            if here == len(nodes):
                nodes.append(StepNode(node.text, parent))
                votes.append([0.0] * 4)
            if label is not None:
                shares = zip(votes[here], mass_of(label), strict=True)
                votes[here] = [sum_ + labeled.weight * share for sum_, share in shares]
    labels = tuple(_mean(vote) if sum(vote) else None for vote in votes)
    return replace(group[0], tree=replace(group[0].tree, nodes=tuple(nodes)), labels=labels, weight=1.0)


def _mean(vote: Sequence[float]) -> Mass:
    bad, neutral, good, not_bad = (share / sum(vote) for share in vote)
    return (bad, neutral, good, not_bad)
