"""Labeled trees as token ids with targets, and batches of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from prm_backend import prefix
from prm_backend.batching import Encoded, TokenBatch
from prm_backend.encoding import SolutionTooLong
from prm_backend.finetuning.data import LabeledTree, Mass
from prm_backend.finetuning.plan import MaskedLength
from prm_backend.finetuning.recipe import Recipe, Weights
from prm_backend.finetuning.targets import NOTHING, targets_of
from prm_backend.heads import bootstrap_weights
from prm_backend.stepmodel import StepModel
from prm_backend.types import SolutionTree


class StepReader(Protocol):
    """A PRM with its tokenisation. `encode` raises `SolutionTooLong` for what the model cannot read whole."""

    @property
    def model(self) -> StepModel: ...

    def encode(self, solution: SolutionTree, /) -> Encoded: ...


@dataclass(frozen=True, slots=True)
class Example:
    """`targets`: one row for each step, see `targets_of`; `head_weights` (heads,) for a bootstrapped ensemble."""

    key: str
    encoded: Encoded
    targets: tuple[Mass, ...]
    head_weights: tuple[float, ...] | None = None

    @property
    def weight(self) -> float:
        return sum(map(sum, self.targets))

    @property
    def labeled_steps(self) -> int:
        return sum(any(target) for target in self.targets)


@dataclass(frozen=True, slots=True)
class Examples:
    """`skipped`: keys of solutions that are too long for the model."""

    items: tuple[Example, ...]
    skipped: tuple[str, ...]

    @property
    def lengths(self) -> list[int]:
        """In tokens; those of trees are marked."""
        sequences = [example.encoded for example in self.items]
        return [len(encoded) if encoded.is_chain else MaskedLength(len(encoded)) for encoded in sequences]

    @property
    def weight(self) -> float:
        return sum(example.weight for example in self.items)

    def digest(self) -> str:
        """Names the data by their content."""
        content = hashlib.sha256()
        for example in self.items:
            content.update(repr(example).encode())
        return content.hexdigest()


def read_examples(
    reader: StepReader,
    trees: Iterable[LabeledTree],
    recipe: Recipe,
    *,
    class_weights: Weights | None = None,
    bootstrap_heads: int = 0,
) -> Examples:
    """Tokenise what carries a loss. A tree becomes as many examples as it is read in, and each of its steps carries its
    loss in the first that holds it. Raises `SolutionTooLong` unless the recipe skips such solutions."""
    items, skipped = [], []
    for labeled in trees:
        targets = targets_of(labeled, recipe, class_weights)
        if not any(map(any, targets)):
            continue
        try:
            passages = list(_passages(reader, labeled.tree, shared_prefixes=recipe.shared_prefixes))
        except SolutionTooLong:
            if recipe.too_long == "error":
                raise
            skipped.append(labeled.tree.key)
            continue
        weights = None
        if bootstrap_heads:
            table = bootstrap_weights([labeled.tree.problem_key], heads=bootstrap_heads, seed=recipe.seed)
            weights = tuple(map(float, table[0]))
        told: set[int] = set()
        for steps, encoded in passages:
            fresh = tuple(NOTHING if step in told else targets[step] for step in steps)
            told.update(steps)
            if any(map(any, fresh)):
                items.append(Example(labeled.tree.key, encoded, fresh, weights))
    return Examples(tuple(items), tuple(skipped))


def _passages(
    reader: StepReader, tree: SolutionTree, *, shared_prefixes: bool
) -> Iterator[tuple[Sequence[int], Encoded]]:
    """What is read of a tree in one sequence, with the steps that it holds: groups of paths as in scoring
    (`prefix.parts`), or each path alone, as a plain solution."""
    parents = [node.parent for node in tree.nodes]
    if not shared_prefixes:
        for path in prefix.paths(parents):
            yield path, reader.encode(SolutionTree.of(prefix.solution_of(tree, path)))
        return
    encoded = reader.encode(tree)
    if encoded.is_chain:
        yield range(len(parents)), encoded
        return
    for steps in prefix.parts(encoded, hidden_size=reader.model.hidden_size):
        yield steps, prefix.part(encoded, steps)


@dataclass(frozen=True, slots=True)
class Batch:
    """tokens of S steps; targets (S, 4); head_weights (S, H) or None."""

    tokens: TokenBatch
    targets: torch.Tensor
    head_weights: torch.Tensor | None

    @classmethod
    def of(cls, examples: Sequence[Example], *, device: torch.device, without_loss: bool = False) -> Batch:
        tokens = TokenBatch.of([example.encoded for example in examples], device=device)
        targets = torch.tensor([target for example in examples for target in example.targets], dtype=torch.float32)
        rows = [example.head_weights for example in examples for _ in example.targets]
        weights = None if rows[0] is None else torch.from_numpy(np.array(rows, np.float32)).to(device)
        return cls(tokens, targets.to(device) * (not without_loss), weights)
