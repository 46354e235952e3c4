from __future__ import annotations

import json
import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2Model

from prm_backend.errors import Cancelled, NotEnoughData, PrmError
from prm_backend.finetuning.data import LabeledTree
from prm_backend.finetuning.loop import TrainResult, train
from prm_backend.finetuning.recipe import Recipe, Stage
from prm_backend.stepmodel import StepModel
from prm_backend.types import Progress, SolutionTree, StepLabel, StepNode
from tests.prm_backend.finetuning.little import (
    VOCABULARY,
    LittleReader,
    little_data,
    little_model,
    little_recipe,
    three_classes,
    weights_of,
)

DATA = little_data()
TRAIN, VALIDATION = DATA[:16], DATA[16:]
Weights = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def trained(
    folder: Path,
    recipe: Recipe,
    *,
    model: StepModel | None = None,
    data: list[LabeledTree] = TRAIN,
    validation: list[LabeledTree] = VALIDATION,
) -> tuple[Weights, TrainResult]:
    model = model or little_model()
    result = train(LittleReader(model), data, validation, recipe, folder)
    return weights_of(model), result


def assert_close(one: Weights, other: Weights, tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=tolerance)


def rows(result: TrainResult, event: str) -> list[dict[str, float]]:
    found = [json.loads(line) for line in result.metrics.read_text().splitlines()]
    return [row for row in found if row["event"] == event]


def test_training_lowers_the_loss_and_tells_each_step(tmp_path: Path) -> None:
    recipe = little_recipe(stages=(Stage("all", epochs=8, learning_rate=3e-3),))
    told: list[Progress] = []
    model = little_model(heads=2)
    result = train(LittleReader(model), TRAIN, VALIDATION, recipe, tmp_path, progress=told.append)
    losses = [row["loss"] for row in rows(result, "step")]
    assert result.optimizer_steps == len(losses) == len(told) == 16
    assert (told[-1].done, told[-1].total) == (16, 16)
    assert losses[-1] < 0.7 * losses[0]
    validation = [row["validation_loss"] for row in rows(result, "validation")]
    assert len(validation) == 8
    assert validation[-1] < validation[0]
    assert result.validation_loss == validation[-1]
    assert result.labeled_steps == sum(label is not None for tree in TRAIN for label in tree.labels)
    assert not model.training


def test_how_a_step_is_cut_into_passes_does_not_change_what_is_learned(tmp_path: Path) -> None:
    small, _ = trained(tmp_path / "small", little_recipe(batch_tokens=1, max_grad_norm=None))
    large, _ = trained(tmp_path / "large", little_recipe(batch_tokens=100_000, max_grad_norm=None))
    assert_close(small, large, 1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_one_others(tmp_path: Path) -> None:
    one, _ = trained(tmp_path / "one", little_recipe(seed=3))
    again, _ = trained(tmp_path / "again", little_recipe(seed=3))
    other, _ = trained(tmp_path / "other", little_recipe(seed=4))
    assert_close(one, again, 0.0)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_tree_learns_what_its_chains_learn(tmp_path: Path) -> None:
    """Shared beginnings are computed once, and every rated completion trains."""
    nodes = (StepNode("two", -1), StepNode("five", -1), StepNode("four", 0), StepNode("six", 0), StepNode("ten", 2))
    labels = (StepLabel.GOOD, StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.NOT_BAD, None)
    tree = LabeledTree(SolutionTree("tree", "p", "Count by two.", nodes), labels)
    shared, with_tree = trained(tmp_path / "tree", little_recipe(), data=[tree])
    unshared, with_chains = trained(tmp_path / "chains", little_recipe(shared_prefixes=False), data=[tree])
    assert (with_tree.labeled_steps, with_chains.labeled_steps) == (4, 4)
    assert (with_tree.solutions, with_chains.solutions) == (1, 3)
    assert_close(shared, unshared, 1e-5)


def test_the_head_stage_leaves_the_backbone_alone(tmp_path: Path) -> None:
    model = little_model()
    before = weights_of(model)
    after, _ = trained(tmp_path, little_recipe(stages=(Stage("head", epochs=1, learning_rate=1e-2),)), model=model)
    changed = {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])}
    assert changed == {"head"}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_was_frozen_stays_frozen_in_every_stage(tmp_path: Path) -> None:
    model = little_model()
    for name, parameter in model.body.named_parameters():
        parameter.requires_grad_("layers.1" in name)
    before = weights_of(model)
    after, _ = trained(tmp_path, little_recipe(stages=(Stage("head", 1), Stage("all", 1))), model=model)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("head", "body.layers.1")) for name in changed)


