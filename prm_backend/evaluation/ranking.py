"""Do bad steps have higher p(−) than others: AUROC, average precision and their curves, ties handled exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.bootstrap import Statistic, ratio
from prm_backend.evaluation.steps import Bools, Floats, JudgedSteps


class Ranking:
    """Steps sorted once by p(−), so that a figure under many weightings is a few running sums. A threshold takes steps
    with equal p(−) together."""

    def __init__(self, p_bad: Floats, is_bad: Bools) -> None:
        fine, bad = np.flatnonzero(~is_bad), np.flatnonzero(is_bad)
        fine, bad = (steps[np.argsort(p_bad[steps], kind="stable")] for steps in (fine, bad))
        self._order = np.concatenate([fine, bad])
        self._fine = len(fine)
        self._p_bad = p_bad
        # For each bad step: how many others lie below it and not above it, and how many bad ones below.
        self._below = np.searchsorted(p_bad[fine], p_bad[bad], side="left")
        self._upto = np.searchsorted(p_bad[fine], p_bad[bad], side="right")
        self._bad_below = np.searchsorted(p_bad[bad], p_bad[bad], side="left")

    def auroc(self, weights: Floats) -> Floats:
        """weights (samples, steps) -> AUROC (samples,), Mann-Whitney U with mid-ranks; NaN where a class has no
        weight."""
        return self._auroc(weights[:, self._order])

    def average_precision(self, weights: Floats) -> Floats:
        """weights (samples, steps) -> the precision at each threshold, weighted by the recall it adds, (samples,); NaN
        where a class has no weight."""
        return self._average_precision(weights[:, self._order])

    def statistics(self, steps: JudgedSteps) -> dict[str, Statistic]:
        problem, weight = steps.problem[self._order], steps.weight[self._order]
        return {
            "step_auroc": lambda draws: self._auroc(draws[:, problem] * weight),
            "average_precision": lambda draws: self._average_precision(draws[:, problem] * weight),
        }

    def _auroc(self, ordered: Floats) -> Floats:
        """`ordered` has the weights of other steps, then those of bad ones, p(−) rising in each."""
        fine, bad = _running(ordered[:, : self._fine]), ordered[:, self._fine :]
        in_order = (bad * (fine[:, self._below] + fine[:, self._upto])).sum(axis=1) / 2
        return ratio(in_order, bad.sum(axis=1) * fine[:, -1])

    def _average_precision(self, ordered: Floats) -> Floats:
        fine, bad = _running(ordered[:, : self._fine]), _running(ordered[:, self._fine :])
        found = bad[:, -1:] - bad[:, self._bad_below]
        alarms = fine[:, -1:] - fine[:, self._below]
        precision = np.divide(found, found + alarms, out=np.zeros_like(found), where=found > 0)
        average = ratio((ordered[:, self._fine :] * precision).sum(axis=1), bad[:, -1])
        average[fine[:, -1] == 0] = np.nan
        return average

    def curves(self, weight: Floats) -> tuple[Floats, Floats]:
        """(points, 2) of (false-positive rate, recall) and of (recall, precision), from the highest threshold down, the
        first of them beginning at (0, 0). Both classes must be there."""
        _, group = np.unique(-self._p_bad, return_inverse=True)
        is_bad = np.isin(np.arange(len(group)), self._order[self._fine :])
        found, alarms = (np.cumsum(np.bincount(group, weight * chosen)) for chosen in (is_bad, ~is_bad))
        roc = np.stack([np.append(0, alarms / alarms[-1]), np.append(0, found / found[-1])], axis=1)
        precision = np.divide(found, found + alarms, out=np.ones_like(found), where=found + alarms > 0)
        return roc, np.stack([found / found[-1], precision], axis=1)


def _running(weights: Floats) -> Floats:
    """(samples, steps) -> (samples, steps + 1): the weight before each step, and all of it."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def step_auroc(p_bad: Sequence[float], is_bad: Sequence[bool], weight: Sequence[float] | None = None) -> float:
    """The probability that a bad step has a higher p(−) than another one, ties counting half. Raises `NotEnoughData`
    where one of the two classes is missing."""
    ranking, weights = _ranking(p_bad, is_bad, weight)
    return _defined(ranking.auroc(weights), "step AUROC")


def average_precision(p_bad: Sequence[float], is_bad: Sequence[bool], weight: Sequence[float] | None = None) -> float:
    """The mean precision over the recall of bad steps, without interpolation; the share of bad steps for scores that
    know nothing. Raises `NotEnoughData` where one of the two classes is missing."""
    ranking, weights = _ranking(p_bad, is_bad, weight)
    return _defined(ranking.average_precision(weights), "average precision")


def _ranking(p_bad: Sequence[float], is_bad: Sequence[bool], weight: Sequence[float] | None) -> tuple[Ranking, Floats]:
    weights = np.ones(len(p_bad)) if weight is None else np.asarray(weight, float)
    return Ranking(np.asarray(p_bad, float), np.asarray(is_bad, bool)), weights[None, :]


def _defined(values: Floats, name: str) -> float:
    if np.isnan(values[0]):
        raise NotEnoughData(f"{name} needs bad steps and others")
    return float(values[0])
