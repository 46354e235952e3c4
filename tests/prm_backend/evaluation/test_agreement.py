from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation import agreement, cohen_kappa
from prm_backend.evaluation.agreement import agreement_statistics
from prm_backend.evaluation.steps import problem_numbers
from tests.prm_backend.evaluation.judged import OK, B, G, N, labeled, scored, three_way, two_way


def test_kappa_on_cohens_kind_of_table() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, by chance 0.5
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


words = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30)


@given(words)
def test_kappa_is_agreement_beyond_chance(pairs: list[tuple[str, str]]) -> None:
    first, second = zip(*pairs, strict=True)
    observed = sum(a == b for a, b in pairs) / len(pairs)
    chance = sum(first.count(word) * second.count(word) for word in "abc") / len(pairs) ** 2
    if chance == 1:
        with pytest.raises(NotEnoughData):
            cohen_kappa(first, second)
    else:
        assert cohen_kappa(first, second) == pytest.approx((observed - chance) / (1 - chance))
        assert cohen_kappa(second, first) == pytest.approx(cohen_kappa(first, second))


def test_who_only_says_not_bad_says_nothing_of_three_classes() -> None:
    rows = [
        (labeled([G, N, B], "a"), three_way((0.1, 0.2, 0.7), (0.1, 0.7, 0.2), (0.5, 0.2, 0.3))),
        (labeled([None, G], "b"), three_way((1, 0, 0), (0.45, 0.5, 0.05))),
        (labeled([OK, B], "c"), three_way((0.9, 0.1, 0.0), (0.1, 0.1, 0.8))),
    ]
    found = agreement(rows, 0.5)
    assert (found.three_class_steps, found.judged_steps) == (4, 6)
    assert found.three_class == pytest.approx(cohen_kappa([1, 0, -1, 1], [1, 0, -1, 0]))
    assert found.bad == pytest.approx(cohen_kappa([0, 0, 1, 0, 0, 1], [0, 0, 1, 0, 1, 0]))


def test_thresholds_may_be_by_problem() -> None:
    rows = scored(([OK, B], [0.1, 0.3]), ([OK, B], [0.6, 0.9]))
    assert agreement(rows, {"s0": 0.2, "s1": 0.8}).bad == 1.0


@pytest.mark.parametrize("rows", [[], scored(([OK, OK], [0.1, 0.1])), scored(([G, G], [0.1, 0.9]))])
def test_where_people_used_one_class_there_is_nothing_to_agree_on(rows: list[tuple[object, object]]) -> None:
    found = agreement(rows, 0.5)  # type: ignore[arg-type]
    assert (found.three_class, found.bad) == (None, None)


def test_a_problem_drawn_twice_counts_twice() -> None:
    rows = [(labeled([G, B], "a"), two_way(0.1, 0.9)), (labeled([G, B], "b"), two_way(0.9, 0.1))]
    statistics = agreement_statistics(rows, 0.5, problem_numbers(rows))
    # agreeing twice out of three: observed 2/3, by chance 1/2
    assert statistics["kappa_bad"](np.array([[1.0, 1.0], [2.0, 1.0]])) == pytest.approx([0, 1 / 3])
