from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.baselines import majority_baseline, position_baseline, position_scores
from prm_backend.errors import NotEnoughData
from prm_backend.evaluation import (
    Verdict,
    best_threshold,
    compare,
    evaluate,
    first_error,
    processbench_f1,
    step_auroc,
)
from prm_backend.formats import read_records
from prm_backend.types import LabeledSolution, Solution, StepLabel, StepScores, problem_key

SHARED = Path(__file__).parents[3] / "shared" / "data"
B, N, G, OK = StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.GOOD, StepLabel.NOT_BAD
Labels = Sequence[StepLabel | None]


def scores(*p_bad: float) -> StepScores:
    zeros = (0.0,) * len(p_bad)
    return StepScores(p_bad, zeros, tuple(1 - p for p in p_bad), zeros)


def labeled(labels: Labels, key: str = "s", problem: str | None = None, weight: float = 1.0) -> LabeledSolution:
    solution = Solution(key, problem or key, "?", tuple(f"step {index}" for index in range(len(labels))))
    return LabeledSolution(solution, tuple(labels), weight)


def scored(*rows: tuple[Labels, Sequence[float]]) -> list[tuple[LabeledSolution, StepScores]]:
    return [(labeled(labels, f"s{number}"), scores(*p_bad)) for number, (labels, p_bad) in enumerate(rows)]


# --- Step AUROC ---


@pytest.mark.parametrize(
    ("p_bad", "is_bad", "auroc"),
    [
        ([0.1, 0.9], [False, True], 1.0),
        ([0.9, 0.1], [False, True], 0.0),
        ([0.5, 0.5], [False, True], 0.5),
        ([0.1, 0.4, 0.35, 0.8], [False, False, True, True], 0.75),
        ([0.2, 0.2, 0.2, 0.7], [True, False, False, False], 1 / 3),
    ],
)
def test_step_auroc_on_cases_done_by_hand(p_bad: list[float], is_bad: list[bool], auroc: float) -> None:
    assert step_auroc(p_bad, is_bad) == pytest.approx(auroc)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.booleans(), st.integers(1, 3)), min_size=1))
def test_step_auroc_is_the_share_of_pairs_in_order_with_ties_counting_half(
    steps: list[tuple[float, bool, int]],
) -> None:
    pairs = [
        ((bad > fine) + (bad == fine) / 2, w * v)
        for bad, is_bad, w in steps
        for fine, other, v in steps
        if is_bad and not other
    ]
    p_bad, is_bad, weight = ([step[column] for step in steps] for column in range(3))
    if pairs:
        expected = sum(order * weight for order, weight in pairs) / sum(weight for _, weight in pairs)
        assert step_auroc(p_bad, is_bad, weight) == pytest.approx(expected)  # type: ignore[arg-type]
    else:
        with pytest.raises(NotEnoughData):
            step_auroc(p_bad, is_bad, weight)  # type: ignore[arg-type]


@pytest.mark.parametrize("is_bad", [[True, True], [False, False], []])
def test_step_auroc_needs_both_classes(is_bad: list[bool]) -> None:
    with pytest.raises(NotEnoughData, match="bad steps and others"):
        step_auroc([0.5] * len(is_bad), is_bad)


# --- ProcessBench ---


@pytest.mark.parametrize(("threshold", "index"), [(0.1, 0), (0.2, 0), (0.3, 1), (0.7, 1), (0.71, -1)])
def test_the_first_error_is_the_first_step_at_or_above_the_threshold(threshold: float, index: int) -> None:
    assert first_error(scores(0.2, 0.7, 0.7), threshold) == index


def test_f1_is_the_harmonic_mean_of_two_accuracies() -> None:
    rows = scored(
        ([OK, B, None], [0.1, 0.9, 0.9]),  # found
        ([OK, B, None], [0.8, 0.9, 0.1]),  # alarm too early
        ([B, None, None], [0.2, 0.9, 0.9]),  # alarm too late
        ([G, N], [0.1, 0.2]),  # rightly silent
        ([OK, OK], [0.1, 0.6]),  # false alarm
    )
    f1 = processbench_f1(rows, 0.5)
    assert (f1.error_accuracy, f1.correct_accuracy) == pytest.approx((1 / 3, 1 / 2))
    assert f1.f1 == pytest.approx(0.4)


