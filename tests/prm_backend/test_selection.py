from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.policy import STRATEGIES, Policy
from prm_backend.selection import (
    NEVER,
    STRATEGY_OF,
    Candidates,
    Pick,
    draw_random,
    most_uncertain_steps,
    random_count,
    select,
    select_active,
)
from prm_backend.types import StepScores


def step_scores(bad: Sequence[float], spread: Sequence[float] | None = None) -> StepScores:
    zeros = (0.0,) * len(bad)
    return StepScores(tuple(bad), zeros, tuple(1 - p for p in bad), tuple(spread or zeros))


def pool(*solutions: tuple[str, Sequence[float], bool | None]) -> Candidates:
    """(problem, p(−) of its steps, whether the final answer is right) for each solution, keyed s0, s1, ..."""
    return Candidates.pack(
        [f"s{number}" for number in range(len(solutions))],
        [problem for problem, _, _ in solutions],
        [step_scores(bad, [p / 2 for p in bad]) if bad else None for _, bad, _ in solutions],
        [correct for _, _, correct in solutions],
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def only(name: str, per_problem: int = 1) -> Policy:
    return Policy(0.0, {name: 1.0}, per_problem)


def keys(picks: Sequence[Pick]) -> list[str]:
    return [pick.key for pick in picks]


probabilities = st.lists(st.floats(0, 1), max_size=4)
pools = st.lists(
    st.tuples(st.sampled_from("abcd"), probabilities, st.sampled_from([True, False, None])), max_size=20
).map(lambda solutions: pool(*solutions))


def capacity(candidates: Candidates, per_problem: int) -> int:
    return sum(min(per_problem, size) for size in Counter(candidates.problem.tolist()).values())


def test_every_strategy_that_a_policy_may_name_is_there() -> None:
    assert STRATEGY_OF.keys() == STRATEGIES.keys()


@pytest.mark.parametrize("name", STRATEGIES)
class TestEveryStrategy:
    """What holds for each of them."""

    @given(candidates=pools, count=st.integers(0, 25), per_problem=st.integers(1, 3), seed=st.integers(0, 5))
    def test_picks_are_distinct_as_many_as_possible_and_within_the_limit(
        self, name: str, candidates: Candidates, count: int, per_problem: int, seed: int
    ) -> None:
        picks = select(candidates, only(name, per_problem), count, rng(seed))
        assert len(picks) == min(count, capacity(candidates, per_problem))
        assert len(set(keys(picks))) == len(picks)
        problem_of = dict(zip(candidates.keys, candidates.problem.tolist(), strict=True))
        assert max(Counter(problem_of[key] for key in keys(picks)).values(), default=0) <= per_problem
        assert all(pick.arm == "active" and 0 < pick.inclusion_probability <= 1 for pick in picks)
        assert picks == select(candidates, only(name, per_problem), count, rng(seed))

    @given(candidates=pools)
    def test_scores_are_one_finite_number_for_each_solution_or_never(self, name: str, candidates: Candidates) -> None:
        scores = STRATEGY_OF[name].scores(candidates)
        assert scores.shape == (len(candidates),)
        assert not np.isnan(scores).any()
        assert ((scores == NEVER) | ((scores >= 0) & (scores <= 1 + 1e-9))).all()

    def test_the_highest_score_is_picked_first(self, name: str) -> None:
        candidates = pool(*((f"p{number}", [0.05 * number, 0.3], False) for number in range(12)))
        picks = select(candidates, only(name), 12, rng())
        found = [pick.score for pick in picks if pick.score is not None]
        assert found == sorted(found, reverse=True)
        assert len(found) == 12
        assert {pick.strategy for pick in picks} == {name}

    def test_solutions_without_scores_are_left_to_chance(self, name: str) -> None:
        candidates = pool(("a", [], False), ("b", [0.4], False), ("c", [], None))
        picks = select(candidates, only(name), 3, rng())
        assert (picks[0].key, picks[0].strategy) == ("s1", name)
        assert [(pick.arm, pick.strategy, pick.score) for pick in picks[1:]] == [("active", "random", None)] * 2

    def test_equal_solutions_are_picked_by_lot(self, name: str) -> None:
        candidates = pool(*((f"p{number}", [0.4, 0.2], False) for number in range(4)))
        first = Counter(select(candidates, only(name), 1, rng(seed))[0].key for seed in range(200))
        assert set(first) == {"s0", "s1", "s2", "s3"}
        assert min(first.values()) > 20

    def test_an_empty_pool_gives_nothing(self, name: str) -> None:
        assert select(pool(), only(name), 5, rng()) == []


# --- What each strategy looks for ---


def score_of(name: str, *bad: float, spread: Sequence[float] | None = None, correct: bool | None = False) -> float:
    candidates = Candidates.pack(["s"], ["p"], [step_scores(bad, spread)], [correct])
    return float(STRATEGY_OF[name].scores(candidates)[0])


@pytest.mark.parametrize("name", ["uncertainty", "margin"])
def test_uncertainty_is_1_at_one_half_and_0_at_certainty(name: str) -> None:
    assert score_of(name, 0.5) == pytest.approx(1)
    assert score_of(name, 0.0) == pytest.approx(0, abs=1e-9)
    assert score_of(name, 1.0) == pytest.approx(0, abs=1e-9)
    assert score_of(name, 0.3) == pytest.approx(score_of(name, 0.7))
    assert score_of(name, 0.3) > score_of(name, 0.2)


def test_a_step_counts_by_the_probability_that_it_is_reached_per_judged_step() -> None:
    # step 0 always reached, step 1 with 1 - 0.5, step 2 with 0.5 * (1 - 0.2)
    entropy = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in (0.5, 0.2, 0.9)]
    expected = (entropy[0] + 0.5 * entropy[1] + 0.4 * entropy[2]) / (1 + 0.5 + 0.4)
    assert score_of("uncertainty", 0.5, 0.2, 0.9) == pytest.approx(expected)
    spread = [0.1, 0.2, 0.3]
    expected = (0.1 + 0.5 * 0.2 + 0.4 * 0.3) / 1.9
    assert score_of("disagreement", 0.5, 0.2, 0.9, spread=spread) == pytest.approx(expected)


