"""Do probabilities mean what they say: reliability, ECE, Brier score, and recalibration.

Class weights in training shift the logits of single classes against each other, which one temperature cannot undo. So
recalibration scales and shifts each class's log-probability (vector scaling, arXiv 1706.04599 §4.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.bootstrap import Statistic, of_sums, ratio
from prm_backend.evaluation.steps import (
    CLASSES,
    Bools,
    Floats,
    Ints,
    JudgedSteps,
    Scored,
    checked,
    folds_of,
    judged_steps,
    probabilities,
    triples,
)
from prm_backend.types import StepLabel, StepScores

Bins = Literal["equal width", "equal mass"]

EQUAL_WIDTH: Bins = "equal width"
EQUAL_MASS: Bins = "equal mass"
BINS = 10
FOLDS = 5
LEAST_P = 1e-6  # log-probabilities below this say no more
RIDGE = 1.0  # pull of scale to 1 and offset to 0, in steps
ITERATIONS = 100
TOLERANCE = 1e-4  # of the log-likelihood


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Steps whose p(−) is alike: their weight, the mean p(−), and the share that is bad. `lower` and `upper` are the
    smallest and largest p(−) in it."""

    lower: float
    upper: float
    weight: float
    mean_p_bad: float
    bad_share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration error of p(−) over ten bins of equal width and of equal mass, the Brier score, and the
    equal-width bins that are not empty."""

    ece: float
    ece_equal_mass: float
    brier: float
    table: tuple[ReliabilityBin, ...]


def calibration(scored: Sequence[Scored]) -> Calibration:
    """Raises `NotEnoughData` where not one step is judged."""
    steps = judged_steps(scored)
    if not steps.p_bad.size:
        raise NotEnoughData("not one step is judged")
    arrays = steps.p_bad, steps.is_bad, steps.weight
    table = reliability(*arrays, bins=EQUAL_WIDTH)
    return Calibration(
        ece=expected_error(table),
        ece_equal_mass=expected_error(reliability(*arrays, bins=EQUAL_MASS)),
        brier=float(np.average((steps.p_bad - steps.is_bad) ** 2, weights=steps.weight)),
        table=table,
    )


def reliability(p_bad: Floats, is_bad: Bools, weight: Floats, *, bins: Bins) -> tuple[ReliabilityBin, ...]:
    """The bins that are not empty, p(−) rising."""
    number = _bin_of(p_bad, weight, bins)
    found = []
    for index in np.unique(number):
        here = number == index
        mass = float(weight[here].sum())
        found.append(
            ReliabilityBin(
                lower=float(p_bad[here].min()),
                upper=float(p_bad[here].max()),
                weight=mass,
                mean_p_bad=float(p_bad[here] @ weight[here]) / mass,
                bad_share=float(is_bad[here] @ weight[here]) / mass,
            )
        )
    return tuple(found)


def _bin_of(p_bad: Floats, weight: Floats, bins: Bins) -> Ints:
    """The bin of each step, from 0. Equal scores share one, so that the order of the steps does not matter."""
    position = p_bad
    if bins == EQUAL_MASS:
        _, group = np.unique(p_bad, return_inverse=True)
        mass = np.bincount(group, weight)
        position = ((np.cumsum(mass) - mass / 2) / mass.sum())[group]
    return np.clip((position * BINS).astype(np.int64), 0, BINS - 1)


def expected_error(table: Sequence[ReliabilityBin]) -> float:
    total = sum(row.weight for row in table)
    return sum(row.weight * abs(row.mean_p_bad - row.bad_share) for row in table) / total


def calibration_statistics(steps: JudgedSteps, problems: int) -> dict[str, Statistic]:
    """Both calibration errors, over the bins of the data as measured, and the Brier score."""
    gap = steps.weight * (steps.p_bad - steps.is_bad)
    squared = steps.weight * (steps.p_bad - steps.is_bad) ** 2

    def statistic(per_bin: Floats) -> Statistic:
        rows = np.column_stack([steps.weight, per_bin])
        return of_sums(rows, steps.problem, problems, lambda sums: ratio(np.abs(sums[:, 1:]).sum(axis=1), sums[:, 0]))

    def binned(bins: Bins) -> Floats:
        rows = np.zeros((len(gap), BINS))
        rows[np.arange(len(gap)), _bin_of(steps.p_bad, steps.weight, bins)] = gap
        return rows

    return {
        "ece": statistic(binned(EQUAL_WIDTH)),
        "ece_equal_mass": statistic(binned(EQUAL_MASS)),
        "brier": statistic(squared[:, None]),
    }


# --- Recalibration --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VectorScaling:
    """p′ = softmax(scale · log p + offset), scale and offset for each of −, 0, +."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    @classmethod
    def fit(cls, scored: Sequence[Scored]) -> VectorScaling:
        """Maximise the likelihood of the judged steps, a `NOT_BAD` one being 0 or +, with a weak pull to no change.
        Raises `NotEnoughData` where one of bad and not bad is missing."""
        p, labels, weight = probabilities(scored)
        allowed = np.array([_allowed(label) for label in labels], float).reshape(-1, len(CLASSES))
        if not 0 < allowed[:, 0].sum() < len(allowed):
            raise NotEnoughData("recalibration needs bad steps and others")
        theta = _fit(_logs(p), allowed, weight)
        return cls(tuple(theta[:3].tolist()), tuple(theta[3:].tolist()))

    def apply(self, scores: StepScores) -> StepScores:
        """The spread stays that of the heads as they are."""
        p = _softmax(_logs(np.array(list(triples(scores)), float).reshape(-1, 3)) * self.scale + np.array(self.offset))
        bad, neutral, good = (tuple(column.tolist()) for column in p.T)
        return replace(scores, bad=bad, neutral=neutral, good=good)


