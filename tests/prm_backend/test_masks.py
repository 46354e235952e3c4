"""The mask of an encoder against a slow one that says for each pair of tokens whether it may look."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.batching import Encoded, TokenBatch
from prm_backend.masks import block_mask, near


@st.composite
def encodings(draw: st.DrawFn) -> Encoded:
    """A tree of up to six steps of one to three tokens."""
    end = draw(st.integers(1, 3))
    starts, ends, parents = [], [], []
    for index in range(draw(st.integers(0, 6))):
        starts.append(end)
        end += draw(st.integers(1, 3))
        ends.append(end)
        parents.append(draw(st.integers(-1, index - 1)))
    return Encoded(tuple(range(end)), tuple(starts), tuple(ends), tuple(end - 1 for end in ends), tuple(parents))


def blocks_of(encoded: Encoded) -> list[int]:
    """The step of each token, -1 in the prompt."""
    steps = [-1] * (encoded.starts[0] if encoded.starts else len(encoded))
    for step, (start, end) in enumerate(zip(encoded.starts, encoded.ends, strict=True)):
        steps += [step] * (end - start)
    return steps


def way_to(encoded: Encoded, step: int) -> set[int]:
    return {-1} if step < 0 else {step} | way_to(encoded, encoded.parents[step])


@given(st.lists(encodings(), min_size=1, max_size=3))
def test_a_token_sees_the_way_to_its_step_and_the_whole_of_it(batch: list[Encoded]) -> None:
    mask = block_mask(TokenBatch.of(batch))[:, 0]
    for row, encoded in enumerate(batch):
        blocks = blocks_of(encoded)
        for query, at in enumerate(blocks):
            seen = mask[row, query].nonzero()[:, 0].tolist()
            assert seen == [key for key, block in enumerate(blocks) if block in way_to(encoded, at)]
    assert mask.any(dim=-1).all(), "a token that saw nothing, padding too, would be NaN"


def test_windows_are_as_wide_as_transformers_counts_them() -> None:
    """A causal layer sees `window` tokens, its own among them; a bidirectional one so many to each side of it."""
    positions = torch.arange(6)[None]
    causal = near(positions, 3, bidirectional=False)[0, 0].tril()
    assert causal.sum(dim=1).tolist() == [1, 2, 3, 3, 3, 3]
    assert near(positions, 2, bidirectional=True)[0, 0].sum(dim=1).tolist() == [3, 4, 5, 5, 4, 3]