def test_what_comes_after_a_sure_error_does_not_count() -> None:
    assert score_of("uncertainty", 0.2, 1.0, 0.5, 0.5) == pytest.approx(score_of("uncertainty", 0.2, 1.0))


def test_repeating_a_step_earns_a_long_solution_nothing() -> None:
    assert score_of("margin", 0.4) == pytest.approx(score_of("margin", *[0.4] * 30))


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=6))
def test_solutions_in_the_packed_arrays_do_not_disturb_each_other_by_a_bit(solutions: list[list[float]]) -> None:
    packed = pool(*((f"p{number}", bad, False) for number, bad in enumerate(solutions)))
    for strategy in STRATEGY_OF.values():
        alone = [float(strategy.scores(pool(("p", bad, False)))[0]) for bad in solutions]
        assert strategy.scores(packed).tolist() == alone


def test_convincing_wrong_answers_are_those_known_to_be_wrong_by_product() -> None:
    candidates = pool(
        ("a", [0.1, 0.1], False), ("b", [0.0], True), ("c", [0.0], None), ("d", [0.5], False), ("e", [0.05], False)
    )
    picks = select(candidates, only("convincing_wrong_answer"), 3, rng())
    assert keys(picks) == ["s4", "s0", "s3"]
    assert [pick.score for pick in picks] == pytest.approx([0.95, 0.81, 0.5])


# --- The random arm ---


@pytest.mark.parametrize(("share", "count", "random"), [(0.3, 10, 3), (0.3, 1, 1), (0.1, 30, 3), (0, 9, 0), (1, 9, 9)])
def test_the_random_share_is_rounded_up(share: float, count: int, random: int) -> None:
    assert random_count(Policy(share, {"margin": 1.0}), count) == random


