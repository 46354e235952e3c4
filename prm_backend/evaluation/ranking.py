"""Do bad steps have higher p(−) than others: AUROC, average precision and their curves, ties handled exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.bootstrap import Statistic, ratio
from prm_backend.evaluation.steps import Bools, Floats, JudgedSteps


class Ranking:
    """Steps sorted once by p(−), so that a figure under many weightings is a few sums. Steps with equal p(−) form one
    group, which a threshold takes whole."""

    def __init__(self, p_bad: Floats, is_bad: Bools) -> None:
        self._order = np.argsort(p_bad, kind="stable")
        self._is_bad = is_bad[self._order]
        self._ties = np.flatnonzero(np.diff(p_bad[self._order], prepend=np.nan) != 0)

    def _groups(self, weights: Floats) -> tuple[Floats, Floats]:
        """weights (samples, steps) -> weight of bad steps and of others in each group, (samples, groups), p(−)
        rising."""
        if not self._order.size:
            return np.zeros((len(weights), 1)), np.zeros((len(weights), 1))
        ordered = weights[:, self._order]
        bad: Floats = np.add.reduceat(ordered * self._is_bad, self._ties, axis=1)
        fine: Floats = np.add.reduceat(ordered * ~self._is_bad, self._ties, axis=1)
        return bad, fine

    def auroc(self, weights: Floats) -> Floats:
        """weights (samples, steps) -> AUROC (samples,), Mann-Whitney U with mid-ranks; NaN where a class has no
        weight."""
        bad, fine = self._groups(weights)
        below = np.cumsum(fine, axis=1) - fine / 2
        return ratio((bad * below).sum(axis=1), bad.sum(axis=1) * fine.sum(axis=1))

    def average_precision(self, weights: Floats) -> Floats:
        """weights (samples, steps) -> the precision at each threshold, weighted by the recall it adds, (samples,); NaN
        where a class has no weight."""
        bad, fine = self._groups(weights)
        found, alarms = _from_above(bad), _from_above(bad + fine)
        precision = np.divide(found, alarms, out=np.zeros_like(found), where=alarms > 0)
        average = ratio((bad * precision).sum(axis=1), bad.sum(axis=1))
        average[fine.sum(axis=1) == 0] = np.nan
        return average

    def curves(self, weight: Floats) -> tuple[Floats, Floats]:
        """(points, 2) of (false-positive rate, recall) and of (recall, precision), from the highest threshold down, the
        first of them beginning at (0, 0)."""
        bad, fine = (_from_above(group)[0, ::-1] for group in self._groups(weight[None, :]))
        roc = np.stack([np.append(0, fine / fine[-1]), np.append(0, bad / bad[-1])], axis=1)
        precision = np.divide(bad, bad + fine, out=np.ones_like(bad), where=bad + fine > 0)
        return roc, np.stack([bad / bad[-1], precision], axis=1)

    def statistics(self, steps: JudgedSteps) -> dict[str, Statistic]:
        def spread(draws: Floats) -> Floats:
            return draws[:, steps.problem] * steps.weight

        return {
            "step_auroc": lambda draws: self.auroc(spread(draws)),
            "average_precision": lambda draws: self.average_precision(spread(draws)),
        }


def _from_above(groups: Floats) -> Floats:
    """Sums over each group and those with higher p(−)."""
    total: Floats = np.cumsum(groups[:, ::-1], axis=1)[:, ::-1]
    return total


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
