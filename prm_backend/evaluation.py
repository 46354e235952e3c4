"""How good is a PRM: step AUROC, ProcessBench F1, calibration, and the gate between two PRMs.

A step is bad iff its label is `BAD`; steps without a label count nowhere. Labelings weigh what `LabeledSolution.weight`
says. Resampling goes by problem, because solutions of one problem are not independent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prm_backend.errors import NotEnoughData
from prm_backend.types import LabeledSolution, StepLabel, StepScores

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Scored = tuple[LabeledSolution, StepScores]

CALIBRATION_BINS = 10
NEEDED_SOLUTIONS = 30
NEEDED_BAD_STEPS = 10
NOT_WORSE_MARGIN = 0.02
BOOTSTRAP_CELLS = 4_000_000  # samples x steps held at once


class F1(NamedTuple):
    """ProcessBench's harmonic mean of two accuracies: first errors found exactly, and no alarm on right solutions."""

    f1: float
    error_accuracy: float
    correct_accuracy: float


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured, and on how much; None where it could not be computed. `f1` belongs to `threshold`, and only
    the caller knows where that came from. `ece` is the expected calibration error of p(−) over ten equal bins."""

    step_auroc: float | None
    f1: float | None
    threshold: float | None
    judged_steps: int
    bad_steps: int
    solutions: int
    problems: int
    ece: float

    def as_dict(self) -> dict[str, float | int | None]:
        return asdict(self)


class Verdict(StrEnum):
    BETTER = "better"
    NOT_WORSE = "not_worse"
    UNDECIDED = "undecided"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Step AUROC of the candidate minus that of the current PRM, with its 95 % interval; None where one class of steps
    is missing."""

    difference: float | None
    lower: float | None
    upper: float | None
    verdict: Verdict


# --- Step AUROC and calibration -------------------------------------------------------------------------------------


def step_auroc(p_bad: Sequence[float], is_bad: Sequence[bool], weight: Sequence[float] | None = None) -> float:
    """The probability that a bad step has a higher p(−) than another one, ties counting half. Raises `NotEnoughData`
    where one of the two classes is missing."""
    weights = np.ones(len(p_bad)) if weight is None else np.asarray(weight, float)
    auroc = _Ranking(np.asarray(p_bad, float), np.asarray(is_bad, bool)).auroc(weights[None, :])[0]
    if np.isnan(auroc):
        raise NotEnoughData("step AUROC needs bad steps and others")
    return float(auroc)


class _Ranking:
    """Steps sorted once by p(−), so that the AUROC under many weightings is a few sums (Mann-Whitney U, mid-ranks)."""

    def __init__(self, p_bad: Floats, is_bad: Bools) -> None:
        self._order = np.argsort(p_bad, kind="stable")
        self._is_bad = is_bad[self._order]
        self._ties = np.flatnonzero(
            np.diff(p_bad[self._order], prepend=np.nan) != 0
        )  # where each distinct score starts

    def auroc(self, weights: Floats) -> Floats:
        """weights (samples, steps) -> AUROC (samples,); NaN where a class has no weight."""
        if not self._order.size:
            return np.full(len(weights), np.nan)
        ordered = weights[:, self._order]
        bad = np.add.reduceat(ordered * self._is_bad, self._ties, axis=1)
        fine = np.add.reduceat(ordered * ~self._is_bad, self._ties, axis=1)
        below = np.cumsum(fine, axis=1) - fine / 2
        pairs = bad.sum(axis=1) * fine.sum(axis=1)
        auroc: Floats = np.full(len(weights), np.nan)
        np.divide((bad * below).sum(axis=1), pairs, out=auroc, where=pairs > 0)
        return auroc


class _JudgedSteps(NamedTuple):
    """Every judged step of many labelings: four arrays of the same length."""

    p_bad: Floats
    is_bad: Bools
    weight: Floats
    problem: npt.NDArray[np.int64]


def _judged_steps(scored: Sequence[Scored]) -> _JudgedSteps:
    numbers: dict[str, int] = {}
    rows = [
        (p_bad, label is StepLabel.BAD, labeled.weight, numbers.setdefault(labeled.solution.problem_key, len(numbers)))
        for labeled, scores in scored
        for label, p_bad in zip(labeled.labels, _bad(labeled, scores), strict=True)
        if label is not None
    ]
    p_bad, is_bad, weight, problem = zip(*rows, strict=True) if rows else ((), (), (), ())
    return _JudgedSteps(
        np.array(p_bad, float), np.array(is_bad, bool), np.array(weight, float), np.array(problem, np.int64)
    )