@pytest.mark.parametrize(("count", "per_problem"), [(3, 1), (4, 2), (2, 3), (99, 2)])
def test_inclusion_probabilities_of_the_random_arm_are_what_simulation_finds(count: int, per_problem: int) -> None:
    problems = ["a"] * 6 + ["b"] * 3 + ["c", "d"]
    candidates = pool(*((problem, [0.5], None) for problem in problems))
    times = 4000
    found: Counter[str] = Counter()
    stated: dict[str, float] = {}
    generator = rng()
    for _ in range(times):
        for pick in draw_random(candidates, count, generator, per_problem=per_problem):
            found[pick.key] += 1
            assert stated.setdefault(pick.key, pick.inclusion_probability) == pick.inclusion_probability
    assert set(found) == set(candidates.keys)
    for key, probability in stated.items():
        error = math.sqrt(probability * (1 - probability) / times)
        assert abs(found[key] / times - probability) <= 4.5 * error + 1e-9
    expected = min(count, capacity(candidates, per_problem))
    assert sum(stated.values()) == pytest.approx(expected)


def test_the_random_arm_ignores_scores_and_may_draw_what_has_none() -> None:
    low = pool(*((f"p{number}", [0.0], True) for number in range(20)))
    high = pool(*((f"p{number}", [0.5] if number % 2 else [], False) for number in range(20)))
    assert keys(draw_random(low, 7, rng())) == keys(draw_random(high, 7, rng()))


@pytest.mark.parametrize("count", [0, -3])
def test_asking_for_nothing_gives_nothing(count: int) -> None:
    candidates = pool(("a", [0.5], None))
    assert draw_random(candidates, count, rng()) == []
    assert select(candidates, Policy(0.5, {"margin": 1.0}), count, rng()) == []


# --- Mixtures ---

MIXTURE = Policy(0.3, {"disagreement": 0.6, "convincing_wrong_answer": 0.4})


def big_pool(solutions: int, per_problem: int = 4) -> Candidates:
    generator = rng(1)
    lengths = generator.integers(1, 12, solutions)
    return Candidates.pack(
        [f"s{number}" for number in range(solutions)],
        [f"p{number // per_problem}" for number in range(solutions)],
        [step_scores(generator.random(length).tolist(), generator.random(length).tolist()) for length in lengths],
        [None if draw < 0.2 else bool(draw < 0.6) for draw in generator.random(solutions)],
    )


def test_a_mixture_gives_each_arm_and_strategy_its_share() -> None:
    picks = select(big_pool(2000), MIXTURE, 100, rng())
    assert Counter((pick.arm, pick.strategy) for pick in picks) == {
        ("random", "random"): 30,
        ("active", "disagreement"): 42,
        ("active", "convincing_wrong_answer"): 28,
    }
    assert [pick.arm for pick in picks[:30]] == ["random"] * 30


def test_the_random_arm_is_drawn_before_any_strategy_looks() -> None:
    candidates = big_pool(400)
    alone = draw_random(candidates, 12, rng(5))
    assert select(candidates, MIXTURE, 40, rng(5))[:12] == alone


def test_what_one_strategy_cannot_fill_falls_to_the_others() -> None:
    candidates = pool(*((f"p{number}", [0.3], number != 0) for number in range(20)))  # one wrong answer
    policy = Policy(0.0, {"convincing_wrong_answer": 0.5, "margin": 0.5})
    assert Counter(pick.strategy for pick in select(candidates, policy, 10, rng())) == {
        "convincing_wrong_answer": 1,
        "margin": 9,
    }
    turned = Policy(0.0, {"margin": 0.5, "convincing_wrong_answer": 0.5})
    assert Counter(pick.strategy for pick in select(candidates, turned, 10, rng()))["margin"] >= 9