def test_early_stopping_ends_with_the_best_weights(tmp_path: Path) -> None:
    """So high a learning rate that it gets worse."""
    recipe = little_recipe(stages=(Stage("all", epochs=30, learning_rate=0.05),), patience=2, evaluate_every=1)
    model = little_model()
    _, result = trained(tmp_path, recipe, model=model)
    losses = [row["validation_loss"] for row in rows(result, "validation")]
    best = min(losses)
    assert result.stopped_early
    assert result.validation_loss == best
    assert losses.index(best) == len(losses) - 3
    again = train(
        LittleReader(model),
        TRAIN,
        VALIDATION,
        replace(recipe, stages=(Stage("head", steps=1, learning_rate=1e-12),), patience=None),
        tmp_path / "again",
    )
    assert again.validation_loss == pytest.approx(best, abs=1e-6)


def test_a_cancelled_run_goes_on_to_the_very_same_weights(tmp_path: Path) -> None:
    stages = (Stage("head", epochs=1, learning_rate=1e-2), Stage("all", epochs=2, learning_rate=3e-3))
    recipe = little_recipe(stages=stages, patience=5, label_smoothing=0.1, pull=2.0)
    whole = little_model(heads=2, dropout=0.2)
    expected, uninterrupted = trained(tmp_path / "whole", recipe, model=whole)
    cancelled_at = []

    def cancel_always(progress: Progress, /) -> None:
        cancelled_at.append(progress.done)
        raise Cancelled("enough")

    for _ in range(uninterrupted.optimizer_steps):
        model = little_model(heads=2, dropout=0.2)
        with pytest.raises(Cancelled):
            train(LittleReader(model), TRAIN, VALIDATION, recipe, tmp_path / "cut", progress=cancel_always)
    assert cancelled_at == list(range(1, uninterrupted.optimizer_steps + 1))
    model = little_model(heads=2, dropout=0.2)
    weights, result = trained(tmp_path / "cut", recipe, model=model)
    assert_close(weights, expected, 0.0)
    assert result.validation_loss == uninterrupted.validation_loss
    timeless = {"seconds": 0, "cpu_seconds": 0}
    steps, expected_steps = rows(result, "step"), rows(uninterrupted, "step")
    assert [{**row, **timeless} for row in steps] == [{**row, **timeless} for row in expected_steps]


def test_a_finished_run_gives_its_weights_at_once(tmp_path: Path) -> None:
    expected, first = trained(tmp_path, little_recipe())
    metrics = first.metrics.read_bytes()
    weights, second = trained(tmp_path, little_recipe())
    assert_close(weights, expected, 0.0)
    assert second.optimizer_steps == first.optimizer_steps
    assert second.metrics.read_bytes() == metrics


def test_the_state_of_another_run_is_refused_and_can_be_left_behind(tmp_path: Path) -> None:
    trained(tmp_path, little_recipe())
    with pytest.raises(PrmError, match="the state of another run"):
        trained(tmp_path, little_recipe(seed=1))
    weights, _ = trained(tmp_path / "fresh", little_recipe(seed=1))
    model = little_model()
    train(LittleReader(model), TRAIN, VALIDATION, little_recipe(seed=1), tmp_path, resume=False)
    assert_close(weights_of(model), weights, 0.0)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_state_of_another_model_of_the_same_form_is_refused(tmp_path: Path, frozen: bool) -> None:
    """Its weights, or heads that were trained on its backbone, would stand under this one's name."""
    first, second = little_model(), little_model()
    with torch.no_grad():
        second.body.layers[0].mlp.up_proj.weight.mul_(1.01)  # type: ignore[index, operator, union-attr]
    for model in (first, second):
        model.body.requires_grad_(not frozen)
    trained(tmp_path, little_recipe(), model=first)
    with pytest.raises(PrmError, match="the weights it began with differ"):
        trained(tmp_path, little_recipe(), model=second)


