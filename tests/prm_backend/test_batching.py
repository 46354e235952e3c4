from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.batching import Encoded, TokenBatch, positions_of, token_batches, visible


@st.composite
def encodings(draw: st.DrawFn) -> Encoded:
    """Any tree of steps with any number of tokens."""
    prompt = draw(st.integers(1, 4))
    lengths = draw(st.lists(st.integers(1, 3), max_size=6))
    parents = tuple(draw(st.integers(-1, step - 1)) for step in range(len(lengths)))
    starts = tuple(prompt + sum(lengths[:step]) for step in range(len(lengths)))
    ends = tuple(start + length for start, length in zip(starts, lengths, strict=True))
    return Encoded(tuple(range(1, prompt + sum(lengths) + 1)), starts, ends, tuple(end - 1 for end in ends), parents)


def way(encoded: Encoded, token: int) -> list[int]:
    """The tokens that a solution which ends with this token would have, in order."""
    first = encoded.starts[0] if encoded.starts else len(encoded)
    step = next((step for step, end in enumerate(encoded.ends) if encoded.starts[step] <= token < end), -1)
    before: list[int] = []
    while step >= 0:
        before = [*range(encoded.starts[step], encoded.ends[step]), *before]
        step = encoded.parents[step]
    return [place for place in (*range(first), *before) if place <= token]


@given(encodings(), st.integers(0, 4))
def test_a_token_sees_its_own_solution_and_nothing_else(encoded: Encoded, padding: int) -> None:
    seen = visible(encoded, len(encoded) + padding)
    for token in range(len(encoded)):
        assert seen[token].nonzero().flatten().tolist() == way(encoded, token)


@given(encodings())
def test_a_token_counts_its_place_in_its_own_solution(encoded: Encoded) -> None:
    positions = positions_of(encoded).tolist()
    assert positions == [len(way(encoded, token)) - 1 for token in range(len(encoded))]


@given(encodings(), st.integers(1, 4))
def test_padding_is_never_seen_and_sees_something(encoded: Encoded, padding: int) -> None:
    seen = visible(encoded, len(encoded) + padding)
    assert not seen[: len(encoded), len(encoded) :].any()
    assert seen.any(dim=1).all()  # attention over nothing is not a number


@given(st.lists(encodings(), min_size=1, max_size=4))
def test_a_batch_holds_every_step_of_every_sequence_where_it_stands(batch: list[Encoded]) -> None:
    made = TokenBatch.of(batch)
    spans = list(zip(*(column.tolist() for column in (made.row, made.start, made.end, made.read)), strict=True))
    assert spans == [
        (row, *span)
        for row, encoded in enumerate(batch)
        for span in zip(encoded.starts, encoded.ends, encoded.reads, strict=True)
    ]
    for row, encoded in enumerate(batch):
        assert made.ids[row, : len(encoded)].tolist() == list(encoded.ids)
        assert not made.ids[row, len(encoded) :].any()
        assert torch.equal(made.positions[row, : len(encoded)], positions_of(encoded))


@given(st.lists(encodings(), min_size=1, max_size=4))
def test_only_trees_bring_a_mask_for_every_pair(batch: list[Encoded]) -> None:
    made = TokenBatch.of(batch)
    size = made.ids.shape[1]
    if all(encoded.is_chain for encoded in batch):
        assert made.mask.sum(dim=1).tolist() == [len(encoded) for encoded in batch]
    else:
        assert made.mask.shape == (len(batch), 1, size, size)
        for row, encoded in enumerate(batch):
            assert torch.equal(made.mask[row, 0], visible(encoded, size))


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(1, 120))
def test_batches_hold_everything_once_within_the_budget(lengths: list[int], most: int) -> None:
    batches = list(token_batches(lengths, most_tokens=most))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= most


def test_like_goes_with_like() -> None:
    assert list(token_batches([5, 1, 5, 1, 1], most_tokens=10)) == [[0, 2], [1, 3, 4]]


@pytest.mark.parametrize("parents", [(), (-1,), (-1, 0, 1)])
def test_a_chain_is_told_from_a_tree(parents: tuple[int, ...]) -> None:
    bounds = tuple(range(1, len(parents) + 1))
    ends = tuple(bound + 1 for bound in bounds)
    assert Encoded(tuple(range(len(parents) + 1)), bounds, ends, bounds, parents).is_chain
    assert not Encoded((1, 2, 3), (1, 2), (2, 3), (1, 2), (-1, -1)).is_chain
