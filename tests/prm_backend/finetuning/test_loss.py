from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from prm_backend.finetuning.loss import Objective, log_probabilities, served_logs, step_losses
from prm_backend.finetuning.memory import estimate_memory, probe, saved_bytes
from prm_backend.heads import ensemble_readout
from prm_backend.stepmodel import StepProbabilities
from tests.prm_backend.finetuning.little import little_model, three_classes


def two_classes(raw: torch.Tensor) -> StepProbabilities:
    p = raw.softmax(dim=-1)
    return StepProbabilities(torch.stack([p[:, 0], torch.zeros(len(p)), p[:, 1]], dim=1), torch.zeros(len(p)))


def test_hard_targets_give_cross_entropy() -> None:
    raw = torch.randn(7, 3, requires_grad=True)
    label = torch.tensor([0, 1, 2, 0, 1, 2, 2])
    targets = torch.zeros(7, 4).scatter_(1, label[:, None], 1.0)
    losses = step_losses(log_probabilities(raw, three_classes), targets)
    torch.testing.assert_close(losses, cross_entropy(raw, label, reduction="none"))


def test_not_bad_trains_the_sum_and_leaves_how_it_is_shared() -> None:
    """Its gradient moves − against the rest, and 0 against + not at all."""
    raw = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    loss = step_losses(log_probabilities(raw, three_classes), targets).sum()
    p = raw.softmax(dim=-1)
    assert loss.item() == pytest.approx(-torch.log(p[0, 1] + p[0, 2]).item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, raw)
    assert gradient[0, 0] > 0
    assert (gradient[0, 1] / gradient[0, 2]).item() == pytest.approx((p[0, 1] / p[0, 2]).item(), rel=1e-5)


def test_each_head_has_its_own_loss_and_weight() -> None:
    raw = torch.randn(5, 2, 3)
    targets = torch.tensor([[1.0, 0, 0, 0]] * 5)
    weights = torch.tensor([[2.0, 0.0]] * 5)
    only_first = step_losses(log_probabilities(raw[:, 0], three_classes), targets)
    torch.testing.assert_close(step_losses(log_probabilities(raw, ensemble_readout), targets, weights), only_first)


def test_extreme_logits_stay_finite() -> None:
    raw = torch.tensor([[1000.0, -1000.0, -1000.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    loss = step_losses(log_probabilities(raw, three_classes), targets).sum()
    (gradient,) = torch.autograd.grad(loss, raw)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(served_logs(raw, three_classes)).all()


def test_a_prm_of_two_classes_trains_through_its_own_read_out() -> None:
    """Whatever order its outputs have: neutral, good and not-bad steps all train p(not −)."""
    raw = torch.randn(4, 2, requires_grad=True)
    targets = torch.eye(4)
    losses = step_losses(log_probabilities(raw, two_classes), targets)
    torch.testing.assert_close(losses, cross_entropy(raw, torch.tensor([0, 1, 1, 1]), reduction="none"))


def test_the_served_loss_is_that_of_the_mean_over_the_heads() -> None:
    raw = torch.randn(6, 4, 3)
    p = raw.softmax(dim=-1).mean(dim=1)
    logs = served_logs(raw, ensemble_readout)[:, 0]
    torch.testing.assert_close(logs[:, :3], p.log())
    torch.testing.assert_close(logs[:, 3], (p[:, 1] + p[:, 2]).log())


def test_the_pull_of_an_ensemble_head_is_part_of_the_objective() -> None:
    model = little_model(heads=2)
    with torch.no_grad():
        model.head.weight.add_(1.0)  # type: ignore[operator, union-attr]
    batch, targets = probe(48, tree=False, device=torch.device("cpu")), torch.zeros(2, 4)
    assert Objective(model, pull=3.0)(batch, targets, None, 0.5).item() == pytest.approx(3.0 * 0.5 * 16, rel=1e-4)
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
