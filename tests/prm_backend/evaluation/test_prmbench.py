from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.evaluation import Scored, labels_of_error_steps, prm_score
from prm_backend.evaluation.prmbench import prm_score_statistic
from prm_backend.evaluation.steps import problem_numbers
from tests.prm_backend.evaluation.judged import OK, B, labeled, scored, three_way, two_way


def test_error_steps_are_counted_from_one() -> None:
    assert labels_of_error_steps([1, 3], 3) == (B, OK, B)
    assert labels_of_error_steps([], 2) == (OK, OK)


@pytest.mark.parametrize("step", [0, 4, -1])
def test_an_error_step_that_is_not_there_is_refused(step: int) -> None:
    with pytest.raises(PrmError, match=f"error_steps has {step}, but there are 3 steps, counted from 1"):
        labels_of_error_steps([step], 3)


def test_the_score_is_the_mean_of_two_f1_over_pooled_steps() -> None:
    rows = scored(
        ([OK, B, OK, B], [0.1, 0.9, 0.6, 0.2]),  # passed, found, false alarm, missed
        ([OK, OK], [0.1, 0.2]),  # passed twice
    )
    score = prm_score(rows)
    correct = 2 * 3 / (2 * 3 + 1 + 1)
    error = 2 * 1 / (2 * 1 + 1 + 1)
    assert score.overall == pytest.approx(((correct + error) / 2, correct, error))


def slow_prm_score(rows: list[Scored]) -> float:
    """Precision and recall of both kinds of steps, as the benchmark's evaluation writes them out."""
    pairs = [
        (label is not B, p_bad < 0.5)
        for item, scores in rows
        for label, p_bad in zip(item.labels, scores.bad, strict=True)
    ]
    f1 = []
    for kind in (True, False):
        both = sum(truth == said == kind for truth, said in pairs)
        if both == 0:
            f1.append(0.0)
            continue
        precision = both / sum(said == kind for _, said in pairs)
        recall = both / sum(truth == kind for truth, _ in pairs)
        f1.append(2 * precision * recall / (precision + recall))
    return sum(f1) / 2


@given(st.lists(st.tuples(st.sampled_from([OK, B]), st.sampled_from([0.1, 0.5, 0.9])), min_size=1, max_size=12))
def test_the_score_is_that_of_the_benchmark(steps: list[tuple[object, float]]) -> None:
    rows = scored(*[([label], [p]) for label, p in steps], ([OK, B], [0.1, 0.9]))  # type: ignore[list-item]
    assert prm_score(rows).overall.prm_score == pytest.approx(slow_prm_score(rows))


def test_superfluous_steps_may_be_told_by_the_neutral_class() -> None:
    steps = three_way((0.1, 0.1, 0.8), (0.1, 0.2, 0.7))
    rows = [(labeled([OK, B], "r"), steps), (labeled([OK, B], "d"), two_way(0.1, 0.9))]
    classes = {"r": "redundency", "d": "deception"}
    by_neutral = prm_score(rows, class_of=classes, redundancy_threshold=0.15)
    assert by_neutral.classes["redundency"].prm_score == 1.0
    assert by_neutral.classes["deception"].prm_score == 1.0
    by_bad = prm_score(rows, class_of=classes)
    assert by_bad.classes["redundency"] == pytest.approx((1 / 3, 2 / 3, 0.0))


def test_the_overall_score_pools_steps_rather_than_classes() -> None:
    rows = scored(([OK] * 8 + [B], [0.1] * 8 + [0.9]), ([B], [0.1]))
    found = prm_score(rows, class_of={"s0": "a", "s1": "b"})
    assert found.overall == pytest.approx(((16 / 17 + 2 / 3) / 2, 16 / 17, 2 / 3))
    assert found.classes["a"].prm_score == 1.0


def test_a_class_whose_steps_are_all_right_and_passed_has_no_score() -> None:
    assert prm_score(scored(([OK, OK], [0.1, 0.2]))).overall == (None, 1.0, None)


@pytest.mark.parametrize("rows", [[], scored(([None], [0.5]))])
def test_nothing_judged_is_not_enough_data(rows: list[Scored]) -> None:
    with pytest.raises(NotEnoughData):
        prm_score(rows)


def test_a_problem_drawn_twice_counts_twice() -> None:
    rows = scored(([OK, B], [0.1, 0.9]), ([B], [0.1]))
    statistic = prm_score_statistic(rows, problem_numbers(rows), class_of={}, threshold=0.5, redundancy_threshold=None)
    twice = prm_score([rows[0], rows[0], rows[1]]).overall.prm_score
    assert statistic(np.array([[2.0, 1.0]]))[0] == pytest.approx(twice)
