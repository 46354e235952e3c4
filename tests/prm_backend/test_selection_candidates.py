from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import pytest

from prm_backend.policy import EVERY_STRATEGY, Policy
from prm_backend.selection import Candidates, count_labelings, select
from prm_backend.types import StepScores


def step_scores(bad: list[float], spread: list[float] | None = None) -> StepScores:
    zeros = (0.0,) * len(bad)
    return StepScores(tuple(bad), zeros, tuple(1 - p for p in bad), tuple(spread or zeros))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ["s", "s"]}, "repeat"),
        ({"keys": ["s"]}, "same length"),
        ({"scores": [step_scores([0.5]), step_scores([1.5])]}, "t: .*between 0 and 1"),
        ({"scores": [step_scores([0.5]), step_scores([math.nan])]}, "t: .*between 0 and 1"),
        ({"scores": [None, step_scores([0.5], [math.nan])]}, "t: the spread"),
        ({"scores": [None, step_scores([0.5], [math.inf])]}, "t: the spread"),
        ({"features": [[1.0, 2.0], [math.nan, 0.0]]}, "t: features: must be finite"),
        ({"features": [[1.0, 2.0], [-math.inf, math.inf]]}, "t: features: must be finite"),
        ({"features": [1.0, 2.0]}, r"features must have shape \(2, d\)"),
        ({"features": [[1.0]]}, r"features must have shape \(2, d\)"),
        ({"labelings": [1, 1]}, "together"),
        ({"labelings": [1, 1], "errors_found": [0, 2]}, "t: errors_found"),
        ({"labelings": [1, 1], "errors_found": [-1, 0]}, "s: errors_found"),
        ({"labelings": [1], "errors_found": [1]}, "labelings must have one entry for each solution: 2"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused_and_the_solution_named(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "keys": ["s", "t"],
        "problem_keys": ["p", "p"],
        "scores": [None, None],
        "final_answer_correct": [None, True],
    }
    assert len(Candidates.pack(**good)) == 2
    with pytest.raises(ValueError, match=message):
        Candidates.pack(**(good | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lengths": [2, 2]}, "promise 4 steps, but there are 3"),
        ({"lengths": [4, -1]}, "lengths must be one number from 0"),
        ({"lengths": [3]}, "scored must have one entry for each solution"),
        ({"spread": [0.0]}, "1 of its spread"),
        ({"problem": [0]}, "problem must have one entry"),
        ({"wrong_answer": [True]}, "wrong_answer must have one entry"),
        ({"bad": [0.1, 0.2, -0.1]}, "t: .*between 0 and 1"),
    ],
)
def test_flat_arrays_that_do_not_fit_together_are_refused(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"keys": ["s", "t"], "problem": [7, 7], "lengths": [2, 1], "bad": [0.1, 0.2, 0.3]}
    assert len(Candidates.of_arrays(**good)) == 2
    with pytest.raises(ValueError, match=message):
        Candidates.of_arrays(**(good | changes))


def test_flat_arrays_give_the_same_pool_as_step_scores() -> None:
    packed = Candidates.pack(
        ["s", "t", "u"],
        ["p", "q", "p"],
        [step_scores([0.1, 0.2], [0.0, 0.3]), None, step_scores([0.4], [0.1])],
        [False, None, True],
        features=[[1, 2], [3, 4], [5, 6]],
    )
    flat = Candidates.of_arrays(
        ["s", "t", "u"],
        np.array([-5, 10**12, -5]),  # any numbers will do
        np.array([2, 0, 1]),
        np.array([0.1, 0.2, 0.4]),
        np.array([0.0, 0.3, 0.1]),
        wrong_answer=np.array([True, False, False]),
        features=np.array([[1, 2], [3, 4], [5, 6]]),
    )
    for name in ("problem", "wrong_answer", "scored", "solution", "bad", "spread", "features"):
        assert np.array_equal(getattr(packed, name), getattr(flat, name)), name
        assert getattr(packed, name).dtype == getattr(flat, name).dtype


def test_one_very_long_solution_among_short_ones_is_packed_as_it_is() -> None:
    lengths = [1, 5000, 0, 2]
    bad = np.full(sum(lengths), 0.001)
    candidates = Candidates.of_arrays(["a", "b", "c", "d"], range(4), lengths, bad)
    assert candidates.solution_score() == pytest.approx([0.999, 0.999**5000, 1.0, 0.999**2])
    assert candidates.reached()[[0, 1, 5000, 5001, 5002]] == pytest.approx([1, 1, 0.999**4999, 1, 0.999])


def test_labelings_are_those_of_the_solution_or_else_of_its_problem() -> None:
    said = [("s", "p", True), ("s", "p", False), ("gone", "p", True), ("gone", "q", True), ("gone too", "q", False)]
    labelings, errors_found = count_labelings(["s", "t", "u", "v"], ["p", "p", "q", "r"], said)
    assert labelings.tolist() == [2, 3, 2, 0]
    assert errors_found.tolist() == [1, 2, 1, 0]
    assert count_labelings([], [], said)[0].shape == (0,)


def big_pool(count: int, dimensions: int) -> Candidates:
    generator = np.random.default_rng(1)
    lengths = generator.integers(1, 12, count)
    return Candidates.of_arrays(
        [f"s{number}" for number in range(count)],
        np.arange(count) // 4,
        lengths,
        generator.random(lengths.sum()),
        generator.random(lengths.sum()),
        wrong_answer=generator.random(count) < 0.4,
        features=generator.standard_normal((count, dimensions), np.float32),
        labelings=np.ones(count),
        errors_found=generator.random(count) < 0.5,
    )


def test_fifty_thousand_solutions_take_a_moment_whatever_the_policy() -> None:
    candidates = big_pool(50_000, 16)
    started = time.process_time()
    for name in EVERY_STRATEGY:
        assert len(select(candidates, Policy(0.2, {name: 1.0}), 300, np.random.default_rng(0))) == 300
    assert time.process_time() - started < 15  # 2 s on an idle core
