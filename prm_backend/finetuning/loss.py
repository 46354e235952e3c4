"""The loss of steps against their targets, on the log-probabilities of any discriminative PRM."""

from __future__ import annotations

import math

import torch
from torch import nn

from prm_backend.batching import TokenBatch
from prm_backend.stepmodel import StepModel


def served_logs(logs: torch.Tensor) -> torch.Tensor:
    """(S, H, 4) to (S, 1, 4): the logarithms of the mean over the heads, which is what a PRM gives as a whole."""
    return logs.logsumexp(dim=1, keepdim=True) - math.log(logs.shape[1])


def step_losses(logs: torch.Tensor, targets: torch.Tensor, head_weights: torch.Tensor | None = None) -> torch.Tensor:
    """(S,): cross-entropy of `logs` (S, H, 4) with `targets` (S, 4), mean over the heads, each weighted by
    `head_weights` (S, H)."""
    losses = -(targets[:, None] * logs).sum(dim=-1)
    return (losses if head_weights is None else losses * head_weights).mean(dim=1)


class Objective(nn.Module):
    """What is differentiated, as one module: whatever wraps a model for several processes sees all of it."""

    def __init__(self, model: StepModel, *, pull: float) -> None:
        """`pull`, where not 0, multiplies the regulariser of the head."""
        super().__init__()
        self.model, self.pull = model, pull

    def forward(
        self,
        batch: TokenBatch,
        targets: torch.Tensor,
        head_weights: torch.Tensor | None,
        share: float,
        *,
        served: bool = False,
    ) -> torch.Tensor:
        """Sum of the weighted losses of a batch's steps, plus this `share` of the regulariser. `served`: of the
        probabilities that the PRM gives as a whole, not the mean over its heads."""
        logs = self.model.logs(self.model(batch))
        loss = step_losses(served_logs(logs) if served else logs, targets, head_weights).sum()
        if self.pull and share:
            loss = loss + self.pull * share * self.model.head.pull()  # type: ignore[operator]  # a head that has one
        return loss
