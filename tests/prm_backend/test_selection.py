from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prm_backend.policy import CONVINCING, EVERY_STRATEGY, Policy
from prm_backend.selection import (
    NEVER,
    STRATEGY_OF,
    Candidates,
    Pick,
    SelectionError,
    Strategy,
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
    """(problem, p(−) of its steps, whether the final answer is right) for each solution, keyed s0, s1, ... Equal
    solutions have equal features, and each has three labelings, two of which found an error."""
    return Candidates.pack(
        [f"s{number}" for number in range(len(solutions))],
        [problem for problem, _, _ in solutions],
        [step_scores(bad, [p / 2 for p in bad]) if bad else None for _, bad, _ in solutions],
        [correct for _, _, correct in solutions],
        features=np.array([[sum(bad), len(bad)] for _, bad, _ in solutions]).reshape(-1, 2),
        labelings=[3] * len(solutions),
        errors_found=[2] * len(solutions),
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def only(name: str, per_problem: int = 1) -> Policy:
    return Policy(0.0, {name: 1.0}, per_problem)


def policy_named(name: str, per_problem: int = 1) -> Policy:
    random_share, strategies, diverse_among = POLICIES[name]
    return Policy(random_share, strategies, per_problem, diverse_among)


def keys(picks: Sequence[Pick]) -> list[str]:
    return [pick.key for pick in picks]


probabilities = st.lists(st.floats(0, 1), max_size=4)
pools = st.lists(
    st.tuples(st.sampled_from("abcd"), probabilities, st.sampled_from([True, False, None])), max_size=20
).map(lambda solutions: pool(*solutions))


def capacity(candidates: Candidates, per_problem: int) -> int:
    return sum(min(per_problem, size) for size in Counter(candidates.problem.tolist()).values())


def problem_of(candidates: Candidates) -> dict[str, int]:
    return dict(zip(candidates.keys, candidates.problem.tolist(), strict=True))


def test_every_strategy_that_a_policy_may_name_is_there() -> None:
    assert STRATEGY_OF.keys() == EVERY_STRATEGY.keys()


POLICIES = {
    "random": (1.0, {}, 1),
    **{name: (0.0, {name: 1.0}, 1) for name in EVERY_STRATEGY},
    **{f"{name}, spread out": (0.0, {name: 1.0}, 4) for name in ("uncertainty", "disagreement", "human_disagreement")},
    "80/20": (0.0, CONVINCING, 1),
    "mixture": (0.3, {"disagreement": 0.5, "convincing_wrong_answer": 0.3, "diversity": 0.2}, 3),
}


@pytest.mark.parametrize("name", POLICIES)
class TestEveryPolicy:
    """What holds for uniform random, for each strategy alone, with features spreading its picks, and for mixtures."""

    @settings(max_examples=40)  # times the policies
    @given(candidates=pools, count=st.integers(0, 25), per_problem=st.integers(1, 3), seed=st.integers(0, 5))
    def test_picks_are_distinct_as_many_as_possible_within_the_limit_and_repeatable(
        self, name: str, candidates: Candidates, count: int, per_problem: int, seed: int
    ) -> None:
        policy = policy_named(name, per_problem)
        picks = select(candidates, policy, count, rng(seed))
        assert len(set(keys(picks))) == len(picks) == min(count, capacity(candidates, per_problem))
        problems = problem_of(candidates)
        assert max(Counter(problems[key] for key in keys(picks)).values(), default=0) <= per_problem
        assert all(0 < pick.inclusion_probability <= 1 for pick in picks)
        assert picks == select(candidates, policy, count, rng(seed))
        assert sum(pick.arm == "random" for pick in picks) == min(len(picks), random_count(policy, count))

    @settings(max_examples=40)  # times the policies
    @given(candidates=pools, seed=st.integers(0, 5))
    def test_what_has_no_scores_is_picked_by_chance_alone(self, name: str, candidates: Candidates, seed: int) -> None:
        scored = dict(zip(candidates.keys, candidates.scored.tolist(), strict=True))
        for pick in select(candidates, policy_named(name, 3), 9, rng(seed)):
            assert (pick.score is None) == (pick.strategy == "random")
            assert pick.score is None or math.isfinite(pick.score)
            assert pick.strategy == "random" or scored[pick.key]

    def test_an_empty_pool_gives_nothing(self, name: str) -> None:
        assert select(pool(), policy_named(name), 5, rng()) == []

    @pytest.mark.parametrize("count", [0, -3])
    def test_asking_for_nothing_gives_nothing(self, name: str, count: int) -> None:
        assert select(pool(("a", [0.5], None)), policy_named(name), count, rng()) == []

    def test_another_seed_breaks_ties_another_way(self, name: str) -> None:
        candidates = pool(*((f"p{number}", [0.4, 0.2], False) for number in range(60)))
        assert len({tuple(keys(select(candidates, policy_named(name), 5, rng(seed)))) for seed in range(5)}) == 5


@pytest.mark.parametrize("name", EVERY_STRATEGY)
class TestEveryStrategy:
    """What holds for each of them."""

    @given(candidates=pools)
    def test_scores_are_one_finite_number_for_each_solution_or_never(self, name: str, candidates: Candidates) -> None:
        scores = STRATEGY_OF[name].scores(candidates)
        assert scores.shape == (len(candidates),)
        assert not np.isnan(scores).any()
        assert ((scores == NEVER) | ((scores >= -1e-9) & (scores <= 1 + 1e-9))).all()

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


@pytest.mark.parametrize("name", sorted(EVERY_STRATEGY.keys() - {"diversity"}))
def test_where_the_lot_decided_between_equal_scores_its_chance_is_recorded(name: str) -> None:
    candidates = pool(*((f"p{number}", [0.4, 0.2], False) for number in range(8)))
    assert {pick.inclusion_probability for pick in select(candidates, only(name), 2, rng())} == {2 / 8}
    different = pool(*((f"p{number}", [0.31 + 0.01 * number], False) for number in range(8)))
    assert {pick.inclusion_probability for pick in select(different, only(name), 2, rng())} == {1}


def test_a_strategy_that_answers_nan_picks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Strategy):
        def scores(self, candidates: Candidates) -> npt.NDArray[np.float64]:
            return np.where(np.arange(len(candidates)) == 1, 0.5, np.nan)

    monkeypatch.setitem(STRATEGY_OF, "margin", Broken())
    picks = select(pool(*((f"p{number}", [0.4], False) for number in range(5))), only("margin"), 3, rng())
    assert [(pick.key, pick.score) for pick in picks if pick.strategy == "margin"] == [("s1", 0.5)]


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


def test_least_confidence_is_the_chance_of_all_but_the_likeliest_outcome_per_judged_step() -> None:
    # first error at step 0: 0.5, at step 1: 0.5 * 0.2, at step 2: 0.4 * 0.9, none: 0.4 * 0.1
    assert score_of("least_confidence", 0.5, 0.2, 0.9) == pytest.approx((1 - 0.5) / (1 + 0.5 + 0.4))
    assert score_of("least_confidence", 0.1, 0.1) == pytest.approx((1 - 0.81) / 1.9)
    assert score_of("least_confidence", 0.5) == pytest.approx(0.5)
    assert score_of("least_confidence", 0.0, 0.0) == score_of("least_confidence", 1.0, 0.5) == 0


def test_uncertainty_over_the_steps_is_the_entropy_of_where_the_first_error_is() -> None:
    bad = (0.5, 0.2, 0.9)
    outcomes = (0.5, 0.5 * 0.2, 0.4 * 0.9, 0.4 * 0.1)
    entropy = -sum(p * math.log2(p) for p in outcomes)
    assert score_of("uncertainty", *bad) == pytest.approx(entropy / (1 + 0.5 + 0.4))


def test_80_20_is_convincing_wrong_answers_and_the_most_convincing_of_the_rest() -> None:
    wrong = [("w" + str(number), [0.3 + 0.01 * number], False) for number in range(20)]
    right = [("r" + str(number), [0.01 * number], True) for number in range(20)]
    picks = select(pool(*wrong, *right), Policy(0.0, CONVINCING), 10, rng())
    assert keys(picks) == [*(f"s{number}" for number in range(8)), "s20", "s21"]


def human(*rows: tuple[float, int, int]) -> Candidates:
    """(p(−) of its only step, labelings, errors found) for each solution."""
    return Candidates.of_arrays(
        [f"s{number}" for number in range(len(rows))],
        range(len(rows)),
        [1] * len(rows),
        [bad for bad, _, _ in rows],
        labelings=[labelings for _, labelings, _ in rows],
        errors_found=[found for _, _, found in rows],
    )


def test_human_disagreement_grows_with_the_distance_and_with_how_many_said_so() -> None:
    candidates = human((0.1, 1, 1), (0.1, 3, 3), (0.1, 1, 0), (0.9, 1, 0), (0.5, 2, 1), (0.3, 0, 0))
    scores = STRATEGY_OF["human_disagreement"].scores(candidates)
    assert scores.tolist() == pytest.approx([0.9 / 2, 3 * 0.9 / 4, 0.1 / 2, 0.9 / 2, 0.0, NEVER])
    assert keys(select(candidates, only("human_disagreement"), 1, rng())) == ["s1"]


def test_human_disagreement_counts_per_judged_step() -> None:
    labeled = {"labelings": [1, 1], "errors_found": [1, 1]}
    candidates = Candidates.of_arrays(["short", "long"], [0, 1], [1, 3], [0.0] * 4, **labeled)
    assert STRATEGY_OF["human_disagreement"].scores(candidates).tolist() == pytest.approx([1 / 2, 1 / 6])


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (only("human_disagreement"), "human_disagreement: the candidates carry no labelings"),
        (only("diversity"), "diversity: the candidates carry no features"),
        (Policy(0.0, {"margin": 1.0}, diverse_among=4), "margin: the candidates carry no features"),
    ],
)
def test_a_strategy_says_what_it_misses(policy: Policy, message: str) -> None:
    candidates = Candidates.of_arrays(["s", "t"], [0, 1], [1, 1], [0.5, 0.4])
    with pytest.raises(SelectionError, match=message):
        select(candidates, policy, 1, rng())


