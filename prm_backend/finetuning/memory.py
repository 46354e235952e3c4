"""How much device memory a training run will need, before it starts.

An estimate: parameters, gradients and optimizer are counted; activations are measured in two short forward passes and
carried on to the longest one, as a linear and a square part in the length of a row. Work space, fragmentation and the
buffers of several processes come on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from prm_backend.batching import Encoded, TokenBatch
from prm_backend.stepmodel import StepModel

PROBE, LEAST_PROBE = 96, 6  # a step needs a token


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes on the device."""

    parameters: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations

    def as_dict(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def estimate_memory(
    model: StepModel, passes: Sequence[Sequence[int]], *, trees: bool = False, gradient_checkpointing: bool = False
) -> MemoryEstimate:
    """For forward passes that are each given by the lengths of their rows. `trees`: some hold a tree mask. AdamW keeps
    two numbers for each parameter that trains. The model is left as it was, its random numbers too."""
    parameters = [parameter.numel() * parameter.element_size() for parameter in model.parameters()]
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    config = getattr(model.body, "config", None)
    # No longer than what the model can take: that is told by its configuration, or by what it is to be trained on.
    longest = max((max(lengths) for lengths in passes if lengths), default=PROBE)
    upper = max(LEAST_PROBE, min(PROBE, longest, getattr(config, "max_position_embeddings", None) or PROBE))
    lower = upper // 2
    short, long = (saved_bytes(model, probe(tokens, tree=trees, device=_device(model))) for tokens in (lower, upper))
    square = max(0.0, (long / upper - short / lower) / (upper - lower))
    linear = short / lower - square * lower
    layers = getattr(config, "num_hidden_layers", 0)

    def activations(rows: int, tokens: int) -> float:
        kept = linear * tokens + square * tokens**2
        if gradient_checkpointing and config is not None and layers:
            # Each layer's input stays, and one layer is computed again at a time.
            kept = kept / layers + layers * tokens * config.hidden_size * next(model.body.parameters()).element_size()
        return rows * kept

    largest = max((activations(len(lengths), max(lengths)) for lengths in passes if lengths), default=0.0)
    return MemoryEstimate(sum(parameters), trained, 2 * trained, int(largest))


def _device(model: StepModel) -> torch.device:
    return next(model.parameters()).device


def probe(tokens: int, *, tree: bool, device: torch.device) -> TokenBatch:
    """One row of this many tokens with two steps, one behind the other or beside it."""
    third = tokens // 3
    encoded = Encoded(
        ids=(0,) * tokens,
        starts=(third, 2 * third),
        ends=(2 * third, tokens),
        reads=(2 * third - 1, tokens - 1),
        parents=(-1, -1) if tree else (-1, 0),
    )
    return TokenBatch.of([encoded], device=device)


def saved_bytes(model: StepModel, batch: TokenBatch) -> int:
    """Bytes that a forward pass keeps for its backward pass, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = (storage.nbytes(), storage)  # held, so that no address is used twice
        return tensor

    devices = [batch.ids.device] if batch.ids.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(batch)
    del output
    return sum(size for size, _ in seen.values())
