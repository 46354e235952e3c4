from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prm_backend.checkpoints import load_checkpoint
from prm_backend.errors import CheckpointError, NotEnoughData
from prm_backend.evaluation import step_auroc
from prm_backend.model import SCALARS, Array, StepHeads
from prm_backend.pretraining import init_backbone
from prm_backend.training import fit_heads, train_heads
from prm_backend.types import LabeledSolution, Solution, StepLabel
from tests.prm_backend.tiny import labeled_solutions, random_model

WIDTH = len(SCALARS) + 20
PRIOR = (1.5, -2.0)


def cold_heads(slope: float = PRIOR[0]) -> StepHeads:
    flat = np.zeros((1, WIDTH), np.float32)
    return StepHeads(
        flat, np.zeros(1, np.float32), flat, np.full(1, -1.7, np.float32), np.array([slope, PRIOR[1]], np.float32)
    )


class World:
    """Steps whose badness depends on surprisal (column 0) and on a hidden direction that surprisal does not show."""

    def __init__(self, *, hidden: float, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.hidden = hidden

    def draw(self, solutions: int) -> tuple[list[LabeledSolution], list[Array]]:
        labeled, features = [], []
        for number in range(solutions):
            array = self.rng.normal(size=(4, WIDTH)).astype(np.float32)
            logit = PRIOR[0] * array[:, 0] + self.hidden * array[:, -1] - 1.5
            bad = self.rng.random(4) < 1 / (1 + np.exp(-logit))
            labels = tuple(StepLabel.BAD if is_bad else StepLabel.GOOD for is_bad in bad)
            labeled.append(LabeledSolution(Solution(f"s{number}", f"p{number // 2}", "problem", ("step",) * 4), labels))
            features.append(array)
        return labeled, features


def auroc(heads: StepHeads, labeled: Sequence[LabeledSolution], features: Sequence[Array]) -> float:
    bad = [p for array in features for p in heads.predict(array).bad]
    return step_auroc(bad, [label is StepLabel.BAD for item in labeled for label in item.labels])


def surprisal_auroc(labeled: Sequence[LabeledSolution], features: Sequence[Array]) -> float:
    bad = [float(row[0]) for array in features for row in array]
    return step_auroc(bad, [label is StepLabel.BAD for item in labeled for label in item.labels])


@pytest.mark.parametrize("count", [10, 30, 100])
def test_where_surprisal_says_all_heads_stay_with_it(count: int) -> None:
    world = World(hidden=0.0)
    test = world.draw(500)
    losses = []
    for seed in range(5):
        heads, _ = fit_heads(*world.draw(count), cold_heads(), heads=8, seed=seed)
        losses.append(surprisal_auroc(*test) - auroc(heads, *test))
    assert float(np.mean(losses)) < 0.03


def test_where_labels_know_more_heads_learn_it() -> None:
    world = World(hidden=3.0)
    test = world.draw(500)
    heads, chosen = fit_heads(*world.draw(200), cold_heads(), heads=8, seed=0)
    assert auroc(heads, *test) > surprisal_auroc(*test) + 0.1
    assert chosen["bad_penalty"] != "inf"


def test_without_surprisal_heads_learn_from_hidden_states_alone() -> None:
    world = World(hidden=3.0)
    test = world.draw(500)
    heads, _ = fit_heads(*world.draw(300), cold_heads(slope=0.0), heads=8, seed=0)
    assert auroc(heads, *test) > 0.8


def test_heads_differ_more_with_fewer_labels() -> None:
    world = World(hidden=3.0)
    test = world.draw(50)[1]
    spread = []
    for count in (30, 600):
        heads, _ = fit_heads(*world.draw(count), cold_heads(), heads=8, seed=0)
        spread.append(np.mean([s for array in test for s in heads.predict(array).spread]))
    assert spread[0] > 1.5 * spread[1] > 0.0


def relabel(labeled: Sequence[LabeledSolution], old: StepLabel, new: StepLabel | None) -> list[LabeledSolution]:
    return [replace(item, labels=tuple(new if label is old else label for label in item.labels)) for item in labeled]


def test_not_bad_counts_as_neutral_and_good_together_and_never_as_good() -> None:
    labeled, features = World(hidden=2.0).draw(60)
    start = cold_heads()
    good, _ = fit_heads(labeled, features, start, heads=2, seed=0)
    not_bad, chosen = fit_heads(relabel(labeled, StepLabel.GOOD, StepLabel.NOT_BAD), features, start, heads=2, seed=0)
    scores, same = good.predict(features[0]), not_bad.predict(features[0])
    assert same.bad == pytest.approx(scores.bad)
    assert "neutral_penalty" not in chosen
    kept = 1 / (1 + np.exp(1.7))
    assert same.neutral == pytest.approx([(1 - bad) * kept for bad in same.bad], rel=1e-4)


def test_neutral_steps_are_learned() -> None:
    labeled, features = World(hidden=0.0).draw(100)
    labeled = [
        replace(
            item,
            labels=tuple(
                StepLabel.NEUTRAL if row[5] > 0 else label for row, label in zip(array, item.labels, strict=True)
            ),
        )
        for item, array in zip(labeled, features, strict=True)
    ]
    heads, _ = fit_heads(labeled, features, cold_heads(), heads=4, seed=0)
    neutral = [p for array in features for p in heads.predict(array).neutral]
    assert step_auroc(neutral, [bool(row[5] > 0) for array in features for row in array]) > 0.9


def test_unjudged_steps_take_no_part() -> None:
    labeled, features = World(hidden=1.0).draw(40)
    masked = [replace(item, labels=(*item.labels[:2], None, None)) for item in labeled]
    wild = [np.concatenate([array[:2], array[2:] * 1e3]) for array in features]
    tame_heads, _ = fit_heads(masked, features, cold_heads(), heads=2, seed=0)
    wild_heads, _ = fit_heads(masked, wild, cold_heads(), heads=2, seed=0)
    np.testing.assert_array_equal(tame_heads.bad_weight, wild_heads.bad_weight)


def test_two_labelings_of_half_weight_count_as_one() -> None:
    labeled, features = World(hidden=1.0).draw(40)
    twice = [replace(item, weight=0.5) for item in labeled for _ in range(2)]
    once_heads, _ = fit_heads(labeled, features, cold_heads(), heads=2, seed=0)
    twice_heads, _ = fit_heads(twice, [array for array in features for _ in range(2)], cold_heads(), heads=2, seed=0)
    np.testing.assert_allclose(once_heads.bad_weight, twice_heads.bad_weight, atol=1e-3)


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    pool = [item.solution for item in labeled_solutions(5)]
    return init_backbone(random_model("qwen2", folder / "model"), folder / "cold", solutions=pool)


@pytest.mark.parametrize(
    ("gone", "found"),
    [(StepLabel.BAD, "0 bad of"), (None, "0 bad of 0 judged")],
    ids=["no bad step", "no label at all"],
)
def test_labels_of_one_class_are_refused(gone: StepLabel | None, found: str, cold: Path, tmp_path: Path) -> None:
    labeled = relabel(labeled_solutions(5), StepLabel.BAD, None)
    if gone is None:
        labeled = [replace(item, labels=(None,) * len(item.labels)) for item in labeled]
    with pytest.raises(NotEnoughData, match=found):
        train_heads(cold, labeled, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_training_is_reproducible_and_names_its_parent(cold: Path, tmp_path: Path) -> None:
    labeled = labeled_solutions(20)
    first = train_heads(cold, labeled, tmp_path / "first", cache_dir=tmp_path / "cache", seed=3)
    again = train_heads(cold, labeled, tmp_path / "again", cache_dir=tmp_path / "cache", seed=3)
    other = train_heads(cold, labeled, tmp_path / "other", cache_dir=tmp_path / "cache", seed=4)
    assert first.digest == again.digest != other.digest
    assert first.parent == load_checkpoint(cold).metadata.digest
    assert first.kind == "heads"
    assert first.metrics["solutions"] == 40


def test_a_checkpoint_of_heads_is_whole_and_can_be_a_parent(cold: Path, tmp_path: Path) -> None:
    labeled = labeled_solutions(10)
    train_heads(cold, labeled, tmp_path / "first")
    from_cold = train_heads(cold, labeled_solutions(20), tmp_path / "second")
    from_first = train_heads(tmp_path / "first", labeled_solutions(20), tmp_path / "third")
    assert from_cold.files == from_first.files


def test_a_missing_parent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        train_heads(tmp_path / "nowhere", labeled_solutions(5), tmp_path / "out")