def test_solutions_not_judged_up_to_the_first_error_do_not_count_for_f1() -> None:
    rows = scored(([OK, B], [0.1, 0.9]), ([OK, OK], [0.1, 0.2]))
    gaps = scored(([None, B], [0.9, 0.9]), ([OK, None], [0.9, 0.9]), ([None], [0.9]))
    assert processbench_f1(rows + gaps, 0.5) == processbench_f1(rows, 0.5)


@pytest.mark.parametrize("labels", [[OK, OK], [OK, B]])
def test_f1_needs_solutions_with_and_without_an_error(labels: Labels) -> None:
    rows = scored((labels, [0.1, 0.9]))
    with pytest.raises(NotEnoughData, match="with an error and without"):
        processbench_f1(rows, 0.5)
    with pytest.raises(NotEnoughData):
        best_threshold(rows)


probabilities = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 0.9, 1.0]) | st.floats(0, 1)


@st.composite
def judged(draw: st.DrawFn) -> tuple[LabeledSolution, StepScores]:
    p_bad = draw(st.lists(probabilities, min_size=1, max_size=5))
    bad_at = draw(st.none() | st.integers(0, len(p_bad) - 1))
    labels = [OK] * len(p_bad) if bad_at is None else [OK] * bad_at + [B] + [None] * (len(p_bad) - bad_at - 1)
    return labeled(labels, weight=draw(st.sampled_from([0.5, 1.0]))), scores(*p_bad)


@given(st.lists(judged(), min_size=2, max_size=12), st.floats(0, 1))
def test_no_threshold_has_a_higher_f1_than_the_best_one(
    rows: list[tuple[LabeledSolution, StepScores]], other: float
) -> None:
    try:
        best = best_threshold(rows)
    except NotEnoughData:
        return
    assert processbench_f1(rows, best).f1 >= processbench_f1(rows, other).f1 - 1e-9


@given(judged(), st.floats(0, 1))
def test_f1_counts_a_solution_as_right_exactly_where_the_first_error_is_named(
    row: tuple[LabeledSolution, StepScores], threshold: float
) -> None:
    item, step_scores = row
    is_wrong = B in item.labels
    other = labeled([OK] if is_wrong else [B])
    f1 = processbench_f1([row, (other, scores(0.5))], threshold)
    truth = item.labels.index(B) if is_wrong else -1
    accuracy = f1.error_accuracy if is_wrong else f1.correct_accuracy
    assert accuracy == (first_error(step_scores, threshold) == truth)


def test_the_best_threshold_lies_between_the_scores_it_separates() -> None:
    assert best_threshold(scored(([OK, B], [0.2, 0.8]), ([OK], [0.4]))) == pytest.approx(0.6)


# --- One PRM ---


def test_evaluate_counts_what_it_measured_and_is_json() -> None:
    rows = [
        (labeled([G, B, None], "a", "p"), scores(0.1, 0.8, 0.9)),
        (labeled([N, G, None], "b", "p"), scores(0.2, 0.3, 0.9)),
        (labeled([OK], "c", "q"), scores(0.4)),
        (labeled([None], "d", "r"), scores(0.4)),
    ]
    metrics = evaluate(rows, threshold=0.5)
    assert (metrics.judged_steps, metrics.bad_steps, metrics.solutions, metrics.problems) == (5, 1, 3, 2)
    assert (metrics.step_auroc, metrics.f1, metrics.threshold) == (1.0, 1.0, 0.5)
    assert json.loads(json.dumps(metrics.as_dict()))["judged_steps"] == 5


def test_what_cannot_be_computed_is_none() -> None:
    metrics = evaluate(scored(([G, G], [0.1, 0.2])), threshold=0.5)
    assert (metrics.step_auroc, metrics.f1) == (None, None)
    assert metrics.ece == pytest.approx(0.15)
    assert evaluate(scored(([G, B], [0.1, 0.2]), ([G], [0.1]))).f1 is None