def test_a_state_of_more_processes_is_refused_unless_the_run_is_over(tmp_path: Path) -> None:
    def cancel(progress: Progress, /) -> None:
        raise Cancelled("enough")

    def of_two_processes() -> None:
        for path in tmp_path.glob("state-*/rest.pt"):
            rest = torch.load(path, weights_only=True)
            torch.save({**rest, "random": rest["random"] * 2}, path)

    with pytest.raises(Cancelled):
        train(LittleReader(little_model()), TRAIN, VALIDATION, little_recipe(), tmp_path, progress=cancel)
    of_two_processes()
    with pytest.raises(PrmError, match="a run in 2 processes; the 1 of now"):
        trained(tmp_path, little_recipe())
    model = little_model()
    train(LittleReader(model), TRAIN, VALIDATION, little_recipe(), tmp_path, resume=False)
    of_two_processes()
    again, _ = trained(tmp_path, little_recipe())
    assert_close(again, weights_of(model), 0.0)


@pytest.mark.parametrize("cancelled", [True, False])
def test_gradient_checkpointing_changes_memory_alone(tmp_path: Path, cancelled: bool) -> None:
    seen = []

    def watch(progress: Progress, /) -> None:
        seen.append(saving.body.is_activation_checkpointing)  # type: ignore[union-attr]
        if cancelled:
            raise Cancelled("enough")

    saving, recipe = little_model(), little_recipe(gradient_checkpointing=True)
    with pytest.raises(Cancelled) if cancelled else nullcontext():
        train(LittleReader(saving), TRAIN, VALIDATION, recipe, tmp_path / "saving", progress=watch)
    assert set(seen) == {True}
    assert not saving.body.is_activation_checkpointing  # type: ignore[union-attr]
    assert not saving.training
    if not cancelled:
        plain, _ = trained(tmp_path / "plain", little_recipe())
        assert_close(plain, weights_of(saving), 1e-6)


def test_mixed_precision_learns_nearly_the_same(tmp_path: Path) -> None:
    full, with_full = trained(tmp_path / "full", little_recipe())
    mixed, with_mixed = trained(tmp_path / "mixed", little_recipe(precision="bf16"))
    assert all(tensor.dtype == torch.float32 for tensor in mixed.values())
    assert any(not torch.equal(full[name], mixed[name]) for name in full)
    assert with_mixed.validation_loss == pytest.approx(with_full.validation_loss, rel=0.05)


