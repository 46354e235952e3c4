"""Everything that is measured of PRMs on one set of data, each figure with its interval, the baselines beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.agreement import agreement_statistics
from prm_backend.evaluation.baseline_scores import majority_scores, position_scores, random_scores
from prm_backend.evaluation.best_of_n import BestOfN, Candidate, best_of_n
from prm_backend.evaluation.bootstrap import SAMPLES, Estimate, Statistic, estimates
from prm_backend.evaluation.calibration import (
    EQUAL_WIDTH,
    ReliabilityBin,
    calibration_statistics,
    recalibrated,
    reliability,
)
from prm_backend.evaluation.leakage import SIMILARITY, Leakage, without_leaks
from prm_backend.evaluation.prmbench import VALIDITY_THRESHOLD, PrmScore, prm_score, prm_score_statistic
from prm_backend.evaluation.processbench import (
    Threshold,
    ThresholdSource,
    average_f1_statistic,
    best_threshold,
    cross_fitted_threshold,
    first_error_statistics,
    threshold_curve,
)
from prm_backend.evaluation.ranking import Ranking
from prm_backend.evaluation.steps import JudgedSteps, Scored, is_judged, judged_steps, problem_numbers
from prm_backend.types import LabeledSolution, StepLabel, StepScores

Scores = Mapping[str, StepScores]  # by solution key
Points = tuple[tuple[float, float], ...]

CURVE_POINTS = 200
GSM8K_SUBSET = "gsm8k"
EVERYTHING = "all"  # the one subset where none are named


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """What PRMs are measured on. Solution keys are distinct over all parts.

    `subset_of` gives test solutions, by key, the subset that they are reported under, and `averaged` names those over
    which ProcessBench F1 is averaged (none named: all that have solutions with an error and without). `train` fits the
    baselines, and its problems, with `pretraining_problems`, must not be measured. `injected` are solutions whose every
    step is labeled (PRMBench), with their error class by key in `class_of`; `candidates` are for best-of-N.
    """

    test: Sequence[LabeledSolution]
    train: Sequence[LabeledSolution] = ()
    validation: Sequence[LabeledSolution] = ()
    pretraining_problems: Sequence[str] = ()
    subset_of: Mapping[str, str] = field(default_factory=dict)
    averaged: Sequence[str] = ()
    injected: Sequence[LabeledSolution] = ()
    class_of: Mapping[str, str] = field(default_factory=dict)
    candidates: Sequence[Candidate] = ()

    def training_problems(self) -> list[str]:
        """Those that training, or the choice of a threshold, has seen."""
        seen = [*self.train, *self.validation]
        return [*(item.solution.problem for item in seen), *self.pretraining_problems]


@dataclass(frozen=True, slots=True)
class ThresholdFigures:
    """What depends on a threshold. `threshold` is the median where each problem has its own; `average` is the mean of
    F1 over the subsets that have solutions with an error and without."""

    source: ThresholdSource
    threshold: float
    average: Estimate
    subsets: dict[str, Estimate]
    figures: dict[str, Estimate]


@dataclass(frozen=True, slots=True)
class Curves:
    """Points in [0, 1]²: (false-positive rate, recall), (recall, precision), (threshold, F1)."""

    roc: Points
    precision_recall: Points
    threshold_f1: Points


@dataclass(frozen=True, slots=True)
class System:
    """One PRM or baseline. `figures` need no threshold; `recalibrated` are those of calibration after cross-fitted
    vector scaling, empty where it could not be fitted."""

    name: str
    is_baseline: bool
    figures: dict[str, Estimate]
    recalibrated: dict[str, Estimate]
    subsets: dict[str, dict[str, Estimate]]
    thresholds: tuple[ThresholdFigures, ...]
    reliability: tuple[ReliabilityBin, ...]
    reliability_recalibrated: tuple[ReliabilityBin, ...]
    curves: Curves | None
    prmbench: PrmScore | None
    prmbench_score: Estimate | None
    best_of_n: BestOfN | None


@dataclass(frozen=True, slots=True)
class Results:
    """PRMs first, then baselines. `leakage` is by part: test, injected, candidates. `unavailable` says why a source of
    thresholds gave none."""

    systems: tuple[System, ...]
    leakage: dict[str, Leakage]
    solutions: int
    problems: int
    judged_steps: int
    bad_steps: int
    subsets: dict[str, int]
    samples: int
    seed: int
    unavailable: dict[ThresholdSource, str] = field(default_factory=dict)


def measure(
    data: EvaluationData,
    systems: Mapping[str, Scores],
    *,
    baselines: Mapping[str, Scores] | None = None,
    thresholds: Sequence[ThresholdSource] = (ThresholdSource.FIXED,),
    redundancy_threshold: float | None = None,
    similarity: float = SIMILARITY,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Results:
    """Measure PRMs, given by name with their scores by solution key, and the baselines in the same way. `baselines` may
    add more of these (surprisal alone, say).

    Problems shared with training, exact or reworded, are left out first. Raises `NotEnoughData` where nothing judged
    remains, `PrmError` naming a solution with a score that is no probability,
    `ValueError` naming a solution without scores.
    """
    data, leakage = _unleaked(data, similarity)
    if not data.test:
        raise NotEnoughData("no judged solution of a problem that training does not share")
    weak = {**(baselines or {}), **simple_baselines(data, seed=seed)}
    twice = sorted(systems.keys() & weak.keys())
    if twice:
        raise ValueError(f"{twice[0]!r} names both a PRM and a baseline")
    unavailable = _unavailable(data, thresholds, [*systems.values(), *weak.values()])
    usable = [source for source in thresholds if source not in unavailable]
    one = _Measurement(data, usable, redundancy_threshold, samples, seed)
    found = [one.system(name, scores, False) for name, scores in systems.items()]
    found += [one.system(name, scores, True) for name, scores in weak.items()]
    labels = [label for item in data.test for label in item.labels if label is not None]
    return Results(
        systems=tuple(found),
        leakage=leakage,
        solutions=len({item.solution.key for item in data.test}),
        problems=len({item.solution.problem_key for item in data.test}),
        judged_steps=len(labels),
        bad_steps=sum(label is StepLabel.BAD for label in labels),
        subsets={name: len(part) for name, part in _by_subset(data.test, data.subset_of).items()},
        samples=samples,
        seed=seed,
        unavailable=unavailable,
    )


def _unavailable(
    data: EvaluationData, sources: Sequence[ThresholdSource], systems: Sequence[Scores]
) -> dict[ThresholdSource, str]:
    """Sources that have no threshold to give, to one system or another, and why."""
    found: dict[ThresholdSource, str] = {}
    for source in sources:
        try:
            for scores in systems:
                _threshold(source, data, scores)
        except NotEnoughData as error:
            found[source] = str(error)
    return found


def _threshold(source: ThresholdSource, data: EvaluationData, scores: Scores) -> Threshold:
    subset = _by_subset(data.test, data.subset_of).get(GSM8K_SUBSET, [])
    choose: dict[ThresholdSource, Callable[[], float | dict[str, float]]] = {
        ThresholdSource.FIXED: lambda: 0.5,
        ThresholdSource.GSM8K: lambda: best_threshold(with_scores(subset, scores)),
        ThresholdSource.VALIDATION: lambda: best_threshold(with_scores(data.validation, scores)),
        ThresholdSource.TRAINING: lambda: best_threshold(with_scores(data.train, scores)),
        ThresholdSource.CROSS_FITTED: lambda: cross_fitted_threshold(with_scores(data.test, scores)),
    }
    return Threshold(choose[source](), source)


def simple_baselines(data: EvaluationData, *, seed: int = 0) -> dict[str, Scores]:
    """Scores of the majority, of position and length alone, and of chance for every solution of the data. They are
    fitted on `train`, which is itself scored out of fold; without `train`, the test set takes its place. Raises
    `NotEnoughData` where there is one class only to fit on."""
    known = list(data.train or data.test)
    others = [item for part in (data.test, data.validation, data.injected) for item in part]
    others += [LabeledSolution(c.solution, (None,) * len(c.solution.steps)) for c in data.candidates]
    everything = [*known, *others]
    return {
        "majority": majority_scores(known, everything),
        "position and length": {**position_scores(known, others), **position_scores(known)},
        "random": random_scores(everything, seed=seed),
    }


def _unleaked(data: EvaluationData, similarity: float) -> tuple[EvaluationData, dict[str, Leakage]]:
    training = data.training_problems()
    test, in_test = without_leaks([item for item in data.test if is_judged(item)], training, similarity=similarity)
    injected, in_injected = without_leaks(data.injected, training, similarity=similarity)
    candidates, in_candidates = without_leaks(data.candidates, training, similarity=similarity)
    leakage = {"test": in_test}
    leakage |= {"injected": in_injected} if data.injected else {}
    leakage |= {"candidates": in_candidates} if data.candidates else {}
    return replace(data, test=test, injected=injected, candidates=candidates), leakage


def _by_subset(test: Sequence[LabeledSolution], subset_of: Mapping[str, str]) -> dict[str, list[LabeledSolution]]:
    parts: dict[str, list[LabeledSolution]] = {}
    for item in test:
        parts.setdefault(subset_of.get(item.solution.key, EVERYTHING), []).append(item)
    return dict(sorted(parts.items()))


def with_scores(items: Sequence[LabeledSolution], scores: Scores) -> list[Scored]:
    """Raises `ValueError` naming a solution without scores."""
    missing = next((item.solution.key for item in items if item.solution.key not in scores), None)
    if missing is not None:
        raise ValueError(f"{missing}: no scores")
    return [(item, scores[item.solution.key]) for item in items]


@dataclass(frozen=True, slots=True)
class _Measurement:
    """One way of measuring, the same for every PRM and baseline."""

    data: EvaluationData
    sources: Sequence[ThresholdSource]
    redundancy_threshold: float | None
    samples: int
    seed: int

    def system(self, name: str, scores: Scores, is_baseline: bool) -> System:
        scored = with_scores(self.data.test, scores)
        numbers = problem_numbers(scored)
        parts = _by_subset(self.data.test, self.data.subset_of)
        subsets = {subset: with_scores(part, scores) for subset, part in parts.items()}
        thresholds = [_threshold(source, self.data, scores) for source in self.sources]
        steps, after = judged_steps(scored, numbers), judged_steps(_recalibrated(scored), numbers)
        statistics = {"figures": _step_statistics(steps) | calibration_statistics(steps, len(numbers))}
        statistics["recalibrated"] = calibration_statistics(after, len(numbers)) if after.p_bad.size else {}
        statistics |= {f"subset {key}": _step_statistics(judged_steps(part, numbers)) for key, part in subsets.items()}
        for at in thresholds:
            statistics |= self._threshold_statistics(at, scored, subsets, numbers)
        found = self._estimates(statistics, len(numbers), len(steps.p_bad))
        score, score_estimate = self._prmbench(scores)
        return System(
            name=name,
            is_baseline=is_baseline,
            figures=found["figures"],
            recalibrated=found["recalibrated"],
            subsets={key: found[f"subset {key}"] for key in subsets},
            thresholds=tuple(_threshold_figures(at, found) for at in thresholds),
            reliability=_reliability(steps),
            reliability_recalibrated=_reliability(after),
            curves=_curves(scored),
            prmbench=score,
            prmbench_score=score_estimate,
            best_of_n=best_of_n(self.data.candidates, scores, samples=self.samples, seed=self.seed)
            if self.data.candidates
            else None,
        )

    def _estimates(
        self, statistics: Mapping[str, Mapping[str, Statistic]], problems: int, rows: int
    ) -> dict[str, dict[str, Estimate]]:
        """Group by group, all from one set of draws."""
        flat = {(group, name): found for group, named in statistics.items() for name, found in named.items()}
        values = estimates(flat, problems, rows=rows, samples=self.samples, seed=self.seed)
        return {group: {name: values[group, name] for name in named} for group, named in statistics.items()}

    def _threshold_statistics(
        self,
        at: Threshold,
        scored: Sequence[Scored],
        subsets: Mapping[str, Sequence[Scored]],
        numbers: Mapping[str, int],
    ) -> dict[str, dict[str, Statistic]]:
        averaged = {name: part for name, part in subsets.items() if name in (self.data.averaged or subsets)}
        figures = first_error_statistics(scored, at.value, numbers) | agreement_statistics(scored, at.value, numbers)
        return {
            f"{at.source} figures": figures | {"average": average_f1_statistic(averaged, at.value, numbers)},
            f"{at.source} subsets": {
                name: first_error_statistics(part, at.value, numbers)["f1"] for name, part in subsets.items()
            },
        }

    def _prmbench(self, scores: Scores) -> tuple[PrmScore, Estimate] | tuple[None, None]:
        if not self.data.injected:
            return None, None
        scored = with_scores(self.data.injected, scores)
        numbers = problem_numbers(scored)
        score = prm_score(scored, class_of=self.data.class_of, redundancy_threshold=self.redundancy_threshold)
        statistic = prm_score_statistic(
            scored,
            numbers,
            class_of=self.data.class_of,
            threshold=VALIDITY_THRESHOLD,
            redundancy_threshold=self.redundancy_threshold,
        )
        return score, self._estimates({"all": {"score": statistic}}, len(numbers), len(scored))["all"]["score"]


def _step_statistics(steps: JudgedSteps) -> dict[str, Statistic]:
    return Ranking(steps.p_bad, steps.is_bad).statistics(steps)


def _reliability(steps: JudgedSteps) -> tuple[ReliabilityBin, ...]:
    return reliability(steps.p_bad, steps.is_bad, steps.weight, bins=EQUAL_WIDTH)


def _threshold_figures(at: Threshold, found: Mapping[str, dict[str, Estimate]]) -> ThresholdFigures:
    figures = dict(found[f"{at.source} figures"])
    return ThresholdFigures(
        source=at.source,
        threshold=float(np.median(list(at.value.values()))) if isinstance(at.value, Mapping) else at.value,
        average=figures.pop("average"),
        subsets=found[f"{at.source} subsets"],
        figures=figures,
    )


def _recalibrated(scored: Sequence[Scored]) -> list[Scored]:
    """Empty where there are too few labels to fit on."""
    try:
        return recalibrated(scored)
    except NotEnoughData:
        return []


def _curves(scored: Sequence[Scored]) -> Curves | None:
    """None where one class of steps is missing."""
    steps = judged_steps(scored)
    if steps.is_bad.all() or not steps.is_bad.any():
        return None
    roc, precision_recall = Ranking(steps.p_bad, steps.is_bad).curves(steps.weight)
    try:
        threshold_f1 = np.stack(threshold_curve(scored), axis=1)
    except NotEnoughData:
        threshold_f1 = np.zeros((0, 2))
    return Curves(_thinned(roc), _thinned(precision_recall), _thinned(threshold_f1))


def _thinned(points: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Points:
    """At most `CURVE_POINTS` of the points, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), CURVE_POINTS)).round().astype(int))
    return tuple((float(x), float(y)) for x, y in chain(points[chosen]))