def test_what_no_strategy_can_fill_is_filled_by_chance_but_stays_out_of_the_random_arm() -> None:
    candidates = pool(*((f"p{number}", [0.3], True) for number in range(20)))
    picks = select(candidates, Policy(0.2, {"convincing_wrong_answer": 1.0}), 10, rng())
    assert Counter((pick.arm, pick.strategy) for pick in picks) == {("random", "random"): 2, ("active", "random"): 8}
    assert {pick.inclusion_probability for pick in picks if pick.arm == "active"} == {8 / 18}


@given(candidates=pools, count=st.integers(0, 25), per_problem=st.integers(1, 3), share=st.floats(0, 1))
def test_a_mixture_keeps_the_limits_over_both_arms(
    candidates: Candidates, count: int, per_problem: int, share: float
) -> None:
    policy = Policy(share, {"disagreement": 0.5, "convincing_wrong_answer": 0.3, "uncertainty": 0.2}, per_problem)
    picks = select(candidates, policy, count, rng())
    assert len(set(keys(picks))) == len(picks) == min(count, capacity(candidates, per_problem))
    problem_of = dict(zip(candidates.keys, candidates.problem.tolist(), strict=True))
    assert max(Counter(problem_of[key] for key in keys(picks)).values(), default=0) <= per_problem
    assert sum(pick.arm == "random" for pick in picks) == min(len(picks), random_count(policy, count))


def test_what_is_taken_already_is_not_picked_and_counts_for_its_problem() -> None:
    candidates = pool(("a", [0.5], False), ("a", [0.4], False), ("b", [0.3], False), ("b", [0.2], False))
    assert keys(select_active(candidates, only("margin"), 9, rng(), taken=["s1"])) == ["s2"]
    assert keys(select_active(candidates, only("margin", 2), 9, rng(), taken=["s1"])) == ["s0", "s2", "s3"]


# --- Packing ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keys": ["s", "s"]}, "repeat"),
        ({"keys": ["s"]}, "same length"),
        ({"scores": [step_scores([0.5]), step_scores([1.5])]}, "between 0 and 1"),
        ({"scores": [step_scores([0.5]), step_scores([math.nan])]}, "between 0 and 1"),
        ({"scores": [step_scores([0.5]), step_scores([0.5], [math.nan])]}, "spread"),
    ],
)
def test_a_pool_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {
        "keys": ["s", "t"],
        "problem_keys": ["p", "p"],
        "scores": [None, None],
        "final_answer_correct": [None, True],
    }
    with pytest.raises(ValueError, match=message):
        Candidates.pack(**(good | changes))


def test_a_hundred_thousand_solutions_take_seconds_at_most() -> None:
    count, generator = 100_000, rng(1)
    solution = np.repeat(np.arange(count), generator.integers(1, 12, count))
    candidates = Candidates(
        keys=[f"s{number}" for number in range(count)],
        problem=np.arange(count) // 4,
        wrong_answer=generator.random(count) < 0.4,
        scored=np.ones(count, bool),
        solution=solution,
        bad=generator.random(len(solution)),
        spread=generator.random(len(solution)),
    )
    started = time.process_time()
    picks = select(candidates, MIXTURE, 1000, rng())
    assert len(picks) == 1000
    assert time.process_time() - started < 3


def test_the_steps_to_ask_about_are_uncertain_and_likely_to_be_reached() -> None:
    def scores(*bad: float) -> StepScores:
        nothing = (0.0,) * len(bad)
        return StepScores(bad=bad, neutral=nothing, good=tuple(1 - p for p in bad), spread=nothing)

    assert most_uncertain_steps(scores(0.01, 0.5, 0.02, 0.45), 2) == (1, 3)
    assert most_uncertain_steps(scores(0.4, 0.99, 0.5, 0.5), 1) == (0,), "nobody gets past the second step"
    assert most_uncertain_steps(scores(0.1, 0.2), 5) == (0, 1)
