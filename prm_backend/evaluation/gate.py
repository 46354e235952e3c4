"""The gate between two PRMs: a paired bootstrap by problem of the difference in step AUROC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from prm_backend.evaluation.bootstrap import draws, interval_of
from prm_backend.evaluation.ranking import Ranking
from prm_backend.evaluation.steps import Scored, is_judged, judged_steps
from prm_backend.types import LabeledSolution, StepScores

NEEDED_SOLUTIONS = 30
NEEDED_BAD_STEPS = 10
NOT_WORSE_MARGIN = 0.02


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
    new = judged_steps(_with_scores(labeled, candidate))
    old = judged_steps(_with_scores(labeled, current))
    rankings = [Ranking(steps.p_bad, steps.is_bad) for steps in (new, old)]
    measured, base = (ranking.auroc(new.weight[None, :])[0] for ranking in rankings)
    if np.isnan(measured):
        return Comparison(None, None, None, Verdict.NOT_ENOUGH_EVIDENCE)
    differences = []
    for drawn in draws(int(new.problem.max()) + 1, samples, seed, rows=len(new.p_bad)):
        weights = drawn[:, new.problem] * new.weight
        differences.append(rankings[0].auroc(weights) - rankings[1].auroc(weights))
    interval = interval_of(np.concatenate(differences))
    if interval is None:
        return Comparison(float(measured - base), None, None, Verdict.NOT_ENOUGH_EVIDENCE)
    solutions = len({item.solution.key for item in labeled if is_judged(item)})
    enough = solutions >= NEEDED_SOLUTIONS and new.is_bad.sum() >= NEEDED_BAD_STEPS
    verdict = _verdict(interval[0]) if enough else Verdict.NOT_ENOUGH_EVIDENCE
    return Comparison(float(measured - base), *interval, verdict)


def _verdict(lower: float) -> Verdict:
    if lower > 0:
        return Verdict.BETTER
    return Verdict.NOT_WORSE if lower > -NOT_WORSE_MARGIN else Verdict.UNDECIDED


def _with_scores(labeled: Sequence[LabeledSolution], scores: Mapping[str, StepScores]) -> list[Scored]:
    missing = next((item.solution.key for item in labeled if item.solution.key not in scores), None)
    if missing is not None:
        raise ValueError(f"{missing}: no scores")
    return [(item, scores[item.solution.key]) for item in labeled]