def test_a_precision_that_the_device_lacks_is_an_error(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU trains in fp16")
    with pytest.raises(PrmError, match="precision: fp16 is not trained on a CPU"):
        trained(tmp_path, little_recipe(precision="fp16"))


def test_a_loss_that_is_no_number_names_its_solutions(tmp_path: Path) -> None:
    model = little_model()
    with torch.no_grad():
        model.body.embed_tokens.weight[ord("~")] = math.nan  # type: ignore[index, operator, union-attr]
    broken = replace(TRAIN[0], tree=replace(TRAIN[0].tree, key="the-broken-one", problem="~"))
    with pytest.raises(PrmError, match="the-broken-one") as raised:
        trained(tmp_path, little_recipe(batch_tokens=1), model=model, data=[*TRAIN[1:4], broken])
    assert TRAIN[1].tree.key not in str(raised.value)


def test_a_validation_loss_that_is_no_number_names_its_solutions(tmp_path: Path) -> None:
    """It would be the lowest loss for ever, and stop the run early."""
    model = little_model()
    with torch.no_grad():
        model.body.embed_tokens.weight[ord("~")] = math.nan  # type: ignore[index, operator, union-attr]
    broken = replace(VALIDATION[0], tree=replace(VALIDATION[0].tree, key="the-broken-one", problem="~"))
    recipe = little_recipe(patience=1, batch_tokens=1, stages=(Stage("head", 2),), max_grad_norm=None)
    with pytest.raises(PrmError, match=r"the validation loss is not a number .*the-broken-one") as raised:
        train(LittleReader(model), TRAIN, [*VALIDATION[1:], broken], recipe, tmp_path)
    assert VALIDATION[1].tree.key not in str(raised.value)


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_weights_that_diverge_are_never_saved(tmp_path: Path, rate: float) -> None:
    recipe = little_recipe(stages=(Stage("all", 2, learning_rate=rate),), warmup=0.0, save_every=1, max_grad_norm=None)
    with pytest.raises(PrmError, match="the training diverged"):
        trained(tmp_path, recipe)
    assert not list(tmp_path.glob("*state-*"))


def test_a_model_that_reads_few_tokens_is_trained(tmp_path: Path) -> None:
    """What the memory of a run is estimated from must fit in, too."""
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    model = StepModel(GPT2Model(config), nn.Linear(16, 3), three_classes)
    data = [LabeledTree(SolutionTree("k", "p", "w", (StepNode("a", -1),)), (StepLabel.GOOD,))]
    _, result = trained(tmp_path, little_recipe(), model=model, data=data, validation=data)
    assert result.optimizer_steps == 2
    assert result.memory.activations > 0


def test_too_long_solutions_raise_or_are_named(tmp_path: Path) -> None:
    long = LabeledTree(
        SolutionTree("long", "p", "Why?", tuple(StepNode("x" * 30, index - 1) for index in range(60))),
        (StepLabel.GOOD,) * 60,
    )
    with pytest.raises(PrmError, match="solution long"):
        trained(tmp_path, little_recipe(), data=[*TRAIN, long])
    _, result = trained(tmp_path, little_recipe(too_long="skip"), data=[*TRAIN, long])
    assert result.skipped == ("long",)
    assert result.solutions == len(TRAIN)


def test_data_without_a_loss_are_an_error(tmp_path: Path) -> None:
    unrated = [replace(tree, labels=(None,) * len(tree.labels)) for tree in TRAIN]
    with pytest.raises(NotEnoughData, match="no step of the training data carries a loss"):
        trained(tmp_path, little_recipe(), data=unrated)
    with pytest.raises(NotEnoughData, match="needs validation data"):
        train(LittleReader(little_model()), TRAIN, [], little_recipe(patience=1), tmp_path)


def test_class_weights_that_were_used_are_told(tmp_path: Path) -> None:
    _, result = trained(tmp_path, little_recipe(class_weights="balanced"))
    assert result.class_weights is not None
    bad, neutral, good = result.class_weights
    assert bad > good
    assert neutral > good


def test_a_fresh_head_does_not_depend_on_the_one_that_was_there(tmp_path: Path) -> None:
    one, other = little_model(), little_model()
    with torch.no_grad():
        other.head.weight.add_(5.0)  # type: ignore[operator, union-attr]
    recipe = little_recipe(fresh_head=True)
    first, _ = trained(tmp_path / "one", recipe, model=one)
    second, _ = trained(tmp_path / "other", recipe, model=other)
    assert_close(first, second, 0.0)


def test_the_weight_of_a_labeling_multiplies_its_loss(tmp_path: Path) -> None:
    """Twice the same labeling at half the weight is the labeling itself."""
    recipe = little_recipe(solutions_per_step=100, stages=(Stage("all", steps=2, learning_rate=1e-3),))
    once, _ = trained(tmp_path / "once", recipe, data=TRAIN[:4])
    halves = [replace(tree, weight=0.5) for tree in TRAIN[:4] for _ in range(2)]
    twice, _ = trained(tmp_path / "twice", recipe, data=halves)
    assert_close(once, twice, 1e-5)
