"""What a model reads at a time of a solution or a tree: the whole, windows of whole steps, or groups of paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from prm_backend import prefix
from prm_backend.batching import Encoded
from prm_backend.encoding import SolutionTooLong
from prm_backend.errors import PrmError
from prm_backend.stepmodel import StepModel
from prm_backend.types import Solution, SolutionTree

TooLong = Literal["error", "window"]


class StepReader(Protocol):
    """A PRM with its tokenizer. `encode` raises `SolutionTooLong`."""

    @property
    def model(self) -> StepModel: ...

    def encode(self, item: Solution | SolutionTree, /) -> Encoded: ...


@dataclass(frozen=True, slots=True)
class Excerpt(Solution):
    """Consecutive steps of a solution. `first_step` is the number of the first of them, from 1, for readers that number
    steps; others read it like any solution."""

    first_step: int = 1


@dataclass(frozen=True, slots=True)
class Passage:
    """One sequence to read. `steps` are the steps of the whole that it holds, in its own order; the first `context` of
    them are only read here, and judged in another passage."""

    encoded: Encoded
    steps: tuple[int, ...]
    context: int = 0


def passages_of(reader: StepReader, item: Solution | SolutionTree, *, too_long: TooLong) -> list[Passage]:
    """Raises `SolutionTooLong`."""
    if isinstance(item, SolutionTree):
        return tree_passages(reader, item)
    try:
        encoded = reader.encode(item)
    except SolutionTooLong:
        if too_long == "error" or not item.steps:
            raise
        return windows(reader, item)
    return [Passage(encoded, tuple(range(len(item.steps))))]


def windows(reader: StepReader, solution: Solution) -> list[Passage]:
    """A solution that does not fit, in windows of the problem and as many consecutive steps as fit. Each window after
    the first begins with the last steps that were judged before, as context: at most half of that window's steps, and
    fewer where the next step needs the room. A step is never cut.

    Raises `SolutionTooLong` where a step does not fit even alone.
    """
    passages: list[Passage] = []
    first = judged = 0
    while judged < len(solution.steps):
        window = longest_window(reader, solution, first)
        if window is not None and first + len(window.parents) > judged:
            end = first + len(window.parents)
            passages.append(Passage(window, tuple(range(first, end)), context=judged - first))
            first, judged = end - len(window.parents) // 2, end
        elif first < judged:
            first += 1
        else:
            raise SolutionTooLong(
                f"solution {solution.key}: step {judged + 1} and the problem are longer than this model reads"
            )
    return passages


def longest_window(reader: StepReader, solution: Solution, first: int) -> Encoded | None:
    """The most steps from `first` on that fit, None where not even one does."""
    best, fits, fails = None, 0, len(solution.steps) - first + 1
    while fails - fits > 1:
        tried = (fits + fails) // 2
        try:
            best = reader.encode(excerpt(solution, first, tried))
            fits = tried
        except SolutionTooLong:
            fails = tried
    return best


def excerpt(solution: Solution, first: int, count: int) -> Excerpt:
    steps = solution.steps[first : first + count]
    return Excerpt(solution.key, solution.problem_key, solution.problem, steps, first_step=first + 1)


def tree_passages(reader: StepReader, tree: SolutionTree) -> list[Passage]:
    """Groups of paths, as large as sharing what they have in common pays. Single paths where the tokens of a step are
    not the same on all of them, so that the tree cannot be encoded as one; and where the model judges a step by later
    ones too, or obeys no mask, the way to each step, for that step alone."""
    parents = [node.parent for node in tree.nodes]
    if not reader.model.reads_trees:
        ways = prefix.ways(parents)
        return [Passage(reader.encode(prefix.solution_of(tree, way)), way, context=len(way) - 1) for way in ways]
    try:
        encoded = reader.encode(tree)
    except PrmError:  # whatever else is wrong is wrong with a path, too, and said again
        paths = prefix.paths(parents)
        return [Passage(reader.encode(prefix.solution_of(tree, path)), path) for path in paths]
    groups = prefix.parts(encoded, hidden_size=reader.model.hidden_size)
    return [Passage(prefix.part(encoded, steps), steps) for steps in groups]


def windowed_from(passages: Sequence[Passage]) -> int | None:
    """The first step of a solution that was judged without some of the steps before it."""
    return passages[1].steps[passages[1].context] if len(passages) > 1 else None
