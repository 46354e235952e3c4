from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation import Scored, VectorScaling, calibration, recalibrated, step_auroc
from prm_backend.evaluation.bootstrap import ratio
from prm_backend.evaluation.calibration import calibration_statistics
from prm_backend.evaluation.steps import judged_steps, problem_numbers
from prm_backend.types import StepLabel
from tests.prm_backend.evaluation.judged import OK, B, G, N, Triple, labeled, scored, three_way

CLASSES = (B, N, G)


def test_the_errors_are_gaps_between_what_is_said_and_what_is() -> None:
    # bins [0, 0.1): said 0.05, none of 2 bad; [0.6, 0.7): said 0.65, 1 of 2 bad; 1 belongs to the last bin
    found = calibration(scored(([G, G], [0.04, 0.06]), ([B, G], [0.62, 0.68]), ([B], [1.0])))
    assert found.ece == pytest.approx((2 * 0.05 + 2 * 0.15 + 0) / 5)
    assert found.brier == pytest.approx((0.04**2 + 0.06**2 + 0.38**2 + 0.68**2) / 5)
    assert [(row.weight, row.mean_p_bad, row.bad_share) for row in found.table] == [
        pytest.approx(row) for row in [(2, 0.05, 0), (2, 0.65, 0.5), (1, 1, 1)]
    ]
    assert [(row.lower, row.upper) for row in found.table] == [(0.04, 0.06), (0.62, 0.68), (1, 1)]


def test_equal_mass_bins_hold_as_many_steps_each() -> None:
    p_bad = [index / 1000 for index in range(20)]  # all in one bin of equal width
    labels = [B if index % 2 else G for index in range(20)]
    found = calibration(scored((labels, p_bad)))
    assert len(found.table) == 1
    # each bin of two neighbours: one bad of two, said p
    assert found.ece_equal_mass == pytest.approx(
        sum(abs((index + index + 1) / 2000 - 0.5) for index in range(0, 20, 2)) / 10
    )


steps = st.lists(
    st.tuples(st.sampled_from([G, B, OK]), st.sampled_from([0.0, 0.25, 0.5]) | st.floats(0, 1)), min_size=1, max_size=40
)


@given(steps, st.randoms(use_true_random=False))
def test_calibration_does_not_depend_on_the_order(rows: list[tuple[StepLabel, float]], rng: random.Random) -> None:
    mixed = sorted(rows, key=lambda _: rng.random())
    one, other = (calibration(scored(([r[0] for r in found], [r[1] for r in found]))) for found in (rows, mixed))
    assert (one.ece, one.ece_equal_mass, one.brier) == pytest.approx((other.ece, other.ece_equal_mass, other.brier))


@given(steps)
def test_one_score_for_all_errs_by_its_distance_from_the_share_of_bad_steps(
    rows: list[tuple[StepLabel, float]],
) -> None:
    labels, share = [label for label, _ in rows], sum(label is B for label, _ in rows) / len(rows)
    found = calibration(scored((labels, [0.3] * len(labels))))
    assert found.ece == pytest.approx(abs(0.3 - share))
    assert found.ece_equal_mass == pytest.approx(abs(0.3 - share))
    assert found.brier == pytest.approx(share * 0.7**2 + (1 - share) * 0.3**2)


@given(steps)
def test_a_statistic_at_one_draw_of_each_problem_is_the_figure(rows: list[tuple[StepLabel, float]]) -> None:
    data = scored(*(([label], [p]) for label, p in rows))
    numbers = problem_numbers(data)
    found, ones = calibration(data), np.ones((1, len(numbers)))
    for name, statistic in calibration_statistics(judged_steps(data, numbers), len(numbers)).items():
        assert statistic(ones)[0] == pytest.approx(getattr(found, name))


@pytest.mark.parametrize("rows", [[], scored(([None], [0.5]))])
def test_nothing_judged_is_not_enough_data(rows: list[Scored]) -> None:
    with pytest.raises(NotEnoughData):
        calibration(rows)


# --- Recalibration ---


