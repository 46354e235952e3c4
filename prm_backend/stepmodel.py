"""A transformers backbone with a head that judges steps where they are read: the common form of every discriminative
PRM, public or our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prm_backend.batching import TokenBatch
from prm_backend.errors import PrmError
from prm_backend.linear import use_fastest_linear
from prm_backend.masks import attention_mask


@dataclass(frozen=True, slots=True)
class StepProbabilities:
    """p (S, 3): p(−), p(0), p(+) of S steps in fp32; spread (S,): standard deviation of p(−) over the heads of an
    ensemble."""

    p: torch.Tensor
    spread: torch.Tensor


Readout = Callable[[torch.Tensor], StepProbabilities]


@dataclass(frozen=True, slots=True)
class TrainableReadout:
    """A read-out that states its form for training. `logs` maps raw outputs to (S, H, 4) in fp32: log p(−), log p(0),
    log p(+) and log(p(0) + p(+)) of each of H heads, whose probabilities the read-out averages. They come from the raw
    outputs and not from probabilities, so that a step judged wrong with certainty has a gradient. A PRM that knows no
    neutral steps has log(p(0) + p(+)) for 0 and + as well: they train as "not bad"."""

    probabilities: Readout
    logs: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, raw: torch.Tensor) -> StepProbabilities:
        return self.probabilities(raw)


class StepModel(nn.Module):
    """`body` is a transformers base model without a language-modelling head. `head` maps the hidden states of S steps,
    (S, hidden), to raw outputs (S, …); it sees the step positions only, so a vocabulary or a label layer is never
    computed for the other tokens. `readout` maps raw outputs to probabilities; to be trained, a model needs a
    `TrainableReadout`. `causal` says that no token of the body
    sees a later one; `reads_trees`, that steps which share their beginnings may be read in one sequence."""

    def __init__(self, body: nn.Module, head: nn.Module, readout: Readout) -> None:
        super().__init__()
        self.body, self.head, self.readout = body, head, readout
        use_fastest_linear(self)
        allowed = getattr(getattr(body, "config", None), "is_causal", True)
        self.causal = bool(allowed) and any(getattr(module, "is_causal", False) for module in body.modules())

    @property
    def reads_trees(self) -> bool:
        return self.causal

    @property
    def hidden_size(self) -> int:
        config: Any = self.body.config
        return int(config.hidden_size)

    def hidden(self, batch: TokenBatch) -> torch.Tensor:
        """(B, T, hidden); what stands at padding means nothing."""
        mask: torch.Tensor | dict[str, torch.Tensor] | None = batch.mask
        positions: torch.Tensor | None = batch.positions
        if batch.mask.ndim == 4:
            dtype = next(self.body.parameters()).dtype
            mask = attention_mask(batch, self.body.config, bidirectional=False, dtype=dtype)
        elif self.causal:
            # Padding comes last and is out of sight already, and attention that needs no mask computes half of the
            # pairs. Positions that count from 0 are every model's own; given here, they make it search for packing.
            mask = positions = None
        output = self.body(input_ids=batch.ids, attention_mask=mask, position_ids=positions, use_cache=False)
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        """Raw outputs of the S steps of a batch, in fp32."""
        hidden = self.hidden(batch)[batch.row, batch.read].float()
        with torch.autocast(hidden.device.type, enabled=False):
            raw: torch.Tensor = self.head(hidden)
        return raw

    def logs(self, raw: torch.Tensor) -> torch.Tensor:
        """(S, H, 4), see `TrainableReadout`. Raises `PrmError` where the read-out does not state them."""
        if not isinstance(self.readout, TrainableReadout):
            raise PrmError("this model cannot be trained: its read-out states no log-probabilities (TrainableReadout)")
        return self.readout.logs(raw)

    @torch.inference_mode()
    def judge(self, batch: TokenBatch) -> StepProbabilities:
        return self.readout(self(batch))