def _bad(labeled: LabeledSolution, scores: StepScores) -> tuple[float, ...]:
    if len(scores) != len(labeled.labels):
        raise ValueError(f"{labeled.solution.key}: {len(scores)} scores for {len(labeled.labels)} steps")
    return scores.bad


def _calibration_error(steps: _JudgedSteps) -> float:
    bins = np.minimum((steps.p_bad * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, steps.weight * (steps.p_bad - steps.is_bad))
    return float(np.abs(gaps).sum() / steps.weight.sum())


# --- ProcessBench ---------------------------------------------------------------------------------------------------


def first_error(scores: StepScores, threshold: float) -> int:
    """The index of the first step with p(−) >= threshold; -1 where there is none."""
    return next((index for index, p_bad in enumerate(scores.bad) if p_bad >= threshold), -1)


class _Outcomes(NamedTuple):
    """One entry for each solution that was judged up to its first error. The prediction is right at exactly those
    thresholds t with above < t <= upto."""

    above: Floats
    upto: Floats
    wrong: Bools
    weight: Floats

    def only(self, chosen: Bools) -> _Outcomes:
        return _Outcomes(self.above[chosen], self.upto[chosen], self.wrong[chosen], self.weight[chosen])


def _outcomes(scored: Sequence[Scored]) -> _Outcomes:
    rows: list[tuple[float, float, bool, float]] = []
    for labeled, scores in scored:
        p_bad = _bad(labeled, scores)
        bad_at = labeled.labels.index(StepLabel.BAD) if StepLabel.BAD in labeled.labels else None
        if None in labeled.labels[:bad_at]:
            continue
        highest_before = max(p_bad[:bad_at], default=-np.inf)
        rows.append((highest_before, np.inf if bad_at is None else p_bad[bad_at], bad_at is not None, labeled.weight))
    above, upto, wrong, weight = zip(*rows, strict=True) if rows else ((), (), (), ())
    outcomes = _Outcomes(np.array(above), np.array(upto), np.array(wrong, bool), np.array(weight))
    if outcomes.wrong.all() or not outcomes.wrong.any():
        raise NotEnoughData("ProcessBench F1 needs solutions with an error and without, judged up to the first error")
    return outcomes


def processbench_f1(scored: Sequence[Scored], threshold: float) -> F1:
    """F1 at a threshold (arXiv 2412.06559) over the solutions that were judged up to their first error. Raises
    `NotEnoughData` where there are none with an error, or none without."""
    outcomes = _outcomes(scored)
    hit = (outcomes.above < threshold) & (threshold <= outcomes.upto)
    error_accuracy, correct_accuracy = (
        float(np.average(hit[chosen], weights=outcomes.weight[chosen])) for chosen in (outcomes.wrong, ~outcomes.wrong)
    )
    return F1(_harmonic_mean(error_accuracy, correct_accuracy), error_accuracy, correct_accuracy)


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0


def best_threshold(scored: Sequence[Scored]) -> float:
    """The threshold with the highest F1 on these solutions, half way between two scores. It flatters F1 on the same
    solutions, so callers say where it came from. Raises `NotEnoughData` like `processbench_f1`."""
    outcomes = _outcomes(scored)
    bounds = np.concatenate([outcomes.above, outcomes.upto])
    scores = np.unique(bounds[np.isfinite(bounds)])
    halfway = np.concatenate([scores[:1], (scores[:-1] + scores[1:]) / 2])
    candidates = np.where(halfway > np.concatenate([[-np.inf], scores[:-1]]), halfway, scores)
    errors, corrects = (_accuracies(outcomes.only(half), candidates) for half in (outcomes.wrong, ~outcomes.wrong))
    total = errors + corrects
    f1 = np.divide(2 * errors * corrects, total, out=np.zeros_like(total), where=total > 0)
    return float(candidates[np.argmax(f1)])


def _accuracies(outcomes: _Outcomes, thresholds: Floats) -> Floats:
    """The share of right predictions at each threshold, by counting the intervals that begin and end below it."""
    possible = outcomes.above < outcomes.upto
    right = np.zeros(len(thresholds))
    for bound, sign in ((outcomes.above, 1), (outcomes.upto, -1)):
        order = np.argsort(bound[possible])
        passed = np.concatenate([[0.0], np.cumsum(outcomes.weight[possible][order])])
        right += sign * passed[np.searchsorted(bound[possible][order], thresholds, side="left")]
    accuracies: Floats = right / outcomes.weight.sum()
    return accuracies


# --- One PRM --------------------------------------------------------------------------------------------------------


def evaluate(scored: Sequence[Scored], *, threshold: float | None = None) -> Metrics:
    """Measure a PRM on labeled solutions. Without a threshold there is no F1: choosing one here would flatter it.
    Raises `NotEnoughData` where not one step is judged."""
    steps = _judged_steps(scored)
    if not steps.p_bad.size:
        raise NotEnoughData("not one step is judged")
    auroc = _Ranking(steps.p_bad, steps.is_bad).auroc(steps.weight[None, :])[0]
    judged = {labeled.solution.key for labeled, _ in scored if any(label is not None for label in labeled.labels)}
    return Metrics(
        step_auroc=None if np.isnan(auroc) else float(auroc),
        f1=_f1_or_none(scored, threshold),
        threshold=threshold,
        judged_steps=len(steps.p_bad),
        bad_steps=int(steps.is_bad.sum()),
        solutions=len(judged),
        problems=len(np.unique(steps.problem)),
        ece=_calibration_error(steps),
    )


def _f1_or_none(scored: Sequence[Scored], threshold: float | None) -> float | None:
    try:
        return None if threshold is None else processbench_f1(scored, threshold).f1
    except NotEnoughData:
        return None


# --- The gate between two PRMs --------------------------------------------------------------------------------------


def compare(
    labeled: Sequence[LabeledSolution],
    candidate: Mapping[str, StepScores],
    current: Mapping[str, StepScores],
    *,
    samples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Is the candidate better than the current PRM? Both give scores by solution key for the same labeled solutions;
    a paired bootstrap by problem gives the 95 % interval of the difference in step AUROC.

    `better`: above 0 as a whole; `not_worse`: above -0.02; `undecided` otherwise; `not_enough_evidence` below 30
    solutions or 10 bad steps. Samples that miss one class of steps are left out."""
    new = _judged_steps(_with_scores(labeled, candidate))
    old = _judged_steps(_with_scores(labeled, current))
    rankings = [_Ranking(steps.p_bad, steps.is_bad) for steps in (new, old)]
    measured, base = (ranking.auroc(new.weight[None, :])[0] for ranking in rankings)
    if np.isnan(measured):
        return Comparison(None, None, None, Verdict.NOT_ENOUGH_EVIDENCE)
    differences = np.concatenate(
        [rankings[0].auroc(weights) - rankings[1].auroc(weights) for weights in _resampled(new, samples, seed)]
    )
    lower, upper = (float(bound) for bound in np.nanpercentile(differences, [2.5, 97.5]))
    solutions = len({item.solution.key for item in labeled if any(label is not None for label in item.labels)})
    enough = solutions >= NEEDED_SOLUTIONS and new.is_bad.sum() >= NEEDED_BAD_STEPS
    verdict = _verdict(lower) if enough else Verdict.NOT_ENOUGH_EVIDENCE
    return Comparison(float(measured - base), lower, upper, verdict)


def _verdict(lower: float) -> Verdict:
    if lower > 0:
        return Verdict.BETTER
    return Verdict.NOT_WORSE if lower > -NOT_WORSE_MARGIN else Verdict.UNDECIDED


def _with_scores(labeled: Sequence[LabeledSolution], scores: Mapping[str, StepScores]) -> list[Scored]:
    missing = next((item.solution.key for item in labeled if item.solution.key not in scores), None)
    if missing is not None:
        raise ValueError(f"{missing}: no scores")
    return [(item, scores[item.solution.key]) for item in labeled]


def _resampled(steps: _JudgedSteps, samples: int, seed: int) -> Iterator[Floats]:
    """Step weights (samples, steps) under draws of as many problems as there are, in pieces that fit into memory."""
    rng = np.random.default_rng(seed)
    problems = int(steps.problem.max()) + 1
    at_once = max(1, BOOTSTRAP_CELLS // len(steps.problem))
    for start in range(0, samples, at_once):
        draws = rng.multinomial(problems, np.full(problems, 1 / problems), size=min(at_once, samples - start))
        yield draws[:, steps.problem] * steps.weight
