from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.evaluation import near_duplicates, without_leaks
from prm_backend.evaluation.leakage import shingles
from tests.prm_backend.evaluation.judged import G, labeled

PENCILS = (
    "Three pencils and a jumbo eraser cost 124 cents. Five pencils and a jumbo eraser cost 182 cents."
    " What does one cost?"
)


def test_the_same_problem_is_found_whatever_its_case_and_blanks() -> None:
    (leak,) = near_duplicates(["What  is ½ + X?"], ["what is ½ + x?\n"])
    assert (leak.exact, leak.similarity, leak.training_problem) == (True, 1.0, "what is ½ + x?\n")


def test_a_reworded_problem_is_found() -> None:
    reworded = PENCILS.replace("What does one cost?", "How much is one?")
    (leak,) = near_duplicates([reworded, "Something else entirely, with words of its own."], [PENCILS, "Other words."])
    assert (leak.problem, leak.training_problem, leak.exact) == (reworded, PENCILS, False)
    a, b = shingles(reworded), shingles(PENCILS)
    assert leak.similarity == pytest.approx(len(a & b) / len(a | b))
    assert leak.similarity >= 0.5


def test_the_most_similar_training_problem_is_named() -> None:
    near, nearer = PENCILS.replace("What does one", "How much does a pencil"), PENCILS.replace("one cost", "each cost")
    (leak,) = near_duplicates([PENCILS], [near, nearer])
    assert leak.training_problem == nearer


def test_other_numbers_in_a_short_problem_make_another_problem() -> None:
    assert near_duplicates(["Compute 3 + 4."], ["Compute 5 + 6."]) == []


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_empty_problems_are_like_no_other(empty: str) -> None:
    assert near_duplicates([empty], [PENCILS]) == []
    assert near_duplicates([PENCILS], [empty]) == []


words = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


@given(st.lists(words, max_size=6), st.lists(words, max_size=6), st.sampled_from([0.2, 0.5, 0.7, 1.0]))
def test_the_index_finds_exactly_what_comparing_all_pairs_finds(
    measured: list[str], training: list[str], similarity: float
) -> None:
    def jaccard(a: str, b: str) -> float:
        left, right = shingles(a), shingles(b)
        return len(left & right) / len(left | right) if left | right else 0.0

    known = {" ".join(text.split()) for text in training}
    expected = {
        text: 1.0 if text in known else max((jaccard(text, other) for other in known), default=0.0)
        for text in {" ".join(text.split()) for text in measured}
    }
    found = {leak.problem: leak.similarity for leak in near_duplicates(measured, training, similarity=similarity)}
    assert found == {text: value for text, value in expected.items() if value >= similarity}


def test_solutions_of_leaked_problems_are_left_out_and_counted() -> None:
    items = [
        labeled([G], "a", "p", text=PENCILS),
        labeled([G], "b", "p", text=PENCILS),
        labeled([G], "c", "q", text=PENCILS.replace("What does one cost?", "How much is one?")),
        labeled([G], "d", "r", text="Something else entirely, with words of its own."),
    ]
    kept, leakage = without_leaks(items, [PENCILS, "unrelated"])
    assert [item.solution.key for item in kept] == ["d"]
    assert (leakage.problems, leakage.training_problems, leakage.solutions) == (3, 2, 3)
    assert (leakage.exact, leakage.near) == (1, 1)


def test_nothing_trained_on_is_nothing_leaked() -> None:
    items = [labeled([G], "a", text=PENCILS)]
    kept, leakage = without_leaks(items, [])
    assert kept == items
    assert leakage.leaks == ()


@pytest.mark.parametrize("similarity", [0.0, -1.0, 1.1, float("nan")])
def test_a_similarity_that_means_nothing_is_refused(similarity: float) -> None:
    with pytest.raises(ValueError, match="similarity"):
        near_duplicates([], [], similarity=similarity)


@pytest.mark.slow
def test_ten_thousand_by_ten_thousand_templates_take_seconds() -> None:
    rng = random.Random(0)

    def problem() -> str:
        name, thing = (
            " ".join(rng.choices(["red", "blue", "old", "new", "tall", "Ann", "Bob"], k=3)) for _ in range(2)
        )
        numbers = [str(rng.randrange(1000)) for _ in range(6)]
        return (
            f"{name} has {numbers[0]} boxes of {numbers[1]} {thing} each, sells {numbers[2]} of them at {numbers[3]}"
            f" cents and buys {numbers[4]} more. How many are left after {numbers[5]} days?"
        )

    measured, training = ([problem() for _ in range(10_000)] for _ in range(2))
    started = time.process_time()
    leaks = near_duplicates([*measured, training[17]], training)
    assert time.process_time() - started < 30
    assert training[17] in {leak.problem for leak in leaks}
