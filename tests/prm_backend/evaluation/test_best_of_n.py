from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.evaluation import BestOfN, Candidate, best_of_n
from prm_backend.types import Solution, StepScores
from tests.prm_backend.evaluation.judged import two_way

Row = tuple[str, str | None, bool | None, tuple[float, ...]]  # problem, answer, correct, p(−)


def measured(*rows: Row, samples: int = 20) -> BestOfN:
    candidates = [
        Candidate(Solution(f"s{number}", problem, problem, ("?",) * len(p_bad)), answer, correct)
        for number, (problem, answer, correct, p_bad) in enumerate(rows)
    ]
    scores: dict[str, StepScores] = {f"s{number}": two_way(*row[3]) for number, row in enumerate(rows)}
    return best_of_n(candidates, scores, samples=samples)


def values(found: BestOfN) -> dict[str, float | None]:
    return {how: estimate.value for how, estimate in found.by_reduction.items()}


def test_each_way_to_reduce_a_solution_picks_its_own() -> None:
    rows: list[Row] = [
        ("p", "1", True, (0.3, 0.3, 0.3)),  # highest min
        ("p", "2", False, (0.0, 0.45)),  # highest product (0.55) and lowest sum
        ("p", "3", False, (0.5, 0.1, 0.0)),  # highest mean and last
    ]
    assert values(measured(*rows)) == {"product": 0, "min": 1, "mean": 0, "sum": 0, "last": 0}
    rows[2] = ("p", "3", True, (0.5, 0.1, 0.0))
    assert values(measured(*rows)) == {"product": 0, "min": 1, "mean": 1, "sum": 1, "last": 1}


def test_the_vote_the_random_pick_and_the_bound_stand_beside() -> None:
    found = measured(
        ("p", "1", False, (0.1,)), ("p", "1", False, (0.2,)), ("p", "7", True, (0.3,)),
        ("q", "2", True, (0.1,)), ("q", "2", True, (0.2,)), ("q", None, False, (0.3,)),
    )  # fmt: skip
    assert found.majority is not None
    assert (found.majority.value, found.pass_at_n.value) == (0.5, 1.0)
    assert found.random.value == pytest.approx(1 / 2)
    assert set(values(found).values()) == {0.5}
    assert (found.problems, found.solutions, found.smallest, found.largest) == (2, 6, 3, 3)


def test_equals_share_the_pick() -> None:
    found = measured(("p", "1", True, (0.2,)), ("p", "2", False, (0.2,)), ("p", "3", False, (0.9,)))
    assert found.by_reduction["min"].value == 0.5
    assert found.majority is not None
    assert found.majority.value == pytest.approx(1 / 3)


def test_ungraded_solutions_and_lonely_ones_take_no_part_and_are_counted() -> None:
    found = measured(
        ("p", "1", True, (0.5,)), ("p", "2", False, (0.9,)), ("p", "3", None, (0.0,)),
        ("q", "1", True, (0.5,)), ("q", "1", None, (0.5,)),
        ("r", "1", None, (0.5,)),
    )  # fmt: skip
    assert (found.ungraded, found.left_out, found.problems, found.solutions) == (3, 2, 1, 2)
    assert found.by_reduction["product"].value == 1.0


def test_without_answers_there_is_no_vote() -> None:
    assert measured(("p", None, True, (0.1,)), ("p", None, False, (0.2,))).majority is None


candidates = st.lists(
    st.tuples(
        st.sampled_from("pqr"),
        st.sampled_from("12") | st.none(),
        st.booleans(),
        st.lists(st.sampled_from([0.0, 0.2, 0.5, 1.0]), min_size=1, max_size=3).map(tuple),
    ),
    min_size=2,
    max_size=15,
)


@given(candidates, st.randoms(use_true_random=False))
def test_no_figure_depends_on_the_order_nor_exceeds_pass_at_n(rows: list[Row], rng: random.Random) -> None:
    try:
        found = measured(*rows)
    except NotEnoughData:
        return
    mixed = measured(*sorted(rows, key=lambda _: rng.random()))
    assert values(mixed) == pytest.approx(values(found))
    assert found.pass_at_n.value is not None
    for value in [*values(found).values(), found.random.value, found.majority and found.majority.value]:
        assert value is None or 0 <= value <= found.pass_at_n.value + 1e-9


def test_one_solution_of_a_problem_is_no_choice() -> None:
    with pytest.raises(NotEnoughData, match="at least two graded"):
        measured(("p", "1", True, (0.1,)), ("q", "1", True, (0.1,)))
    with pytest.raises(NotEnoughData):
        measured()


@pytest.mark.parametrize("p_bad", [(), (float("nan"),)])
def test_a_solution_that_cannot_be_reduced_is_named(p_bad: tuple[float, ...]) -> None:
    with pytest.raises(PrmError, match="solution s1"):
        measured(("p", "1", True, (0.1,)), ("p", "1", True, p_bad))


def test_the_interval_goes_by_problem() -> None:
    rows: list[Row] = [
        (f"p{number}", None, correct, (p,))
        for number in range(40)
        for correct, p in ((number % 2 == 0, 0.1), (False, 0.9))
    ]
    estimate = measured(*rows, samples=500).by_reduction["product"]
    assert estimate.value == 0.5
    assert estimate.lower is not None
    assert estimate.upper is not None
    # binomial with 40 trials: ± 1.96 · 0.079
    assert estimate.lower == pytest.approx(0.345, abs=0.04)
    assert estimate.upper == pytest.approx(0.655, abs=0.04)
