from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation import average_precision, step_auroc
from prm_backend.evaluation.ranking import Ranking

steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans(), st.integers(1, 3)),
    min_size=2,
    max_size=30,
).filter(lambda rows: len({is_bad for _, is_bad, _ in rows}) == 2)
Rows = list[tuple[float, bool, int]]


def columns(rows: Rows) -> tuple[list[float], list[bool], list[float]]:
    return [row[0] for row in rows], [row[1] for row in rows], [float(row[2]) for row in rows]


def slow_average_precision(rows: Rows) -> float:
    """Threshold by threshold, from the highest score down: precision times the recall that is added."""
    total = sum(weight for _, is_bad, weight in rows if is_bad)
    average = recall = 0.0
    for threshold in sorted({score for score, _, _ in rows}, reverse=True):
        called = [(is_bad, weight) for score, is_bad, weight in rows if score >= threshold]
        found = sum(weight for is_bad, weight in called if is_bad)
        precision = found / sum(weight for _, weight in called)
        average += precision * (found / total - recall)
        recall = found / total
    return average


@pytest.mark.parametrize(
    ("p_bad", "is_bad", "expected"),
    [
        ([0.9, 0.1], [True, False], 1.0),
        ([0.1, 0.9], [True, False], 1 / 2),
        ([0.1, 0.4, 0.35, 0.8], [False, False, True, True], 1 / 2 * 1 + 1 / 2 * 2 / 3),
        ([0.5, 0.5, 0.5, 0.5], [True, False, False, False], 1 / 4),
    ],
)
def test_average_precision_on_cases_done_by_hand(p_bad: list[float], is_bad: list[bool], expected: float) -> None:
    assert average_precision(p_bad, is_bad) == pytest.approx(expected)


@given(steps)
def test_average_precision_is_the_sum_over_thresholds(rows: Rows) -> None:
    assert average_precision(*columns(rows)) == pytest.approx(slow_average_precision(rows))


@given(steps, st.randoms(use_true_random=False))
def test_neither_figure_depends_on_the_order_of_the_steps(rows: Rows, rng: object) -> None:
    mixed = sorted(rows, key=lambda _: rng.random())  # type: ignore[attr-defined]
    assert step_auroc(*columns(mixed)) == pytest.approx(step_auroc(*columns(rows)))
    assert average_precision(*columns(mixed)) == pytest.approx(average_precision(*columns(rows)))


@given(steps)
def test_neither_figure_changes_under_a_monotone_transform(rows: Rows) -> None:
    # A transform on ranks: it cannot merge two scores by rounding.
    rank = {score: index for index, score in enumerate(sorted({row[0] for row in rows}))}
    cubed = [(rank[score] ** 3 / 1e6, is_bad, weight) for score, is_bad, weight in rows]
    assert step_auroc(*columns(cubed)) == pytest.approx(step_auroc(*columns(rows)))
    assert average_precision(*columns(cubed)) == pytest.approx(average_precision(*columns(rows)))


@given(steps)
def test_a_weight_is_so_many_copies(rows: Rows) -> None:
    copies = [(score, is_bad, 1) for score, is_bad, weight in rows for _ in range(weight)]
    assert step_auroc(*columns(copies)) == pytest.approx(step_auroc(*columns(rows)))
    assert average_precision(*columns(copies)) == pytest.approx(average_precision(*columns(rows)))


@given(steps)
def test_the_area_under_the_roc_curve_is_the_auroc(rows: Rows) -> None:
    p_bad, is_bad, weight = (np.array(column) for column in columns(rows))
    roc, precision_recall = Ranking(p_bad, is_bad).curves(weight)
    area = np.sum(np.diff(roc[:, 0]) * (roc[1:, 1] + roc[:-1, 1]) / 2)
    assert area == pytest.approx(step_auroc(*columns(rows)))
    assert roc[0].tolist() == [0, 0]
    assert roc[-1] == pytest.approx([1, 1])
    gained = np.diff(precision_recall[:, 0], prepend=0.0)
    assert gained @ precision_recall[:, 1] == pytest.approx(average_precision(*columns(rows)))


@pytest.mark.parametrize("is_bad", [[True, True], [False, False], []])
def test_average_precision_needs_both_classes(is_bad: list[bool]) -> None:
    with pytest.raises(NotEnoughData, match="average precision needs bad steps and others"):
        average_precision([0.5] * len(is_bad), is_bad)
