"""What a PRM has to beat: the majority class, and position and length alone, measured as a PRM is."""

from __future__ import annotations

from collections.abc import Sequence

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation import Metrics, best_threshold, evaluate
from prm_backend.evaluation.baseline_scores import majority_scores, position_scores, random_scores
from prm_backend.types import LabeledSolution

__all__ = ["majority_baseline", "majority_scores", "position_baseline", "position_scores", "random_scores"]


def majority_baseline(train: Sequence[LabeledSolution], test: Sequence[LabeledSolution] | None = None) -> Metrics:
    """What a constant p(−), the share of bad steps in `train`, is worth on `test` (or on `train` itself): no step is
    called bad unless most are."""
    measured = train if test is None else test
    scores = majority_scores(train, measured)
    return evaluate([(item, scores[item.solution.key]) for item in measured], threshold=0.5)


def position_baseline(
    train: Sequence[LabeledSolution], test: Sequence[LabeledSolution] | None = None, *, folds: int = 5
) -> Metrics:
    """What `position_scores` is worth. With a test set its threshold comes from `train`; cross-fitted, from the
    measured solutions themselves, which flatters this baseline a little. Raises `NotEnoughData`."""
    scores = position_scores(train, test, folds=folds)
    measured = [(item, scores[item.solution.key]) for item in (train if test is None else test)]
    fitted = measured
    if test is not None:
        own = position_scores(train, train)
        fitted = [(item, own[item.solution.key]) for item in train]
    try:
        threshold = best_threshold(fitted)
    except NotEnoughData:
        threshold = None
    return evaluate(measured, threshold=threshold)
