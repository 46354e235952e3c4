from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.evaluation import (
    Scored,
    Threshold,
    ThresholdSource,
    best_threshold,
    cross_fitted_threshold,
    evaluate,
    first_error,
    first_error_accuracy,
    processbench,
    processbench_f1,
)
from prm_backend.evaluation.bootstrap import Statistic
from prm_backend.evaluation.processbench import average_f1_statistic, first_error_statistics, threshold_curve
from prm_backend.evaluation.steps import problem_numbers
from tests.prm_backend.evaluation.judged import (
    OK,
    B,
    Labels,
    campaign,
    first_error_labels,
    knowing,
    labeled,
    scored,
    two_way,
)

HALF = Threshold(0.5, ThresholdSource.FIXED)


def official_f1(rows: list[Scored], threshold: float) -> float:
    """As the benchmark's own evaluation reads: label -1 for no error, a case is right where prediction == label."""
    right: dict[bool, list[bool]] = {True: [], False: []}
    for item, scores in rows:
        label = item.labels.index(B) if B in item.labels else -1
        right[label == -1].append(first_error(scores, threshold) == label)
    acc1, acc2 = (sum(right[kind]) / len(right[kind]) for kind in (False, True))
    return 2 * acc1 * acc2 / (acc1 + acc2) if acc1 + acc2 else 0.0


@st.composite
def cases(draw: st.DrawFn) -> list[Scored]:
    rows = []
    for number in range(draw(st.integers(2, 10))):
        p_bad = draw(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.5, 0.8, 1.0]), min_size=1, max_size=5))
        # one of each kind at least
        bad_at = 0 if number == 0 else None if number == 1 else draw(st.none() | st.integers(0, len(p_bad) - 1))
        rows.append((labeled(first_error_labels(len(p_bad), bad_at), f"s{number}"), two_way(*p_bad)))
    return rows


@given(cases(), st.sampled_from([0.0, 0.2, 0.3, 0.5, 0.8, 1.0]))
def test_f1_is_that_of_the_benchmark(rows: list[Scored], threshold: float) -> None:
    assert processbench_f1(rows, threshold).f1 == pytest.approx(official_f1(rows, threshold))


@given(cases(), st.sampled_from([0.2, 0.5]), st.permutations(range(10)))
def test_f1_does_not_depend_on_the_order_of_the_solutions(
    rows: list[Scored], threshold: float, order: list[int]
) -> None:
    mixed = [rows[index] for index in order if index < len(rows)]
    assert processbench_f1(mixed, threshold) == pytest.approx(processbench_f1(rows, threshold))
    assert best_threshold(mixed) == best_threshold(rows)


def test_the_benchmark_is_the_plain_mean_over_its_subsets() -> None:
    easy = scored(([OK, B], [0.1, 0.9]), ([OK], [0.1]))
    hard = scored(([OK, B], [0.1, 0.9]), ([B], [0.1]), ([OK], [0.1]), ([OK], [0.9]), ([OK], [0.2]))
    all_wrong = scored(([OK, B], [0.1, 0.9]))
    found = processbench({"gsm8k": easy, "math": hard, "stepverify": all_wrong}, HALF)
    assert found.subsets["gsm8k"] == (1.0, 1.0, 1.0)
    error, correct = 1 / 2, 2 / 3
    hard_f1 = 2 * error * correct / (error + correct)
    assert found.subsets["math"] == pytest.approx((hard_f1, error, correct))
    assert found.subsets["stepverify"] is None
    assert found.average == pytest.approx((1 + hard_f1) / 2)
    assert found.threshold.source == "fixed 0.5"


def test_without_a_subset_of_both_kinds_there_is_no_average() -> None:
    assert processbench({"one": scored(([OK], [0.1]))}, HALF).average is None


def test_first_error_accuracy_counts_neighbours_and_right_solutions_apart() -> None:
    rows = scored(
        ([OK, OK, B, None], [0.1, 0.1, 0.9, 0.1]),  # exact
        ([OK, OK, B, None], [0.1, 0.9, 0.9, 0.1]),  # one early
        ([OK, B, None, None], [0.1, 0.1, 0.9, 0.1]),  # one late
        ([OK, OK, OK, B], [0.9, 0.1, 0.1, 0.1]),  # three early
        ([B], [0.1]),  # not seen: -1 is no neighbour of 0
        ([OK, OK], [0.1, 0.1]),  # rightly passed
    )
    assert first_error_accuracy(rows, 0.5) == pytest.approx((1 / 5, 3 / 5, 2 / 6))


@pytest.mark.parametrize("rows", [[], scored(([None, B], [0.1, 0.9]))])
def test_where_nothing_was_judged_up_to_an_error_there_is_no_accuracy(rows: list[Scored]) -> None:
    assert first_error_accuracy(rows, 0.5) == (None, None, None)


def test_a_solution_without_steps_is_no_case() -> None:
    rows = scored(([OK, B], [0.1, 0.9]), ([OK], [0.1]))
    assert processbench_f1([*rows, (labeled([], "empty"), two_way())], 0.5) == processbench_f1(rows, 0.5)


