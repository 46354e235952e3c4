"""ProcessBench (arXiv 2412.06559): is the first wrong step found?

A solution's first step with p(−) at or above a threshold is the predicted first error; no such step predicts that there
is none. F1 is the harmonic mean of the accuracy on solutions with an error and on those without, for each subset; the
benchmark's figure is the plain mean over its subsets. The threshold moves F1 more than the PRM does, so no F1 goes
without the source of its threshold. Solutions that were not judged up to their first error do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.bootstrap import Statistic, harmonic_mean, of_sums, ratio
from prm_backend.evaluation.steps import Bools, Floats, Ints, Scored, checked, folds_of
from prm_backend.types import StepLabel, StepScores

Thresholds = float | Mapping[str, float]  # one for all, or by problem key
FOLDS = 5


class F1(NamedTuple):
    """ProcessBench's harmonic mean of two accuracies: first errors found exactly, and no alarm on right solutions."""

    f1: float
    error_accuracy: float
    correct_accuracy: float


class FirstErrorAccuracy(NamedTuple):
    """Over solutions with an error: the share whose predicted first error is the very step, and is it or a neighbour.
    `overall` is over every solution, where predicting no error in a right one counts too."""

    exact: float | None
    within_one: float | None
    overall: float | None


class ThresholdSource(StrEnum):
    """`GSM8K` is the paper's: the best threshold on the subset `gsm8k`, which flatters that subset. `CROSS_FITTED`
    gives each problem a threshold chosen on others."""

    FIXED = "fixed 0.5"
    GSM8K = "gsm8k subset"
    VALIDATION = "validation"
    TRAINING = "training"
    CROSS_FITTED = "cross-fitted"


@dataclass(frozen=True, slots=True)
class Threshold:
    value: Thresholds
    source: ThresholdSource


@dataclass(frozen=True, slots=True)
class ProcessBench:
    """F1 by subset, None where a subset has no solution with an error, or none without; `average` is the mean over
    those that have both."""

    threshold: Threshold
    subsets: dict[str, F1 | None]
    average: float | None


def first_error(scores: StepScores, threshold: float) -> int:
    """The index of the first step with p(−) >= threshold; -1 where there is none."""
    return next((index for index, p_bad in enumerate(scores.bad) if p_bad >= threshold), -1)


# --- Cases ----------------------------------------------------------------------------------------------------------


class Cases(NamedTuple):
    """One entry for each solution that was judged up to its first error. The prediction is right at exactly those
    thresholds t with above < t <= upto."""

    above: Floats
    upto: Floats
    wrong: Bools
    weight: Floats

    def only(self, chosen: Bools) -> Cases:
        return Cases(self.above[chosen], self.upto[chosen], self.wrong[chosen], self.weight[chosen])


def judged_cases(scored: Sequence[Scored]) -> list[Scored]:
    """The solutions that were judged up to their first error, or to their end."""
    return [row for row in scored if row[0].labels and None not in row[0].labels[: error_index(row)]]


def error_index(row: Scored) -> int | None:
    labels = row[0].labels
    return labels.index(StepLabel.BAD) if StepLabel.BAD in labels else None


def _cases(judged: Sequence[Scored]) -> Cases:
    rows = []
    for row in judged:
        p_bad, bad_at = checked(*row).bad, error_index(row)
        rows.append((max(p_bad[:bad_at], default=-np.inf), np.inf if bad_at is None else p_bad[bad_at]))
    above, upto = np.array(rows, float).reshape(-1, 2).T
    wrong = np.array([error_index(row) is not None for row in judged], bool)
    return Cases(above, upto, wrong, np.array([labeled.weight for labeled, _ in judged], float))


def _both_kinds(scored: Sequence[Scored]) -> list[Scored]:
    judged = judged_cases(scored)
    if len({error_index(row) is None for row in judged}) < 2:
        raise NotEnoughData("ProcessBench F1 needs solutions with an error and without, judged up to the first error")
    return judged


