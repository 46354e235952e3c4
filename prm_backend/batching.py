"""Token ids of solutions, and of trees of solutions that share their beginnings, as the tensors of one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of a problem and its steps. The prompt comes first; step i is `ids[starts[i]:ends[i]]`, with whatever
    its adapter puts around it, and is judged at token `reads[i]`. `parents[i]` is the step that step i follows, -1 for
    the prompt; parents come first. A plain solution is a chain: 0 follows -1, 1 follows 0, and so on."""

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    reads: tuple[int, ...]
    parents: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_chain(self) -> bool:
        return self.parents == tuple(range(-1, len(self.parents) - 1))


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """One forward pass over B sequences padded to T tokens, with S steps in all.

    ids (B, T); positions (B, T): each token's distance from the start of its own solution; mask (B, T) of ones and
    zeros where all sequences are chains, else (B, 1, T, T), True where a token may look; row, start, end, read (S,):
    the sequence of each step, its tokens, and where it is judged, in the order of the sequences and their steps.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    row: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    read: torch.Tensor

    @classmethod
    def of(cls, batch: Sequence[Encoded], *, device: torch.device | str = "cpu") -> TokenBatch:
        """Pads with id 0, which the mask hides."""
        longest = max(map(len, batch))
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        positions = torch.arange(longest).repeat(len(batch), 1)
        for row, encoded in enumerate(batch):
            ids[row, : len(encoded)] = torch.tensor(encoded.ids)
            mask[row, : len(encoded)] = 1
            if not encoded.is_chain:
                positions[row, : len(encoded)] = positions_of(encoded)
        if not all(encoded.is_chain for encoded in batch):
            mask = torch.stack([visible(encoded, longest) for encoded in batch])[:, None]
        spans = [
            (row, encoded.starts[step], encoded.ends[step], encoded.reads[step])
            for row, encoded in enumerate(batch)
            for step in range(len(encoded.reads))
        ]
        steps = torch.tensor(spans, dtype=torch.long).reshape(-1, 4).unbind(dim=1)
        return cls(*(tensor.to(device) for tensor in (ids, positions, mask, *steps)))


def positions_of(encoded: Encoded) -> torch.Tensor:
    """(tokens,): a step goes on where the step that it follows ended, whatever stands between them in `ids`."""
    first = encoded.starts[0] if encoded.starts else len(encoded)
    positions = torch.arange(len(encoded))
    after = {-1: first}
    for step, (start, end, parent) in enumerate(zip(encoded.starts, encoded.ends, encoded.parents, strict=True)):
        positions[start:end] = torch.arange(end - start) + after[parent]
        after[step] = after[parent] + end - start
    return positions


def visible(encoded: Encoded, size: int) -> torch.Tensor:
    """(size, size) of bool: each token sees the prompt, the steps on the way to its own, and its own up to itself."""
    steps = len(encoded.parents)
    on_the_way = torch.zeros(steps + 1, steps + 1, dtype=torch.bool)  # the last row and column are the prompt's
    on_the_way[-1] = on_the_way[:, -1] = True
    owner = torch.full((size,), steps)
    for step, (start, end, parent) in enumerate(zip(encoded.starts, encoded.ends, encoded.parents, strict=True)):
        if parent >= 0:
            on_the_way[step] = on_the_way[parent]
        on_the_way[step, step] = True
        owner[start:end] = step
    seen = on_the_way[owner][:, owner].tril_()
    seen[:, len(encoded) :] = False
    seen[len(encoded) :, 0] = True  # a padding token that saw nothing would be NaN
    return seen


def token_batches(lengths: Sequence[int], *, most_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, each of at most `most_tokens` padded tokens (or one sequence)."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > most_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