def distorted(count: int, class_weight: Sequence[float], seed: int = 0, *, not_bad: bool = False) -> list[Scored]:
    """Labels drawn from known probabilities, of which the scores show p ∝ class weight · p: what training with class
    weights does."""
    rng = random.Random(seed)
    rows: list[Scored] = []
    for number in range(count):
        logits = [rng.gauss(0, 1.5) for _ in CLASSES]
        true = [math.exp(value) for value in logits]
        labels = [rng.choices(CLASSES, true)[0] for _ in range(3)]
        shown = [value * weight for value, weight in zip(true, class_weight, strict=True)]
        p: Triple = tuple(value / sum(shown) for value in shown)  # type: ignore[assignment]
        said = [OK if not_bad and label is not B else label for label in labels]
        rows.append((labeled(said, f"s{number}", f"p{number // 2}"), three_way(p, p, p)))
    return rows


def test_the_effect_of_class_weights_is_undone() -> None:
    rows = distorted(1000, (8, 3, 1))
    before, after = calibration(rows), calibration(recalibrated(rows))
    assert before.ece > 0.15
    assert after.ece < 0.03
    assert after.brier < before.brier
    fitted = VectorScaling.fit(rows)
    assert fitted.scale == pytest.approx((1, 1, 1), abs=0.15)
    offset = np.array(fitted.offset) - fitted.offset[2]
    assert offset == pytest.approx([-math.log(8), -math.log(3), 0], abs=0.25)


def test_labels_that_only_say_not_bad_recalibrate_p_bad() -> None:
    rows = distorted(800, (8, 1, 1), not_bad=True)
    assert calibration(recalibrated(rows)).ece < 0.04 < calibration(rows).ece


def test_what_is_calibrated_stays_so() -> None:
    fitted = VectorScaling.fit(distorted(1500, (1, 1, 1)))
    assert fitted.scale == pytest.approx((1, 1, 1), abs=0.15)
    assert fitted.offset == pytest.approx((0, 0, 0), abs=0.15)


def test_recalibrated_scores_are_probabilities_that_keep_their_spread() -> None:
    rows = distorted(50, (8, 3, 1))
    for (_, old), (_, new) in zip(rows, recalibrated(rows), strict=True):
        assert np.sum([new.bad, new.neutral, new.good], axis=0) == pytest.approx(np.ones(3))
        assert new.spread == old.spread


def test_scores_of_zero_and_one_do_not_break_it() -> None:
    rows = [
        (labeled([label], f"{label}{number}"), three_way(p))
        for label in (B, G)
        for number, p in enumerate([(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)] * 5)
    ]
    after = recalibrated(rows)
    assert calibration(rows).ece == 0.5  # what is said has nothing to do with the labels
    assert calibration(after).ece < 0.2
    assert all(math.isfinite(p) for _, scores in after for p in scores.bad)


def test_figures_of_recalibration_are_out_of_fold() -> None:
    rows = distorted(60, (8, 3, 1))
    folds = {row[0].solution.problem_key: index // 2 % 3 for index, row in enumerate(rows)}
    after = recalibrated(rows, folds)
    for fold in range(3):
        fitted = VectorScaling.fit([row for row in rows if folds[row[0].solution.problem_key] != fold])
        for (item, old), (_, new) in zip(rows, after, strict=True):
            if folds[item.solution.problem_key] == fold:
                assert new == fitted.apply(old)


def test_binary_scores_keep_their_ranking() -> None:
    rng = random.Random(0)
    labels = [B if rng.random() < 0.3 else OK for _ in range(200)]
    p_bad = [min(0.99, max(0.01, (0.6 if label is B else 0.4) + rng.gauss(0, 0.2))) for label in labels]
    rows = scored(*(([label], [p]) for label, p in zip(labels, p_bad, strict=True)))
    fitted = VectorScaling.fit(rows)
    after = [fitted.apply(scores).bad[0] for _, scores in rows]
    is_bad = [label is B for label in labels]
    assert step_auroc(after, is_bad) == pytest.approx(step_auroc(p_bad, is_bad))


@pytest.mark.parametrize("labels", [[B, B], [G, N], [None, None], []])
def test_recalibration_needs_bad_steps_and_others(labels: list[StepLabel | None]) -> None:
    with pytest.raises(NotEnoughData, match="recalibration needs bad steps and others"):
        VectorScaling.fit(scored((labels, [0.5] * len(labels))))


def test_a_ratio_without_a_denominator_is_not_a_number() -> None:
    assert np.isnan(ratio(np.array([0.0]), np.array([0.0]))[0])