@pytest.mark.parametrize("rows", [[], scored(([None, None], [0.1, 0.2]))])
def test_nothing_judged_is_not_enough_data(rows: list[tuple[LabeledSolution, StepScores]]) -> None:
    with pytest.raises(NotEnoughData, match="not one step"):
        evaluate(rows)


def test_scores_of_another_number_of_steps_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="s0: 1 scores for 2 steps"):
        evaluate(scored(([G, B], [0.1])))


def test_calibration_error_is_zero_where_probabilities_are_frequencies() -> None:
    rows = scored(*[([B], [0.25])] * 1, *[([G], [0.25])] * 3, *[([B], [1.0])] * 2)
    assert evaluate(rows).ece == pytest.approx(0)
    assert evaluate(scored(([B], [0.05]), ([G], [0.95]))).ece == pytest.approx(0.95)


def test_two_labelings_of_half_weight_count_as_one() -> None:
    once = scored(([G, B], [0.3, 0.2]), ([G, N], [0.1, 0.2]), ([B], [0.6]))
    twice = [(replace(item, weight=0.5), step_scores) for item, step_scores in once for _ in range(2)]
    a, b = evaluate(once, threshold=0.2), evaluate(twice, threshold=0.2)
    assert (b.step_auroc, b.f1, b.ece) == pytest.approx((a.step_auroc, a.f1, a.ece))
    assert (b.judged_steps, b.solutions) == (2 * a.judged_steps, a.solutions)


# --- Baselines ---


def position_data(seed: int, solutions: int = 200) -> list[LabeledSolution]:
    """Errors lie late, whatever the text says."""
    rng = random.Random(seed)
    items = []
    for number in range(solutions):
        length = rng.randint(3, 8)
        bad_at = next((index for index in range(length) if rng.random() < 0.08 * index), None)
        labels = [OK] * length if bad_at is None else [OK] * bad_at + [B] + [None] * (length - bad_at - 1)
        items.append(labeled(labels, f"s{seed}-{number}", f"p{seed}-{number // 2}"))
    return items


def test_the_majority_baseline_ranks_nothing_and_finds_no_error() -> None:
    metrics = majority_baseline(position_data(0))
    assert (metrics.step_auroc, metrics.f1) == (0.5, 0.0)
    assert metrics.ece == pytest.approx(0, abs=1e-9)


def test_the_position_baseline_finds_what_lies_in_position() -> None:
    held_out = position_baseline(position_data(0), position_data(1))
    crossed = position_baseline(position_data(0))
    for metrics in (held_out, crossed):
        assert metrics.step_auroc is not None
        assert 0.6 < metrics.step_auroc < 0.9
        assert metrics.f1 is not None
        assert metrics.f1 > 0.1


def test_the_position_baseline_does_not_learn_from_the_problems_it_is_measured_on() -> None:
    rng = random.Random(0)
    noise = [labeled([rng.choice([B, OK]) for _ in range(4)], f"s{n}", f"p{n // 3}") for n in range(300)]
    auroc = position_baseline(noise).step_auroc
    assert auroc is not None
    assert abs(auroc - 0.5) < 0.05


def test_position_scores_cover_every_solution_once_with_probabilities() -> None:
    train = position_data(0)
    found = position_scores(train)
    assert found.keys() == {item.solution.key for item in train}
    for item in train:
        assert len(found[item.solution.key]) == len(item.labels)
        assert all(0 < p < 1 for p in found[item.solution.key].bad)


def test_the_position_baseline_stays_finite_where_position_decides() -> None:
    separable = [labeled([OK, OK, B], f"s{number}") for number in range(20)]
    metrics = position_baseline(separable)
    assert metrics.step_auroc == 1.0
    assert metrics.f1 is None


@pytest.mark.parametrize("labels", [[OK, OK], [B], [None]])
def test_the_position_baseline_needs_both_classes(labels: Labels) -> None:
    with pytest.raises(NotEnoughData):
        position_baseline([labeled(labels, f"s{number}") for number in range(9)])


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data folder")
def test_position_alone_is_worth_something_on_real_first_error_labels() -> None:
    items = [
        LabeledSolution(Solution(str(row.line), problem_key(row.problem), row.problem, row.steps), row.step_labels)
        for row in read_records(SHARED / "processbench_math.jsonl")
        if row.step_labels
    ]
    auroc = position_baseline(items).step_auroc
    assert auroc is not None
    assert 0.6 < auroc < 0.75


