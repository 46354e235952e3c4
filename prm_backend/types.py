"""The words of the field as plain data. No numpy, no torch: a web process may import this."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

Phase = Literal[1, 2]
Split = Literal["train", "validation", "test"]
Reduction = Literal["product", "min", "mean", "sum", "last"]


class FinishReason(StrEnum):
    """Why a labeling ended; PRM800K's own values."""

    FOUND_ERROR = "found_error"
    SOLUTION = "solution"
    BAD_PROBLEM = "bad_problem"
    GIVE_UP = "give_up"


class StepLabel(StrEnum):
    """What is known of a step. `NOT_BAD` comes from sources that name only the first error: the steps before it are
    not wrong, but nobody said whether they are good or neutral."""

    BAD = "bad"
    NEUTRAL = "neutral"
    GOOD = "good"
    NOT_BAD = "not_bad"


LABEL_OF_RATING: dict[int, StepLabel] = {-1: StepLabel.BAD, 0: StepLabel.NEUTRAL, 1: StepLabel.GOOD}


@dataclass(frozen=True, slots=True)
class RatedCompletion:
    """One completion as a labeler left it: `rating` is -1, 0, 1 or None; `flagged` None where nobody could flag it."""

    text: str
    rating: int | None = None
    flagged: bool | None = None


@dataclass(frozen=True, slots=True)
class HumanCompletion:
    """A step written by the labeler (phase 1). `corrected_rating` stands in some rows of PRM800K only; `keys` keeps
    which keys stood in the row, in order, so that the same row can be written again."""

    text: str
    rating: int | None = None
    flagged: bool | None = False
    source: str = "human"
    corrected_rating: int | None = None
    keys: tuple[str, ...] = ("text", "rating", "source", "flagged")


@dataclass(frozen=True, slots=True)
class LabeledStep:
    """One entry of PRM800K's `label.steps`. `completions` is None for the pending last step of a given-up labeling."""

    completions: tuple[RatedCompletion, ...] | None
    human_completion: HumanCompletion | None = None
    chosen_completion: int | None = None


@dataclass(frozen=True, slots=True)
class LabelingRecord:
    """What one labeler said about one solution, with PRM800K's own fields. `timestamp` is kept as written (naive ISO),
    `total_time` is in milliseconds, `generation` is None in phase 1 and -1 in screening. `finish_reason` is None where
    a source of bare step labels stopped half way, or where only some steps were asked for and none was wrong: PRM800K
    has no word for either."""

    labeler: str
    timestamp: str
    generation: int | None
    is_quality_control_question: bool
    is_initial_screening_question: bool
    steps: tuple[LabeledStep, ...]
    total_time: int
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class AttachedImage:
    """An image of a problem; `content_type` is what its bytes say, whatever the file claimed."""

    name: str
    content_type: str
    data: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, slots=True)
class SolutionRecord:
    """One row of any supported file. `steps` is empty in phase 1, where the labeling's own steps are the solution, and
    for a bare problem, which has no solution yet. `alternatives` to each step and `critiques` of it are empty, or have
    one entry for each step.

    `step_labels` (one for each step, None = not judged) is filled by formats that carry bare step labels; `labeling` by
    PRM800K, which carries a whole labeling. `question_keys` keeps which optional PRM800K question keys stood in the
    row, in order, so that the same record can be written again.
    """

    line: int
    problem: str
    steps: tuple[str, ...]
    phase: Phase = 2
    external_id: str | None = None
    reference_answer: str | None = None
    reference_solution: str | None = None
    final_answer: str | None = None
    final_answer_correct: bool | None = None
    generator: str | None = None
    verifier_score: float | None = None
    step_labels: tuple[StepLabel | None, ...] | None = None
    labeling: LabelingRecord | None = None
    question_keys: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, ...], ...] = ()
    critiques: tuple[tuple[str, ...], ...] = ()
    attachments: tuple[AttachedImage, ...] = ()


@dataclass(frozen=True, slots=True)
class Solution:
    """What a PRM reads. `key` names the solution and `problem_key` its problem in the caller's world; splitting,
    bootstrapping and caps go by `problem_key`."""

    key: str
    problem_key: str
    problem: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepNode:
    """One step of a tree: `parent` is the index of the step that it follows, -1 for the problem."""

    text: str
    parent: int


@dataclass(frozen=True, slots=True)
class SolutionTree:
    """Steps of one problem that share their beginnings: a solution with alternatives, or several solutions. A step
    comes after the step that it follows."""

    key: str
    problem_key: str
    problem: str
    nodes: tuple[StepNode, ...]

    @classmethod
    def of(cls, solution: Solution) -> SolutionTree:
        """A plain solution: each step follows the one before."""
        nodes = tuple(StepNode(text, index - 1) for index, text in enumerate(solution.steps))
        return cls(solution.key, solution.problem_key, solution.problem, nodes)


@dataclass(frozen=True, slots=True)
class LabeledSolution:
    """A solution with one label for each step (None = not judged) and the weight of this labeling (n labelings of one
    solution weigh 1/n each)."""

    solution: Solution
    labels: tuple[StepLabel | None, ...]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.solution.steps):
            raise ValueError(f"{self.solution.key}: {len(self.labels)} labels for {len(self.solution.steps)} steps")


@dataclass(frozen=True, slots=True)
class StepScores:
    """Probabilities for each step of one solution: p(−), p(0), p(+), and the spread (standard deviation of p(−) over
    the heads of the ensemble; 0 with one head). `windowed_from` marks a solution longer than its model reads: from this
    step on, each was judged without some of the steps before it."""

    bad: tuple[float, ...]
    neutral: tuple[float, ...]
    good: tuple[float, ...]
    spread: tuple[float, ...]
    windowed_from: int | None = None

    def __len__(self) -> int:
        return len(self.bad)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long computation is: `done` of `total` units, and one line for a person."""

    done: float
    total: float
    note: str = ""


class ReportProgress(Protocol):
    """Called often by long computations; may raise `Cancelled` to stop them."""

    def __call__(self, progress: Progress, /) -> None: ...


def ignore_progress(_progress: Progress, /) -> None:
    """The default progress callback."""


def solution_score(scores: StepScores, how: Reduction = "product") -> float:
    """Reduce step scores to one number: each step counts as 1 − p(−), so neutral is correct ("Let's Verify Step by
    Step", arXiv 2305.20050, appendix F)."""
    ok = [1.0 - bad for bad in scores.bad]
    reductions: dict[Reduction, Callable[[Sequence[float]], float]] = {
        "product": math.prod,
        "min": min,
        "mean": lambda values: sum(values) / len(values),
        "sum": sum,
        "last": lambda values: values[-1],
    }
    return float(reductions[how](ok))


def normalized_problem_text(text: str) -> str:
    """The text whose hash decides a problem's split: NFKC, case folded, runs of white space as one blank."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def problem_key(text: str) -> str:
    """32 hex digits that are the same for the same problem in every campaign and file."""
    return hashlib.sha256(normalized_problem_text(text).encode()).hexdigest()[:32]


def split_of_problem(text: str) -> Split:
    """80 % train, 10 % validation, 10 % test, by a hash of the normalised problem text."""
    bucket = int(problem_key(text)[:8], 16) / 2**32
    return "train" if bucket < 0.8 else "validation" if bucket < 0.9 else "test"