def threshold_of(threshold: Thresholds, problem_key: str) -> float:
    """Raises `ValueError` for a problem without one."""
    if not isinstance(threshold, Mapping):
        return threshold
    if problem_key not in threshold:
        raise ValueError(f"no threshold for the problem {problem_key}")
    return threshold[problem_key]


# --- Figures --------------------------------------------------------------------------------------------------------


def processbench_f1(scored: Sequence[Scored], threshold: Thresholds) -> F1:
    """F1 at a threshold, or at thresholds by problem key, over the solutions that were judged up to their first error.
    Raises `NotEnoughData` where there are none with an error, or none without."""
    judged = _both_kinds(scored)
    cases = _cases(judged)
    at = np.array([threshold_of(threshold, labeled.solution.problem_key) for labeled, _ in judged])
    hit = (cases.above < at) & (at <= cases.upto)
    accuracies = [np.average(hit[chosen], weights=cases.weight[chosen]) for chosen in (cases.wrong, ~cases.wrong)]
    error, correct = np.array(accuracies)[:, None]
    return F1(float(harmonic_mean(error, correct)[0]), float(error[0]), float(correct[0]))


def processbench(subsets: Mapping[str, Sequence[Scored]], threshold: Threshold) -> ProcessBench:
    """The benchmark's protocol over its subsets, at a threshold whose source is named."""
    found: dict[str, F1 | None] = {}
    for name, scored in subsets.items():
        try:
            found[name] = processbench_f1(scored, threshold.value)
        except NotEnoughData:
            found[name] = None
    defined = [f1.f1 for f1 in found.values() if f1 is not None]
    return ProcessBench(threshold, found, float(np.mean(defined)) if defined else None)


def first_error_accuracy(scored: Sequence[Scored], threshold: Thresholds) -> FirstErrorAccuracy:
    """None where nothing is there to be measured."""
    judged = judged_cases(scored)
    rows = _first_error_rows(judged, threshold)
    totals = rows.sum(axis=0)[None, :]
    figures = (figure(totals)[0] for figure in FIRST_ERROR_FIGURES.values())
    return FirstErrorAccuracy(*(None if np.isnan(value) else float(value) for value in figures))


def _first_error_rows(judged: Sequence[Scored], threshold: Thresholds) -> Floats:
    """(cases, 6): weight of the case if it has an error, is found exactly, is found within one step; weight if it has
    none, is rightly passed; and the weight."""
    rows = np.zeros((len(judged), 6))
    for row, case in zip(rows, judged, strict=True):
        at = threshold_of(threshold, case[0].solution.problem_key)
        truth, found, weight = error_index(case), first_error(checked(*case), at), case[0].weight
        if truth is None:
            row[3:5] = weight, weight * (found == -1)
        else:
            row[:3] = weight, weight * (found == truth), weight * (found >= 0 and abs(found - truth) <= 1)
        row[5] = weight
    return rows


FIRST_ERROR_FIGURES: dict[str, Callable[[Floats], Floats]] = {
    "first_error_exact": lambda sums: ratio(sums[:, 1], sums[:, 0]),
    "first_error_within_one": lambda sums: ratio(sums[:, 2], sums[:, 0]),
    "first_error_overall": lambda sums: ratio(sums[:, 1] + sums[:, 4], sums[:, 5]),
}


def _f1_of_sums(sums: Floats) -> Floats:
    return harmonic_mean(ratio(sums[:, 1], sums[:, 0]), ratio(sums[:, 4], sums[:, 3]))


def first_error_statistics(
    scored: Sequence[Scored], threshold: Thresholds, numbers: Mapping[str, int]
) -> dict[str, Statistic]:
    """F1 and first-error accuracies as functions of how often each problem is drawn."""
    judged = judged_cases(scored)
    problem = _problems(judged, numbers)
    rows = _first_error_rows(judged, threshold)
    figures = {"f1": _f1_of_sums, **FIRST_ERROR_FIGURES}
    return {name: of_sums(rows, problem, len(numbers), figure) for name, figure in figures.items()}


