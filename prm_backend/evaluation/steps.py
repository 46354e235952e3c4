"""Judged steps as arrays, and what every figure asks of scores before it counts them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prm_backend.errors import PrmError
from prm_backend.types import LabeledSolution, StepLabel, StepScores

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Scored = tuple[LabeledSolution, StepScores]

CLASSES = (StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.GOOD)  # p(−), p(0), p(+)
ROUNDING = 1e-5  # how far a softmax in half precision may leave [0, 1]


class JudgedSteps(NamedTuple):
    """Every judged step of many labelings: arrays of the same length. `problem` numbers the problems from 0."""

    p_bad: Floats
    is_bad: Bools
    weight: Floats
    problem: Ints


def judged_steps(scored: Sequence[Scored], numbers: Mapping[str, int] | None = None) -> JudgedSteps:
    """`numbers` gives each problem key its number; without it, problems are numbered as they come."""
    found: dict[str, int] = {}
    rows = [
        (
            p_bad,
            label is StepLabel.BAD,
            labeled.weight,
            numbers[labeled.solution.problem_key]
            if numbers is not None
            else found.setdefault(labeled.solution.problem_key, len(found)),
        )
        for labeled, scores in scored
        for label, p_bad in zip(labeled.labels, checked(labeled, scores).bad, strict=True)
        if label is not None
    ]
    p_bad, is_bad, weight, problem = zip(*rows, strict=True) if rows else ((), (), (), ())
    return JudgedSteps(
        np.array(p_bad, float), np.array(is_bad, bool), np.array(weight, float), np.array(problem, np.int64)
    )


def probabilities(scored: Sequence[Scored]) -> tuple[Floats, list[StepLabel], Floats]:
    """Of every judged step: p(−), p(0), p(+) (steps, 3), its label and its weight."""
    rows = [
        (p, label, labeled.weight)
        for labeled, scores in scored
        for label, p in zip(labeled.labels, triples(checked(labeled, scores)), strict=True)
        if label is not None
    ]
    p = np.array([row[0] for row in rows], float).reshape(-1, len(CLASSES))
    return p, [row[1] for row in rows], np.array([row[2] for row in rows], float)


def triples(scores: StepScores) -> Iterator[tuple[float, float, float]]:
    return zip(scores.bad, scores.neutral, scores.good, strict=True)


def checked(labeled: LabeledSolution, scores: StepScores) -> StepScores:
    """The scores, if they belong to these labels and are probabilities. Raises `ValueError` for another number of
    steps, `PrmError` for a value outside [0, 1] or not a number; both name the solution."""
    key = labeled.solution.key
    if len(scores) != len(labeled.labels):
        raise ValueError(f"{key}: {len(scores)} scores for {len(labeled.labels)} steps")
    check_probabilities(key, scores)
    return scores


def check_probabilities(key: str, scores: StepScores) -> None:
    """Raises `PrmError` naming the solution and the step."""
    if all(map(_within, (scores.bad, scores.neutral, scores.good))):
        return
    for index, p in enumerate(triples(scores)):
        if not _within(p):
            raise PrmError(f"solution {key}, step {index + 1}: p(−), p(0), p(+) = {p} are not probabilities")


def _within(p: Sequence[float]) -> bool:
    # The sum, because min and max may pass NaN over.
    return not p or (math.isfinite(sum(p)) and min(p) >= -ROUNDING and max(p) <= 1 + ROUNDING)


def is_judged(labeled: LabeledSolution) -> bool:
    return any(label is not None for label in labeled.labels)


def problem_numbers(scored: Iterable[Scored]) -> dict[str, int]:
    """Problem keys numbered from 0, whatever the order in which their solutions come."""
    return {key: number for number, key in enumerate(sorted({item.solution.problem_key for item, _ in scored}))}


def folds_of(problem_keys: Iterable[str], folds: int) -> dict[str, int]:
    """A fold for each problem, all of equal size but for one: by a hash, so that neither the order of the data nor what
    the keys are named after matters. Raises `ValueError` for fewer than two folds."""
    if folds < 2:
        raise ValueError(f"cross-fitting needs at least 2 folds, not {folds}")
    ranked = sorted(set(problem_keys), key=lambda key: hashlib.sha256(key.encode()).digest())
    return {key: number % folds for number, key in enumerate(ranked)}
