from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.finetuning.plan import MaskedLength, epoch_order, forward_passes, learning_rate_factor, steps_of_stage
from prm_backend.finetuning.recipe import Recipe, Stage

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
def test_an_epoch_holds_each_tree_once_in_steps_of_the_asked_size(
    lengths: list[int], size: int, window: int, epoch: int
) -> None:
    recipe = Recipe(solutions_per_step=size, window_steps=window)
    steps = epoch_order(lengths, recipe, epoch=epoch)
    assert sorted(index for step in steps for index in step) == list(range(len(lengths)))
    assert len(steps) == math.ceil(len(lengths) / size)
    assert sorted(map(len, steps))[1:] == [size] * (len(steps) - 1)
    assert steps == epoch_order(lengths, recipe, epoch=epoch)


def test_epochs_and_seeds_differ() -> None:
    lengths = list(range(50))
    orders = [epoch_order(lengths, Recipe(seed=seed), epoch=epoch) for seed in range(2) for epoch in range(2)]
    assert len({str(order) for order in orders}) == 4


def test_the_short_step_of_an_epoch_is_a_draw_like_any_other() -> None:
    """101 trees, 100 in whole steps: each is left over now and then, the longest no more than others."""
    recipe = Recipe(solutions_per_step=10, window_steps=100)
    left = []
    for epoch in range(40):
        (short,) = (step for step in epoch_order(range(101), recipe, epoch=epoch) if len(step) == 1)
        left += short
    assert len(set(left)) > 20
    assert 25 < sum(left) / len(left) < 75


def test_a_window_brings_like_lengths_together() -> None:
    lengths = [(index * 37) % 101 for index in range(100)]

    def waste(window: int) -> int:
        steps = epoch_order(lengths, Recipe(solutions_per_step=10, window_steps=window), epoch=0)
        return sum(max(lengths[index] for index in step) * len(step) for step in steps)

    assert waste(10) < 0.7 * waste(1)


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 4))
def test_passes_hold_each_tree_once_within_the_budget(lengths: list[int], budget: int, processes: int) -> None:
    cut = forward_passes(range(len(lengths)), lengths, batch_tokens=budget, processes=processes)
    assert len(cut) == processes
    assert len({len(passes) for passes in cut}) == 1
    batches = [batch for passes in cut for batch in passes]
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= 1 or len(batch) * max(lengths[index] for index in batch) <= budget


def test_trees_and_chains_are_read_in_passes_of_their_own() -> None:
    """A mask of one tree would be a mask for every chain beside it."""
    lengths = [MaskedLength(100) if index % 3 == 0 else 100 for index in range(12)]
    (passes,) = forward_passes(range(12), lengths, batch_tokens=100_000, processes=1)
    assert sorted(map(sorted, passes)) == [[0, 3, 6, 9], [1, 2, 4, 5, 7, 8, 10, 11]]


def test_processes_share_the_tokens_evenly() -> None:
    lengths = [100] * 8
    cut = forward_passes(range(8), lengths, batch_tokens=10_000, processes=2)
    assert [[len(batch) for batch in passes] for passes in cut] == [[4], [4]]


def test_the_learning_rate_rises_and_falls() -> None:
    recipe = Recipe(warmup=0.1, floor=0.1)
    rates = [learning_rate_factor(step, 100, recipe) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)
    assert learning_rate_factor(0, 1, Recipe(warmup=1.0)) == 1.0


def test_a_stage_has_its_steps_or_its_epochs() -> None:
    recipe = Recipe(solutions_per_step=8)
    assert steps_of_stage(Stage(epochs=2), 20, recipe) == 6
    assert steps_of_stage(Stage(epochs=0.5), 20, recipe) == 2
    assert steps_of_stage(Stage(epochs=0.01), 20, recipe) == 1
    assert steps_of_stage(Stage(epochs=2, steps=5), 20, recipe) == 5
