"""A transformers backbone with a head that judges steps where they are read: the common form of every discriminative
PRM, public or our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from prm_backend.batching import TokenBatch


@dataclass(frozen=True, slots=True)
class StepProbabilities:
    """p (S, 3): p(−), p(0), p(+) of S steps in fp32; spread (S,): standard deviation of p(−) over the heads of an
    ensemble."""

    p: torch.Tensor
    spread: torch.Tensor


Readout = Callable[[torch.Tensor], StepProbabilities]


class StepModel(nn.Module):
    """`body` is a transformers base model without a language-modelling head. `head` maps the hidden states of S steps,
    (S, hidden), to raw outputs (S, …); it sees the step positions only, so a vocabulary or a label layer is never
    computed for the other tokens. `readout` maps raw outputs to probabilities."""

    def __init__(self, body: nn.Module, head: nn.Module, readout: Readout) -> None:
        super().__init__()
        self.body, self.head, self.readout = body, head, readout

    def hidden(self, batch: TokenBatch) -> torch.Tensor:
        """(B, T, hidden)"""
        output = self.body(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Raw outputs of the S steps of a batch, in fp32."""
        raw: torch.Tensor = self.head(self.hidden(batch)[batch.row, batch.read].float())
        return raw

    @torch.inference_mode()
    def judge(self, batch: TokenBatch) -> StepProbabilities:
        return self.readout(self(batch))