# --- Inclusion probabilities ---


def simulated(draw: Callable[[np.random.Generator], list[Pick]], times: int = 4000) -> dict[str, float]:
    """What is stated for each solution that comes up, held against how often it does."""
    found: Counter[str] = Counter()
    stated: dict[str, float] = {}
    generator = rng()
    for _ in range(times):
        for pick in draw(generator):
            found[pick.key] += 1
            assert stated.setdefault(pick.key, pick.inclusion_probability) == pick.inclusion_probability
    for key, probability in stated.items():
        error = math.sqrt(probability * (1 - probability) / times)
        assert abs(found[key] / times - probability) <= 4.5 * error + 1e-9, key
    return stated


@pytest.mark.parametrize(
    ("solutions", "count", "per_problem", "expected"),
    [
        # two equal scores in one problem, room for one
        ([("a", 0.4), ("a", 0.4), ("b", 0.1)], 2, 1, {"s0": 1 / 2, "s1": 1 / 2, "s2": 1}),
        # an equal score whose rival's problem has no room
        ([("a", 0.5), ("a", 0.3), ("b", 0.3)], 2, 1, {"s0": 1, "s2": 1}),
        # both lots: within a problem, then between problems
        ([("a", 0.4), ("a", 0.4), ("b", 0.4)], 1, 1, {"s0": 1 / 4, "s1": 1 / 4, "s2": 1 / 2}),
        # room for two of three, of which one is better
        ([("a", 0.5), ("a", 0.3), ("a", 0.3), ("b", 0.3)], 2, 2, {"s0": 1, "s1": 1 / 4, "s2": 1 / 4, "s3": 1 / 2}),
    ],
)
def test_inclusion_probabilities_of_equal_scores_are_what_simulation_finds(
    solutions: list[tuple[str, float]], count: int, per_problem: int, expected: dict[str, float]
) -> None:
    candidates = pool(*((problem, [bad], False) for problem, bad in solutions))
    policy = only("margin", per_problem)
    stated = simulated(lambda generator: select(candidates, policy, count, generator))
    assert stated == pytest.approx(expected)