# --- The gate ---


def audit(solutions: int = 300, seed: int = 0) -> list[LabeledSolution]:
    return position_data(seed, solutions)


def noisy(items: Sequence[LabeledSolution], noise: float, seed: int = 0) -> dict[str, StepScores]:
    rng = random.Random(seed)
    return {
        item.solution.key: scores(
            *(min(1.0, max(0.0, (0.6 if label is B else 0.3) + rng.gauss(0, noise))) for label in item.labels)
        )
        for item in items
    }


def test_a_clearly_better_candidate_is_better_and_the_other_way_round_undecided() -> None:
    items = audit()
    good, poor = noisy(items, 0.1), noisy(items, 0.6, seed=1)
    better = compare(items, good, poor)
    assert better.verdict is Verdict.BETTER
    assert None not in (better.difference, better.lower, better.upper)
    assert better.lower is not None
    assert better.lower > 0
    assert compare(items, poor, good).verdict is Verdict.UNDECIDED


def test_the_same_scores_are_not_worse() -> None:
    items = audit()
    same = compare(items, noisy(items, 0.3), noisy(items, 0.3))
    assert (same.difference, same.lower, same.upper, same.verdict) == (0, 0, 0, Verdict.NOT_WORSE)


def test_the_interval_brackets_the_difference_and_depends_on_the_seed_alone() -> None:
    items = audit(80)
    new, old = noisy(items, 0.25), noisy(items, 0.3, seed=1)
    first = compare(items, new, old, seed=4)
    assert first == compare(items, new, old, seed=4)
    assert first != compare(items, new, old, seed=5)
    assert first.difference is not None
    assert first.lower is not None
    assert first.upper is not None
    assert first.lower < first.difference < first.upper
    assert first.difference == pytest.approx(
        (evaluate([(item, new[item.solution.key]) for item in items]).step_auroc or 0)
        - (evaluate([(item, old[item.solution.key]) for item in items]).step_auroc or 0)
    )


def test_few_problems_with_many_solutions_give_a_wider_interval_than_many_problems() -> None:
    items = audit()
    lumped = [
        replace(item, solution=replace(item.solution, problem_key=f"p{number % 6}"))
        for number, item in enumerate(items)
    ]
    # one score for a whole problem: its solutions stand and fall together
    shift = {f"p{number}": random.Random(number).uniform(-0.4, 0.4) for number in range(6)}
    new = {
        item.solution.key: scores(
            *(0.5 + 0.1 * (label is B) + shift[item.solution.problem_key] for label in item.labels)
        )
        for item in lumped
    }
    old = noisy(items, 0.3)
    wide, narrow = compare(lumped, new, old), compare(items, new, old)
    assert wide.upper is not None
    assert wide.lower is not None
    assert narrow.upper is not None
    assert narrow.lower is not None
    assert wide.upper - wide.lower > narrow.upper - narrow.lower


@pytest.mark.parametrize(
    "items",
    [
        audit(29),
        [labeled([OK, B], f"s{n}") if n < 9 else labeled([OK], f"s{n}") for n in range(100)],
        [labeled([OK], f"s{n}") for n in range(100)],
        [],
    ],
    ids=["29 solutions", "9 bad steps", "no bad steps", "nothing"],
)
def test_too_little_is_not_enough_evidence(items: list[LabeledSolution]) -> None:
    assert compare(items, noisy(items, 0.1), noisy(items, 0.6, 1)).verdict is Verdict.NOT_ENOUGH_EVIDENCE


def test_a_solution_without_scores_is_named() -> None:
    items = audit(40)
    with pytest.raises(ValueError, match=f"{items[0].solution.key}: no scores"):
        compare(items, {}, noisy(items, 0.1))


def test_a_thousand_samples_of_300_solutions_take_less_than_two_seconds() -> None:
    items = audit(300)
    new, old = noisy(items, 0.2), noisy(items, 0.3, 1)
    started = time.process_time()
    compare(items, new, old)
    assert time.process_time() - started < 2