def average_f1_statistic(
    subsets: Mapping[str, Sequence[Scored]], threshold: Thresholds, numbers: Mapping[str, int]
) -> Statistic:
    """The mean over the subsets that have solutions with an error and without."""
    each = []
    for scored in subsets.values():
        judged = judged_cases(scored)
        if len({error_index(row) is None for row in judged}) == 2:
            rows = _first_error_rows(judged, threshold)
            each.append(of_sums(rows, _problems(judged, numbers), len(numbers), _f1_of_sums))

    def average(draws: Floats) -> Floats:
        mean: Floats = np.mean([statistic(draws) for statistic in each], axis=0)
        return mean

    return average if each else lambda draws: np.full(len(draws), np.nan)


def _problems(judged: Sequence[Scored], numbers: Mapping[str, int]) -> Ints:
    return np.array([numbers[labeled.solution.problem_key] for labeled, _ in judged], np.int64)


# --- Thresholds -----------------------------------------------------------------------------------------------------


def best_threshold(scored: Sequence[Scored]) -> float:
    """The threshold with the highest F1 on these solutions, half way between two scores. It flatters F1 on the same
    solutions, so callers say where it came from. Raises `NotEnoughData` like `processbench_f1`."""
    thresholds, f1 = threshold_curve(scored)
    return float(thresholds[np.argmax(f1)])


def threshold_curve(scored: Sequence[Scored]) -> tuple[Floats, Floats]:
    """One threshold between each two neighbouring scores at which F1 can change, rising, and F1 at each. Raises
    `NotEnoughData` like `processbench_f1`."""
    cases = _cases(_both_kinds(scored))
    bounds = np.concatenate([cases.above, cases.upto])
    scores = np.unique(bounds[np.isfinite(bounds)])
    halfway = np.concatenate([scores[:1], (scores[:-1] + scores[1:]) / 2])
    thresholds = np.where(halfway > np.concatenate([[-np.inf], scores[:-1]]), halfway, scores)
    errors, corrects = (_accuracies(cases.only(half), thresholds) for half in (cases.wrong, ~cases.wrong))
    return thresholds, harmonic_mean(errors, corrects)


def _accuracies(cases: Cases, thresholds: Floats) -> Floats:
    """The share of right predictions at each threshold, by counting the intervals that begin and end below it."""
    possible = cases.above < cases.upto
    right = np.zeros(len(thresholds))
    for bound, sign in ((cases.above, 1), (cases.upto, -1)):
        order = np.argsort(bound[possible])
        passed = np.concatenate([[0.0], np.cumsum(cases.weight[possible][order])])
        right += sign * passed[np.searchsorted(bound[possible][order], thresholds, side="left")]
    # Sums and differences of weights may miss 0 by a rounding error.
    accuracies: Floats = np.clip(right / cases.weight.sum(), 0, 1)
    return accuracies


def cross_fitted_threshold(scored: Sequence[Scored], folds: int | Mapping[str, int] = FOLDS) -> dict[str, float]:
    """A threshold for each problem key, chosen on the problems of the other folds, so that F1 at it does not flatter.
    `folds` is how many, or the fold of each problem key. Raises `NotEnoughData` where the other folds of one lack
    solutions with an error or without."""
    keys = {labeled.solution.problem_key for labeled, _ in scored}
    fold_of = folds_of(keys, folds) if isinstance(folds, int) else folds
    thresholds: dict[int, float] = {}
    for fold in {fold_of[key] for key in keys}:
        thresholds[fold] = best_threshold([row for row in scored if fold_of[row[0].solution.problem_key] != fold])
    return {key: thresholds[fold_of[key]] for key in sorted(keys)}