@given(cases())
def test_the_curve_holds_every_f1_that_some_threshold_reaches(rows: list[Scored]) -> None:
    thresholds, f1 = threshold_curve(rows)
    assert np.all(np.diff(thresholds) > 0)
    for threshold, value in zip(thresholds, f1, strict=True):
        assert value == pytest.approx(processbench_f1(rows, float(threshold)).f1)
    for threshold in (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 0.8, 1.0):
        assert processbench_f1(rows, threshold).f1 <= f1.max() + 1e-9


@given(cases(), st.sampled_from([0.2, 0.5]))
def test_a_statistic_at_one_draw_of_each_problem_is_the_figure(rows: list[Scored], threshold: float) -> None:
    numbers = problem_numbers(rows)
    ones = np.ones((1, len(numbers)))
    statistics = first_error_statistics(rows, threshold, numbers)
    assert statistics["f1"](ones)[0] == pytest.approx(processbench_f1(rows, threshold).f1)
    accuracy = first_error_accuracy(rows, threshold)
    for name in ("exact", "within_one", "overall"):
        assert statistics[f"first_error_{name}"](ones)[0] == pytest.approx(getattr(accuracy, name))


def test_a_problem_drawn_twice_counts_twice() -> None:
    rows = scored(([OK, B], [0.1, 0.9]), ([B], [0.1]), ([OK], [0.1]))
    statistic: Statistic = average_f1_statistic({"a": rows}, 0.5, problem_numbers(rows))
    # error accuracies 1/2 and 2/3, correct accuracy 1
    assert statistic(np.array([[1.0, 1, 1], [2, 1, 1]])) == pytest.approx([2 / 3, 4 / 5])


# --- Thresholds by problem ---


def test_each_problem_gets_the_threshold_of_the_other_folds() -> None:
    items = campaign(0)
    scores = knowing(items, 0.25)
    rows = [(item, scores[item.solution.key]) for item in items]
    folds = {item.solution.problem_key: index // 2 % 3 for index, item in enumerate(items)}
    thresholds = cross_fitted_threshold(rows, folds)
    for fold in range(3):
        others = best_threshold([row for row in rows if folds[row[0].solution.problem_key] != fold])
        assert {thresholds[key] for key, here in folds.items() if here == fold} == {others}


def test_cross_fitted_thresholds_do_not_flatter_scores_that_know_nothing() -> None:
    rng = random.Random(0)
    labels = [first_error_labels(4, rng.randrange(4) if number % 2 else None) for number in range(60)]
    rows = scored(*((row, [rng.random() for _ in row]) for row in labels))
    chosen_on_itself = processbench_f1(rows, best_threshold(rows)).f1
    assert processbench_f1(rows, cross_fitted_threshold(rows)).f1 < chosen_on_itself


def test_folds_do_not_depend_on_the_order_of_the_solutions() -> None:
    items = campaign(0)
    scores = knowing(items, 0.25)
    rows = [(item, scores[item.solution.key]) for item in items]
    assert cross_fitted_threshold(rows, 4) == cross_fitted_threshold(rows[::-1], 4)


def test_evaluate_takes_thresholds_by_problem_and_shows_their_median() -> None:
    rows = scored(([OK, B], [0.1, 0.4]), ([OK], [0.45]), ([OK], [0.1]))
    assert evaluate(rows, threshold=0.42).f1 == 0
    metrics = evaluate(rows, threshold={"s0": 0.3, "s1": 0.5, "s2": 0.9})
    assert (metrics.f1, metrics.threshold) == (1.0, 0.5)


def test_a_problem_without_a_threshold_is_named() -> None:
    rows = scored(([OK, B], [0.1, 0.4]), ([OK], [0.45]))
    with pytest.raises(ValueError, match="no threshold for the problem s1"):
        processbench_f1(rows, {"s0": 0.5})


@pytest.mark.parametrize("labels", [[OK], [B]])
def test_cross_fitting_needs_both_kinds_in_the_other_folds(labels: Labels) -> None:
    rows = scored(*[(labels, [0.5])] * 8)
    with pytest.raises(NotEnoughData, match="with an error and without"):
        cross_fitted_threshold(rows)


def test_one_fold_is_no_cross_fitting() -> None:
    with pytest.raises(ValueError, match="at least 2 folds"):
        cross_fitted_threshold(scored(([OK, B], [0.1, 0.4]), ([OK], [0.45])), 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.5])
def test_a_score_that_is_no_probability_is_an_error_that_names_the_solution(value: float) -> None:
    rows = scored(([OK, B], [0.1, 0.4]), ([OK, OK], [0.45, value]))
    for figure in (evaluate, best_threshold, lambda scored: first_error_accuracy(scored, 0.5)):
        with pytest.raises(PrmError, match="solution s1, step 2"):
            figure(rows)  # type: ignore[operator]