def test_inclusion_probabilities_of_what_chance_fills_up_are_what_simulation_finds() -> None:
    candidates = pool(*(("a", [], None) for _ in range(10)), ("b", [], None), ("c", [], None))
    stated = simulated(lambda generator: select(candidates, only("margin"), 2, generator))
    assert set(stated) == set(candidates.keys)
    assert stated["s0"] == pytest.approx(1 / 10 * 2 / 3)
    assert stated["s11"] == pytest.approx(2 / 3)


# --- The random arm ---


@pytest.mark.parametrize(("share", "count", "random"), [(0.3, 10, 3), (0.3, 1, 1), (0.1, 30, 3), (0, 9, 0), (1, 9, 9)])
def test_the_random_share_is_rounded_up(share: float, count: int, random: int) -> None:
    assert random_count(Policy(share, {"margin": 1.0}), count) == random


@pytest.mark.parametrize(("count", "per_problem"), [(3, 1), (4, 2), (2, 3), (99, 2)])
def test_inclusion_probabilities_of_the_random_arm_are_what_simulation_finds(count: int, per_problem: int) -> None:
    problems = ["a"] * 6 + ["b"] * 3 + ["c", "d"]
    candidates = pool(*((problem, [0.5], None) for problem in problems))
    stated = simulated(lambda generator: draw_random(candidates, count, generator, per_problem=per_problem))
    assert set(stated) == set(candidates.keys)
    expected = min(count, capacity(candidates, per_problem))
    assert sum(stated.values()) == pytest.approx(expected)


