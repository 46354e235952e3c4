"""An ensemble of step heads on one hidden state, cheap enough to give disagreement in the same forward pass, and how
the hidden states of a step become that one.

Heads that start alike and see the same data stay alike and disagree about nothing. Two things keep them apart
(arXiv 2504.10559): each is pulled towards random weights of its own, which decide where the data say nothing, and each
may see its own bootstrap sample of the problems.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prm_backend.batching import TokenBatch
from prm_backend.stepmodel import StepProbabilities, TrainableReadout

Pooling = Literal["last", "attention"]

# A head of two classes gives this share of p(not −) to p(0): it has no opinion, and a logarithm needs a number.
NEUTRAL_SHARE = 1e-6


@dataclass(frozen=True)
class HeadSpec:
    """What a head is, as plain data. `classes`: 3 for −, 0, +; 2 for − against not −. `pooling`: the hidden state at
    the token where the step is read, or an attention-weighted mean over its tokens. `scale`: standard deviation of the
    random logits that a hidden state of unit RMS starts with, and of those that the pull leads back to."""

    heads: int = 8
    classes: int = 3
    pooling: Pooling = "last"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.heads < 1 or self.classes not in (2, 3) or self.pooling not in ("last", "attention"):
            raise ValueError(f"no such head: {asdict(self)}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class EnsembleHead(nn.Module):
    """`heads` linear heads: (S, hidden) -> raw logits (S, heads, 3) in the order −, 0, +, always in fp32.

    With two classes the logits of 0 and + are that of "not −" plus the logarithms of their fixed shares, so that every
    loss and read-out for three classes is exact for two: cross-entropy differs by a constant only.
    """

    anchor: torch.Tensor

    def __init__(self, hidden: int, spec: HeadSpec, *, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.register_buffer("anchor", torch.empty(spec.heads, spec.classes, hidden))
        self.weight = nn.Parameter(torch.empty_like(self.anchor))
        self.bias = nn.Parameter(torch.empty(spec.heads, spec.classes))
        self.reset_parameters(torch.Generator().manual_seed(seed))

    @torch.no_grad()
    def reset_parameters(self, random: torch.Generator | None = None) -> None:
        """Draw new random weights, those to be pulled to as well; from torch's global numbers unless given others."""
        self.anchor.normal_(std=self.spec.scale / math.sqrt(self.anchor.shape[-1]), generator=random)
        self.weight.copy_(self.anchor)
        self.bias.zero_()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            logits = torch.einsum("sd,hcd->shc", hidden.float(), self.weight) + self.bias
        if self.spec.classes == 3:
            return logits
        bad, fine = logits.unbind(dim=-1)
        return torch.stack([bad, fine + math.log(NEUTRAL_SHARE), fine + math.log1p(-NEUTRAL_SHARE)], dim=-1)

    def pull(self) -> torch.Tensor:
        """Minus the logarithm of the Gaussian that the random weights are drawn from, around each head's own, mean over
        the heads. Added to a mean loss over n independent labels with weight 1/n, it makes each head the most likely
        one after these labels under that prior. Heads that start at nothing (scale 0) are held as those of scale 1."""
        variance = (self.spec.scale or 1.0) ** 2 / self.anchor.shape[-1]
        return (self.weight - self.anchor).square().sum(dim=(1, 2)).mean() / (2 * variance)


def _ensemble_probabilities(raw: torch.Tensor) -> StepProbabilities:
    p = raw.float().softmax(dim=-1)
    return StepProbabilities(p.mean(dim=1), p[..., 0].std(dim=1, correction=0))


def _ensemble_logs(raw: torch.Tensor) -> torch.Tensor:
    logs = raw.float().log_softmax(dim=-1)
    return torch.cat([logs, logs[..., 1:].logsumexp(dim=-1, keepdim=True)], dim=-1)


# (S, heads, 3) -> p: mean over the heads of their softmax; spread: standard deviation of p(−) over the heads.
ensemble_readout = TrainableReadout(_ensemble_probabilities, _ensemble_logs)


class LastToken(nn.Module):
    """(B, T, hidden) -> (S, hidden): the hidden state at the token where each step is read."""

    def forward(self, hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        return hidden[batch.row, batch.read].float()


class AttentionPooling(nn.Module):
    """(B, T, hidden) -> (S, hidden): the mean over a step's tokens, its separator included, weighted by a softmax of
    their products with one learned query. It starts as the plain mean. Cost and memory grow with the number of tokens,
    not with steps times tokens."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(hidden))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.query.zero_()

    def forward(self, hidden: torch.Tensor, batch: TokenBatch) -> torch.Tensor:
        steps = len(batch.row)
        length = batch.end - batch.start
        step = torch.repeat_interleave(torch.arange(steps, device=hidden.device), length)
        inside = torch.arange(len(step), device=hidden.device) - (length.cumsum(0) - length)[step]
        tokens = hidden[batch.row[step], batch.start[step] + inside].float()
        with torch.autocast(hidden.device.type, enabled=False):
            score = tokens @ self.query / math.sqrt(len(self.query))
            highest = score.new_full((steps,), -torch.inf).scatter_reduce(0, step, score.detach(), "amax")
            weight = (score - highest[step]).exp()
            total = weight.new_zeros(steps).index_add(0, step, weight)
            share = weight / total[step]
            return tokens.new_zeros(steps, tokens.shape[1]).index_add(0, step, share[:, None] * tokens)


def pooling_module(spec: HeadSpec, hidden: int) -> LastToken | AttentionPooling:
    return LastToken() if spec.pooling == "last" else AttentionPooling(hidden)


def bootstrap_weights(problem_keys: Sequence[str], *, heads: int, seed: int) -> NDArray[np.float32]:
    """(problems, heads): how often each problem counts for each head, Poisson(1), from a hash of seed and problem. So
    a problem counts alike wherever and in whatever company it comes."""
    table = np.empty((len(problem_keys), heads), np.float32)
    cumulative = np.cumsum([math.exp(-1) / math.factorial(count) for count in range(12)])
    for row, key in enumerate(problem_keys):
        digest = hashlib.shake_256(f"{seed}:{key}".encode()).digest(8 * heads)
        uniform = np.frombuffer(digest, "<u8") / 2.0**64
        table[row] = np.searchsorted(cumulative, uniform, side="right")
    return table
