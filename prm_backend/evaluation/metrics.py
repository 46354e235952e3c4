"""The few figures that a gate or a page shows of one PRM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.calibration import EQUAL_WIDTH, expected_error, reliability
from prm_backend.evaluation.processbench import Thresholds, processbench_f1
from prm_backend.evaluation.ranking import Ranking
from prm_backend.evaluation.steps import Scored, is_judged, judged_steps


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


def evaluate(scored: Sequence[Scored], *, threshold: Thresholds | None = None) -> Metrics:
    """Measure a PRM on labeled solutions. Without a threshold there is no F1: choosing one here would flatter it. Of
    thresholds by problem (`cross_fitted_threshold`) the median is shown. Raises `NotEnoughData` where not one step is
    judged."""
    steps = judged_steps(scored)
    if not steps.p_bad.size:
        raise NotEnoughData("not one step is judged")
    auroc = Ranking(steps.p_bad, steps.is_bad).auroc(steps.weight[None, :])[0]
    return Metrics(
        step_auroc=None if np.isnan(auroc) else float(auroc),
        f1=_f1_or_none(scored, threshold),
        threshold=float(np.median(list(threshold.values()))) if isinstance(threshold, Mapping) else threshold,
        judged_steps=len(steps.p_bad),
        bad_steps=int(steps.is_bad.sum()),
        solutions=len({labeled.solution.key for labeled, _ in scored if is_judged(labeled)}),
        problems=len(np.unique(steps.problem)),
        ece=expected_error(reliability(steps.p_bad, steps.is_bad, steps.weight, bins=EQUAL_WIDTH)),
    )


def _f1_or_none(scored: Sequence[Scored], threshold: Thresholds | None) -> float | None:
    try:
        return None if threshold is None else processbench_f1(scored, threshold).f1
    except NotEnoughData:
        return None
