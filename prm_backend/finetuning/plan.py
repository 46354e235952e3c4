"""Which trees make up an optimizer step, and how a step is cut into forward passes for each process.

All of it follows from the lengths, the recipe's seed and the epoch, so that every process knows the whole plan and a
resumed run goes on with the very same batches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from prm_backend.batching import token_batches
from prm_backend.finetuning.recipe import Recipe, Stage

# Padded tokens of a forward pass, by device, where a recipe leaves it open. A CPU gains nothing from wide batches, and
# narrow ones hold less padding (bench/training.py); a GPU wants work for all of its cores.
PASS_TOKENS = {"cpu": 1024, "cuda": 16_384}


class MaskedLength(int):
    """Tokens of a tree. Its mask takes their square in memory, and one for every other sequence of its pass, so chains
    are kept out of it."""


def steps_per_epoch(examples: int, recipe: Recipe) -> int:
    return math.ceil(examples / recipe.solutions_per_step)


def steps_of_stage(stage: Stage, examples: int, recipe: Recipe) -> int:
    return stage.steps or max(1, math.ceil(stage.epochs * steps_per_epoch(examples, recipe)))


def epoch_order(lengths: Sequence[int], recipe: Recipe, *, epoch: int) -> list[list[int]]:
    """Optimizer steps as lists of indices; each index once. Within a window of steps, trees of like length share one,
    and the steps are shuffled again. Who ends up in the short step, if there is one, does not depend on length."""
    rng = random.Random(f"{recipe.seed} {epoch}")  # noqa: S311 - reproducible training, nothing secret
    order = rng.sample(range(len(lengths)), len(lengths))
    size, window = recipe.solutions_per_step, recipe.solutions_per_step * recipe.window_steps
    steps = []
    for first in range(0, len(order), window):
        part = order[first : first + window]
        if recipe.window_steps > 1:
            whole = len(part) // size * size
            part[:whole] = sorted(part[:whole], key=lambda index: lengths[index])
        steps += [part[start : start + size] for start in range(0, len(part), size)]
    if recipe.window_steps > 1:
        rng.shuffle(steps)
    return steps


def forward_passes(
    step: Sequence[int], lengths: Sequence[int], *, batch_tokens: int, processes: int
) -> list[list[list[int]]]:
    """For each process the indices of each of its passes, longest first; trees and chains apart (`MaskedLength`). Every
    process gets the same number of passes: an empty one stands for work that has no weight, because processes must meet
    in each pass."""
    trees = [index for index in step if isinstance(lengths[index], MaskedLength)]
    chains = [index for index in step if not isinstance(lengths[index], MaskedLength)]
    batches = [
        [alike[position] for position in batch]
        for alike in (chains, trees)
        for batch in token_batches([lengths[index] for index in alike], most_tokens=batch_tokens)
    ]
    while len(batches) % processes:
        largest = max(batches, key=len)
        if len(largest) < 2:
            batches.append([])
            continue
        batches[batches.index(largest)] = largest[: len(largest) // 2]
        batches.append(largest[len(largest) // 2 :])
    batches.sort(key=lambda batch: -len(batch) * max((lengths[index] for index in batch), default=0))
    return [batches[process::processes] for process in range(processes)]


def learning_rate_factor(step: int, steps: int, recipe: Recipe) -> float:
    """Of step 0, 1, … of a stage: linear rise over the warm-up, then a half cosine down to the floor."""
    rise = math.ceil(recipe.warmup * steps)
    if step < rise:
        return (step + 1) / rise
    fallen = (step - rise) / max(1, steps - rise)
    return recipe.floor + (1 - recipe.floor) * 0.5 * (1 + math.cos(math.pi * fallen))