def _allowed(label: StepLabel) -> list[bool]:
    """Which of −, 0, + the label may stand for."""
    if label is StepLabel.NOT_BAD:
        return [False, True, True]
    return [label is known for known in CLASSES]


def _logs(p: Floats) -> Floats:
    logs: Floats = np.log(np.clip(p, LEAST_P, 1.0))
    return logs


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    p: Floats = powers / powers.sum(axis=1, keepdims=True)
    return p


def _fit(logs: Floats, allowed: Floats, weight: Floats) -> Floats:
    """Newton's method with the curvature of the complete data (a bound on the true one, so each step climbs) and
    halving; returns scales, then offsets, (6,)."""
    start = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

    def loss_of(theta: Floats) -> float:
        p = _softmax(logs * theta[:3] + theta[3:])
        likelihood = np.log(np.maximum((p * allowed).sum(axis=1), 1e-300))
        return float(-weight @ likelihood + RIDGE / 2 * ((theta - start) ** 2).sum())

    theta, loss = start, loss_of(start)
    for _ in range(ITERATIONS):
        p = _softmax(logs * theta[:3] + theta[3:])
        meant = p * allowed
        meant /= np.maximum(meant.sum(axis=1, keepdims=True), 1e-300)
        error = (p - meant) * weight[:, None]
        gradient = np.concatenate([(error * logs).sum(axis=0), error.sum(axis=0)]) + RIDGE * (theta - start)
        step = np.linalg.solve(_curvature(logs, p, weight) + RIDGE * np.eye(6), gradient)
        size = 1.0
        while size > 1e-6 and loss_of(theta - size * step) > loss:
            size /= 2
        theta, before = theta - size * step, loss
        loss = loss_of(theta)
        if before - loss < TOLERANCE:
            break
    return theta


def _curvature(logs: Floats, p: Floats, weight: Floats) -> Floats:
    """Second derivatives of the multinomial log-loss by scales and offsets, (6, 6)."""
    mean = np.hstack([p * logs, p])
    square, cross, plain = (np.diag(weight @ (p * power)) for power in (logs**2, logs, np.ones_like(logs)))
    curvature: Floats = np.block([[square, cross], [cross, plain]]) - mean.T @ (mean * weight[:, None])
    return curvature


def recalibrated(scored: Sequence[Scored], folds: int | Mapping[str, int] = FOLDS) -> list[Scored]:
    """The same solutions, each with scores recalibrated on the problems of the other folds: what recalibration is worth
    on problems that it has not seen. Raises `NotEnoughData` where the other folds of one lack bad steps or others."""
    keys = {labeled.solution.problem_key for labeled, _ in scored}
    fold_of = folds_of(keys, folds) if isinstance(folds, int) else folds
    fitted = {
        fold: VectorScaling.fit([row for row in scored if fold_of[row[0].solution.problem_key] != fold])
        for fold in {fold_of[key] for key in keys}
    }
    return [
        (labeled, fitted[fold_of[labeled.solution.problem_key]].apply(checked(labeled, scores)))
        for labeled, scores in scored
    ]
