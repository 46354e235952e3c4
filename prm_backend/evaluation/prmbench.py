"""PRMBench (arXiv 2501.03124): which steps are wrong, over every step of a solution with injected errors.

PRMScore = 0.5 · F1(correct steps) + 0.5 · F1(error steps), over the pooled steps of all error classes. A step is called
an error where p(−) >= threshold. In the classes "redundency" (the benchmark's spelling) and "circular" the errors are
superfluous steps, which a PRM of three classes calls neutral: with a redundancy threshold, p(0) decides there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.evaluation.bootstrap import Statistic, of_sums, ratio
from prm_backend.evaluation.steps import Floats, Ints, Scored, checked
from prm_backend.types import StepLabel

REDUNDANCY_CLASSES = frozenset({"redundency", "redundancy", "circular"})
VALIDITY_THRESHOLD = 0.5  # the benchmark's defaults
REDUNDANCY_THRESHOLD = 0.15
ALL = ""  # the class of solutions that come without one


class ClassScore(NamedTuple):
    """None where an F1 is not defined: no such step is there, and none is predicted."""

    prm_score: float | None
    f1_correct: float | None
    f1_error: float | None


@dataclass(frozen=True, slots=True)
class PrmScore:
    """`overall` pools the steps of all classes. `threshold` is for p(−), `redundancy_threshold` for p(0) in
    `REDUNDANCY_CLASSES`, None where p(−) decides there as well."""

    overall: ClassScore
    classes: dict[str, ClassScore]
    threshold: float
    redundancy_threshold: float | None


def labels_of_error_steps(error_steps: Sequence[int], steps: int) -> tuple[StepLabel, ...]:
    """The benchmark's `error_steps`, counted from 1, as labels. Raises `PrmError` for a step that is not there."""
    outside = [step for step in error_steps if not 1 <= step <= steps]
    if outside:
        raise PrmError(f"error_steps has {outside[0]}, but there are {steps} steps, counted from 1")
    wrong = set(error_steps)
    return tuple(StepLabel.BAD if step in wrong else StepLabel.NOT_BAD for step in range(1, steps + 1))


def prm_score(
    scored: Sequence[Scored],
    *,
    class_of: Mapping[str, str] | None = None,
    threshold: float = VALIDITY_THRESHOLD,
    redundancy_threshold: float | None = None,
) -> PrmScore:
    """`class_of` maps solution keys to error classes. Raises `NotEnoughData` where not one step is judged."""
    table, classes, _ = _table(scored, class_of or {}, threshold, redundancy_threshold)
    if not len(table):
        raise NotEnoughData("not one step is judged")
    chosen = {name: np.array([here == name for here in classes], bool) for name in sorted(set(classes))}
    return PrmScore(
        overall=_class_score(table.sum(axis=0)),
        classes={name: _class_score(table[rows].sum(axis=0)) for name, rows in chosen.items()},
        threshold=threshold,
        redundancy_threshold=redundancy_threshold,
    )


def prm_score_statistic(
    scored: Sequence[Scored],
    numbers: Mapping[str, int],
    *,
    class_of: Mapping[str, str],
    threshold: float,
    redundancy_threshold: float | None,
) -> Statistic:
    table, _, keys = _table(scored, class_of, threshold, redundancy_threshold)
    problem: Ints = np.array([numbers[key] for key in keys], np.int64)
    return of_sums(table, problem, len(numbers), lambda sums: np.mean(_two_f1(sums), axis=0))


def _table(
    scored: Sequence[Scored], class_of: Mapping[str, str], threshold: float, redundancy_threshold: float | None
) -> tuple[Floats, list[str], list[str]]:
    """For each judged step its weight in one of four columns (correct and passed, correct and called wrong, wrong and
    passed, wrong and called wrong), its class, and its problem key."""
    rows: list[tuple[int, float]] = []
    classes: list[str] = []
    keys: list[str] = []
    for labeled, scores in scored:
        name = class_of.get(labeled.solution.key, ALL)
        redundancy = redundancy_threshold is not None and name in REDUNDANCY_CLASSES
        p, bound = (scores.neutral, redundancy_threshold) if redundancy else (scores.bad, threshold)
        checked(labeled, scores)
        for label, value in zip(labeled.labels, p, strict=True):
            if label is not None:
                rows.append((2 * (label is StepLabel.BAD) + (value >= (bound or 0.0)), labeled.weight))
                classes.append(name)
                keys.append(labeled.solution.problem_key)
    table = np.zeros((len(rows), 4))
    for row, (column, weight) in zip(table, rows, strict=True):
        row[column] = weight
    return table, classes, keys


def _two_f1(sums: Floats) -> tuple[Floats, Floats]:
    """(samples, 4) -> F1 of correct steps and F1 of error steps, (samples,) each."""
    passed, alarm, missed, found = sums.T
    return ratio(2 * passed, 2 * passed + alarm + missed), ratio(2 * found, 2 * found + alarm + missed)


def _class_score(sums: Floats) -> ClassScore:
    correct, error = (None if np.isnan(f1[0]) else float(f1[0]) for f1 in _two_f1(sums[None, :]))
    return ClassScore(None if correct is None or error is None else (correct + error) / 2, correct, error)