def test_the_random_arm_ignores_scores_and_may_draw_what_has_none() -> None:
    low = pool(*((f"p{number}", [0.0], True) for number in range(20)))
    high = pool(*((f"p{number}", [0.5] if number % 2 else [], False) for number in range(20)))
    assert keys(draw_random(low, 7, rng())) == keys(draw_random(high, 7, rng()))


@pytest.mark.parametrize("count", [0, -3])
def test_drawing_nothing_gives_nothing(count: int) -> None:
    assert draw_random(pool(("a", [0.5], None)), count, rng()) == []


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


@given(candidates=pools, count=st.integers(0, 25), share=st.floats(0, 1))
def test_a_mixture_keeps_its_random_share_whatever_it_is(candidates: Candidates, count: int, share: float) -> None:
    policy = Policy(share, {"disagreement": 0.5, "convincing_wrong_answer": 0.3, "uncertainty": 0.2}, 2)
    picks = select(candidates, policy, count, rng())
    assert len(set(keys(picks))) == len(picks) == min(count, capacity(candidates, 2))
    assert sum(pick.arm == "random" for pick in picks) == min(len(picks), random_count(policy, count))


def test_what_is_taken_already_is_not_picked_and_counts_for_its_problem() -> None:
    candidates = pool(("a", [0.5], False), ("a", [0.4], False), ("b", [0.3], False), ("b", [0.2], False))
    assert keys(select_active(candidates, only("margin"), 9, rng(), taken=["s1"])) == ["s2"]
    assert keys(select_active(candidates, only("margin", 2), 9, rng(), taken=["s1"])) == ["s0", "s2", "s3"]


def test_the_steps_to_ask_about_are_uncertain_and_likely_to_be_reached() -> None:
    def scores(*bad: float) -> StepScores:
        nothing = (0.0,) * len(bad)
        return StepScores(bad=bad, neutral=nothing, good=tuple(1 - p for p in bad), spread=nothing)

    assert most_uncertain_steps(scores(0.01, 0.5, 0.02, 0.45), 2) == (1, 3)
    assert most_uncertain_steps(scores(0.4, 0.99, 0.5, 0.5), 1) == (0,), "nobody gets past the second step"
    assert most_uncertain_steps(scores(0.1, 0.2), 5) == (0, 1)
