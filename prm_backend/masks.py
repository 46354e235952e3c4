"""What each token may look at, said so that every layer of a transformers model obeys.

transformers (5.23, `masking_utils`) takes a ready four-dimensional mask as it is, for every layer: a layer with a
sliding window then sees beyond its window in silence, and `eager` attention adds a mask of bool as ones and zeros. The
masks made here hold the window, counted in positions, and have the form that the attention in use reads.
"""

from __future__ import annotations

from typing import Any

import torch

from prm_backend.batching import TokenBatch
from prm_backend.errors import PrmError

LAYER_TYPES = {"full_attention", "sliding_attention"}


def attention_mask(
    batch: TokenBatch, config: Any, *, bidirectional: bool, dtype: torch.dtype
) -> torch.Tensor | dict[str, torch.Tensor]:
    """The `attention_mask` argument of a body with this config: (B, T) for chains in a causal body, which transformers
    completes itself; else (B, 1, T, T), or one such mask for each type of layer where a body mixes them.

    A bidirectional body is held to read in blocks (`block_mask`). Raises `PrmError` where its attention cannot take
    such a mask.
    """
    if batch.mask.dim() == 2 and not bidirectional:
        return batch.mask
    allowed = block_mask(batch) if bidirectional else batch.mask
    types = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    if not types:
        types = {"full_attention" if window is None else "sliding_attention"}
    implementation = config._attn_implementation
    if not types <= LAYER_TYPES or implementation not in ("sdpa", "eager"):
        raise PrmError(
            f"{config.model_type} with {implementation} attention and layers {', '.join(sorted(types))} cannot read "
            "steps that share their beginnings"
        )
    masks = {"full_attention": allowed}
    if window is not None:
        masks["sliding_attention"] = allowed & near(batch.positions, window, bidirectional=bidirectional)
    ready = {kind: mask if implementation == "sdpa" else additive(mask, dtype) for kind, mask in masks.items()}
    return {kind: ready[kind] for kind in types} if len(types) > 1 else ready[types.pop()]


def block_mask(batch: TokenBatch) -> torch.Tensor:
    """(B, 1, T, T) of bool: the tokens of the prompt see each other; those of a step see the prompt, the steps before
    it on its way, and the whole of their own step."""
    block = torch.zeros_like(batch.ids).index_put((batch.row, batch.start), torch.ones_like(batch.row), accumulate=True)
    block = block.cumsum(dim=1)
    if batch.mask.dim() == 2:
        real = batch.mask.bool()
        way = block[:, None, :] <= block[:, :, None]
    else:
        real = batch.mask[:, 0].diagonal(dim1=1, dim2=2)
        way = batch.mask[:, 0] | (block[:, None, :] == block[:, :, None])
    return (way & real[:, None, :])[:, None]


def near(positions: torch.Tensor, window: int, *, bidirectional: bool) -> torch.Tensor:
    """(B, 1, T, T) of bool: at most as far back as the window goes; transformers counts the token itself among the
    `window` of a causal layer, and `window` to each side of it in a bidirectional one."""
    back = positions[:, :, None] - positions[:, None, :]
    return (back.abs() <= window if bidirectional else back < window)[:, None]


def additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a token may look, the least number elsewhere."""
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)
