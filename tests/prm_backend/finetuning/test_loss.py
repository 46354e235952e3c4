from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from prm_backend.adapters import PRESETS
from prm_backend.adapters.readout import readout_of, softmax_over
from prm_backend.errors import PrmError
from prm_backend.finetuning.loss import Objective, served_logs, step_losses
from prm_backend.finetuning.memory import estimate_memory, probe, saved_bytes
from prm_backend.heads import ensemble_readout
from prm_backend.stepmodel import StepModel, TrainableReadout
from tests.prm_backend.finetuning.little import little_model, three_classes

TRAINABLE = {
    **{name: readout_of(preset) for name, preset in PRESETS.items() if preset.head != "none"},
    "own": ensemble_readout,
    "the other way round": softmax_over(("good", "neutral", "bad")),
}
OUTPUTS = {"sigmoid": (1,), "mean_sigmoid": (3,)}


def raw_of(name: str, *, scale: float = 1.0) -> torch.Tensor:
    """Outputs for 6 steps; of ensembles three members, as many as there are classes."""
    if name == "own":
        return scale * torch.randn(6, 4, 3)
    if name == "the other way round":
        return scale * torch.randn(6, 3)
    preset = PRESETS[name]
    return scale * torch.randn(6, *OUTPUTS.get(preset.readout, (len(preset.classes),)))


@pytest.mark.parametrize("name", TRAINABLE)
def test_what_is_trained_is_what_is_read(name: str) -> None:
    """Whatever the outputs mean, and whatever shape they have."""
    torch.manual_seed(0)
    readout, raw = TRAINABLE[name], raw_of(name)
    p, logs = readout(raw).p, served_logs(readout.logs(raw))[:, 0]
    fine = p[:, 1] + p[:, 2]
    torch.testing.assert_close(logs[:, 0].exp(), p[:, 0])
    torch.testing.assert_close(logs[:, 3].exp(), fine)
    knows_neutral = bool(p[:, 1].any())
    torch.testing.assert_close(logs[:, 1].exp(), p[:, 1] if knows_neutral else fine)
    torch.testing.assert_close(logs[:, 2].exp(), p[:, 2] if knows_neutral else fine)


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_step_judged_wrong_with_certainty_still_learns(name: str) -> None:
    """In fp32 the probability of its label is 0, or 1 minus it is."""
    torch.manual_seed(0)
    raw = raw_of(name, scale=1000.0).requires_grad_()
    logs = TRAINABLE[name].logs(raw)
    wrong = torch.zeros(6, 4)
    wrong[torch.arange(6), logs.detach().mean(dim=1)[:, [0, 3]].argmin(dim=1) * 3] = 1.0
    losses = step_losses(logs, wrong)
    (gradient,) = torch.autograd.grad(losses.sum(), raw)
    assert torch.isfinite(losses).all()
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).abs().sum(dim=1) > 0.1).all()


def test_a_read_out_that_does_not_state_its_form_is_not_trained() -> None:
    model = little_model()
    plain = StepModel(model.body, model.head, three_classes.probabilities)
    batch = probe(48, tree=False, device=torch.device("cpu"))
    assert plain.judge(batch).p.shape == (2, 3)
    with pytest.raises(PrmError, match="states no log-probabilities"):
        Objective(plain, pull=0.0)(batch, torch.zeros(2, 4), None, 0.0)


def losses_of(raw: torch.Tensor, readout: TrainableReadout, targets: torch.Tensor) -> torch.Tensor:
    return step_losses(readout.logs(raw), targets)


def test_hard_targets_give_cross_entropy() -> None:
    raw = torch.randn(7, 3, requires_grad=True)
    label = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    targets = torch.zeros(7, 4).scatter_(1, label[:, None], 1.0)
    losses = losses_of(raw, three_classes, targets)
    torch.testing.assert_close(losses, cross_entropy(raw, label, reduction="none"))


