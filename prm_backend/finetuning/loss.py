"""The loss of steps against their targets, on the raw outputs of any discriminative PRM."""

from __future__ import annotations

import torch
from torch import nn

from prm_backend.batching import TokenBatch
from prm_backend.stepmodel import Readout, StepModel


def log_probabilities(raw: torch.Tensor, readout: Readout) -> torch.Tensor:
    """(S, H, 4) in fp32: log p(−), log p(0), log p(+), log(p(0) + p(+)).

    Raw outputs (S, 3) and (S, heads, 3) are logits in this order of classes. Of any other form the PRM's own read-out
    gives the probabilities, with H = 1, and 0 and + are trained as "not bad": such PRMs know no neutral steps.
    """
    if _is_three_class(raw):
        logs = raw.float().log_softmax(dim=-1)
        logs = torch.cat([logs, logs[..., 1:].logsumexp(dim=-1, keepdim=True)], dim=-1)
        return logs if raw.ndim == 3 else logs[:, None]
    return served_logs(raw, readout)


def served_logs(raw: torch.Tensor, readout: Readout) -> torch.Tensor:
    """(S, 1, 4): the same of the probabilities that the read-out gives; finite where one is 0."""
    p = readout(raw).p.float()
    logs = torch.cat([p, p[:, 1:].sum(dim=1, keepdim=True)], dim=1).clamp_min(torch.finfo(torch.float32).tiny).log()
    if not _is_three_class(raw):
        logs = logs[:, [0, 3, 3, 3]]
    return logs[:, None]


def _is_three_class(raw: torch.Tensor) -> bool:
    return raw.shape[-1] == 3 and raw.ndim in (2, 3)


def step_losses(logs: torch.Tensor, targets: torch.Tensor, head_weights: torch.Tensor | None = None) -> torch.Tensor:
    """(S,): cross-entropy with `targets` (S, 4), mean over the heads, each weighted by `head_weights` (S, H)."""
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
        raw = self.model(batch)
        logs = served_logs(raw, self.model.readout) if served else log_probabilities(raw, self.model.readout)
        loss = step_losses(logs, targets, head_weights).sum()
        if self.pull and share:
            loss = loss + self.pull * share * self.model.head.pull()  # type: ignore[operator]  # a head that has one
        return loss
