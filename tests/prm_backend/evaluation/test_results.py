from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace

import pytest

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.evaluation import (
    Candidate,
    EvaluationData,
    Results,
    ThresholdSource,
    average_precision,
    calibration,
    measure,
    prm_score,
    processbench_f1,
    recalibrated,
    report,
    step_auroc,
)
from prm_backend.evaluation.results import simple_baselines
from prm_backend.types import LabeledSolution, StepScores
from tests.prm_backend.evaluation.judged import B, G, campaign, first_error_labels, knowing, labeled, two_way

TRAIN, VALIDATION, TEST = campaign(0, name="train"), campaign(1, 40, name="val"), campaign(2, 80, name="test")
SUBSETS = {item.solution.key: ("gsm8k", "math")[index % 4 // 2] for index, item in enumerate(TEST)}
DATA = EvaluationData(test=TEST, train=TRAIN, validation=VALIDATION, subset_of=SUBSETS)
SCORES = knowing([*TRAIN, *VALIDATION, *TEST], 0.3)


def measured(data: EvaluationData = DATA, scores: Mapping[str, StepScores] = SCORES, **options: object) -> Results:
    return measure(data, {"ours": scores}, samples=30, **options)  # type: ignore[arg-type]


def test_every_figure_stands_beside_those_of_the_baselines() -> None:
    results = measured(thresholds=tuple(ThresholdSource))
    names = [system.name for system in results.systems]
    assert names == ["ours", "majority", "position and length", "random"]
    ours, *baselines = results.systems
    assert [system.is_baseline for system in baselines] == [True] * 3
    for system in baselines:
        assert system.figures.keys() == ours.figures.keys()
        assert system.subsets.keys() == ours.subsets.keys()
        assert [at.source for at in system.thresholds] == [at.source for at in ours.thresholds]
    majority, _, chance = baselines
    assert majority.figures["step_auroc"].value == 0.5
    assert chance.figures["step_auroc"].value == pytest.approx(0.5, abs=0.15)


def test_figures_are_those_of_the_single_functions_inside_their_intervals() -> None:
    ours = measured().systems[0]
    rows = [(item, SCORES[item.solution.key]) for item in TEST]
    pairs = [
        (p, label is B) for item, scores in rows for p, label in zip(scores.bad, item.labels, strict=True) if label
    ]
    p_bad, is_bad = zip(*pairs, strict=True)
    assert ours.figures["step_auroc"].value == pytest.approx(step_auroc(p_bad, is_bad))
    assert ours.figures["average_precision"].value == pytest.approx(average_precision(p_bad, is_bad))
    assert ours.figures["ece"].value == pytest.approx(calibration(rows).ece)
    assert ours.recalibrated["ece"].value == pytest.approx(calibration(recalibrated(rows)).ece)
    at = ours.thresholds[0]
    assert (at.source, at.threshold) == (ThresholdSource.FIXED, 0.5)
    for name, estimate in at.subsets.items():
        part = [row for row in rows if SUBSETS[row[0].solution.key] == name]
        assert estimate.value == pytest.approx(processbench_f1(part, 0.5).f1)
        assert estimate.lower is not None
        assert estimate.upper is not None
        assert estimate.lower <= estimate.value <= estimate.upper


def test_the_average_is_over_the_named_subsets() -> None:
    at = measured(replace(DATA, averaged=("math",))).systems[0].thresholds[0]
    assert at.average == at.subsets["math"]
    both = measured().systems[0].thresholds[0]
    assert both.average.value == pytest.approx(sum(estimate.value or 0 for estimate in both.subsets.values()) / 2)


def test_a_threshold_is_chosen_where_its_source_says() -> None:
    def only(items: list[LabeledSolution], wrong: float) -> dict[str, StepScores]:
        return {
            item.solution.key: two_way(*(wrong if label is B else wrong - 0.1 for label in item.labels))
            for item in items
        }

    by_subset = {name: [item for item in TEST if SUBSETS[item.solution.key] == name] for name in ("gsm8k", "math")}
    scores = only(TRAIN, 0.3) | only(VALIDATION, 0.5)
    scores |= only(by_subset["gsm8k"], 0.7) | only(by_subset["math"], 0.9)
    ours = measured(scores=scores, thresholds=tuple(ThresholdSource)).systems[0]
    found = {at.source: at.threshold for at in ours.thresholds}
    assert found[ThresholdSource.FIXED] == 0.5
    assert found[ThresholdSource.TRAINING] == pytest.approx(0.25)
    assert found[ThresholdSource.VALIDATION] == pytest.approx(0.45)
    assert found[ThresholdSource.GSM8K] == pytest.approx(0.65)


def test_training_problems_are_left_out_and_counted() -> None:
    leaked = [replace(item, solution=replace(item.solution, problem=TRAIN[0].solution.problem)) for item in TEST[:3]]
    pretrained = TEST[4].solution.problem + " And so on?"
    data = replace(DATA, test=[*leaked, *TEST[4:]], pretraining_problems=[pretrained])
    results = measured(data)
    assert (results.leakage["test"].exact, results.leakage["test"].near) == (1, 1)
    assert results.leakage["test"].solutions == 3 + 2
    assert results.solutions == len(TEST) - 6
    assert sum(results.subsets.values()) == results.solutions


def test_a_test_set_that_training_has_seen_whole_is_not_enough_data() -> None:
    with pytest.raises(NotEnoughData, match="training does not share"):
        measured(replace(DATA, test=TRAIN))


def test_without_training_labels_baselines_are_fitted_out_of_fold_on_the_test_set() -> None:
    rng = random.Random(0)
    noise = [labeled(first_error_labels(4, rng.choice([None, 0, 1, 2, 3])), f"s{n}") for n in range(60)]
    scores = simple_baselines(EvaluationData(test=noise))
    assert all(set(found) == {item.solution.key for item in noise} for found in scores.values())


def test_nothing_depends_on_the_order_of_the_solutions() -> None:
    one, other = measured(), measured(replace(DATA, test=TEST[::-1]))
    for system, same in zip(one.systems, other.systems, strict=True):
        for name, estimate in system.figures.items():
            assert same.figures[name].value == pytest.approx(estimate.value), name
            assert same.figures[name].lower == pytest.approx(estimate.lower), name


def test_injected_errors_and_candidates_are_measured_for_baselines_too() -> None:
    injected = [labeled([G, B, G], f"i{n}", f"ip{n}", text=f"injected {n} of its own {n}") for n in range(6)]
    asked = [labeled([None, None], f"c{n}", f"cp{n // 3}", text=f"question {n // 3} with candidates") for n in range(9)]
    candidates = [Candidate(item.solution, str(n), n % 3 == 0) for n, item in enumerate(asked)]
    scores = SCORES | knowing([*injected, *asked], 0.2)
    data = replace(DATA, injected=injected, class_of={f"i{n}": "deception" for n in range(6)}, candidates=candidates)
    results = measured(data, scores)
    for system in results.systems:
        assert system.prmbench is not None
        assert system.best_of_n is not None
        assert system.best_of_n.problems == 3
    ours = results.systems[0]
    expected = prm_score([(item, scores[item.solution.key]) for item in injected]).overall.prm_score
    assert ours.prmbench_score is not None
    assert ours.prmbench_score.value == pytest.approx(expected)


def test_what_one_class_of_steps_cannot_give_is_none() -> None:
    right = [labeled([G, G], f"r{n}", text=f"right problem number {n}") for n in range(5)]
    results = measured(EvaluationData(test=right, train=TRAIN), knowing(right, 0.1))
    ours = results.systems[0]
    assert (ours.figures["step_auroc"].value, ours.thresholds[0].average.value, ours.curves) == (None, None, None)
    assert ours.figures["ece"].value is not None
    assert ours.recalibrated == {}
    assert ours.thresholds[0].figures["first_error_overall"].value == 1.0


def test_what_is_missing_is_named() -> None:
    key = TEST[0].solution.key
    with pytest.raises(ValueError, match=f"{key}: no scores"):
        measured(scores={other: found for other, found in SCORES.items() if other != key})
    with pytest.raises(PrmError, match=f"solution {key}"):
        measured(scores=SCORES | {key: two_way(*[float("nan")] * len(TEST[0].labels))})
    with pytest.raises(ValueError, match="'random' names both"):
        measure(DATA, {"random": SCORES})


def test_a_source_without_a_threshold_costs_its_figures_alone() -> None:
    sources = (ThresholdSource.FIXED, ThresholdSource.VALIDATION, ThresholdSource.GSM8K)
    results = measured(replace(DATA, validation=(), subset_of={}), thresholds=sources)
    assert results.unavailable.keys() == {ThresholdSource.VALIDATION, ThresholdSource.GSM8K}
    assert [at.source for at in results.systems[0].thresholds] == [ThresholdSource.FIXED]
    assert "- threshold from validation: –, " in report(results).markdown


def test_validation_problems_are_not_measured() -> None:
    results = measured(replace(DATA, validation=TEST[:1]))
    assert results.leakage["test"].exact >= 1
    assert results.problems < measured().problems


def test_a_baseline_of_the_caller_is_marked_as_one() -> None:
    results = measure(DATA, {"ours": SCORES}, baselines={"surprisal": SCORES}, samples=5)
    assert next(system.name for system in results.systems if system.is_baseline) == "surprisal"