def test_not_bad_trains_the_sum_and_leaves_how_it_is_shared() -> None:
    """Its gradient moves − against the rest, and 0 against + not at all."""
    raw = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    loss = losses_of(raw, three_classes, targets).sum()
    p = raw.softmax(dim=-1)
    assert loss.item() == pytest.approx(-torch.log(p[0, 1] + p[0, 2]).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, raw)
    assert gradient[0, 0] > 0
    assert (gradient[0, 1] / gradient[0, 2]).item() == pytest.approx((p[0, 1] / p[0, 2]).item(), rel=1e-5)


def test_each_head_has_its_own_loss_and_weight() -> None:
    raw = torch.randn(5, 2, 3)
    targets = torch.tensor([[1.0, 0, 0, 0]] * 5)
    weights = torch.tensor([[2.0, 0.0]] * 5)
    only_first = losses_of(raw[:, 0], three_classes, targets)
    torch.testing.assert_close(step_losses(ensemble_readout.logs(raw), targets, weights), only_first)


def test_a_prm_of_two_classes_trains_through_its_own_read_out() -> None:
    """Whatever order its outputs have: neutral, good and not-bad steps all train p(not −)."""
    raw = torch.randn(4, 2, requires_grad=True)
    targets = torch.eye(4)
    losses = losses_of(raw, softmax_over(("good", "bad")), targets)
    torch.testing.assert_close(losses, cross_entropy(raw, torch.tensor([1, 0, 0, 0]), reduction="none"))


def test_the_served_loss_is_that_of_the_mean_over_the_heads() -> None:
    raw = torch.randn(6, 4, 3)
    p = raw.softmax(dim=-1).mean(dim=1)
    logs = served_logs(ensemble_readout.logs(raw))[:, 0]
    torch.testing.assert_close(logs[:, :3], p.log())
    torch.testing.assert_close(logs[:, 3], (p[:, 1] + p[:, 2]).log())


def test_the_pull_of_an_ensemble_head_is_part_of_the_objective() -> None:
    model = little_model(heads=2)
    with torch.no_grad():
        model.head.weight.add_(1.0)  # type: ignore[operator, union-attr]  # 16 × 3 weights, each of variance 1 / 16
    batch, targets = probe(48, tree=False, device=torch.device("cpu")), torch.zeros(2, 4)
    assert Objective(model, pull=3.0)(batch, targets, None, 0.5).item() == pytest.approx(3.0 * 0.5 * 384, rel=1e-4)
    assert Objective(model, pull=3.0)(batch, targets, None, 0.0).item() == 0.0


def test_memory_is_estimated_within_a_factor_of_what_is_measured() -> None:
    """Four rows of 400 tokens, far longer than the probes."""
    model = little_model(layers=3, hidden=32)
    rows, tokens = 4, 400
    estimate = estimate_memory(model, [[100] * 3, [tokens] * rows])
    measured = rows * saved_bytes(model, probe(tokens, tree=False, device=torch.device("cpu")))
    assert 0.6 < estimate.activations / measured < 1.6
    count = sum(parameter.numel() for parameter in model.parameters())
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (4 * count, 4 * count, 8 * count)
    assert estimate.total == sum((16 * count, estimate.activations))


def test_memory_of_trees_counts_their_mask() -> None:
    model = little_model()
    chains, trees = (estimate_memory(model, [[600]], trees=trees) for trees in (False, True))
    assert trees.activations > chains.activations + 600 * 600


def test_memory_of_a_frozen_backbone_is_that_of_the_head() -> None:
    model = little_model()
    whole = estimate_memory(model, [[300]])
    model.body.requires_grad_(False)
    head = estimate_memory(model, [[300]])
    assert head.activations < whole.activations / 20
    assert head.gradients == 4 * sum(parameter.numel() for parameter in model.head.parameters())


def test_an_estimate_leaves_random_numbers_alone() -> None:
    model = little_model(dropout=0.5)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    estimate_memory(model.train(), [[100]])
    assert torch.equal(torch.rand(3), expected)
