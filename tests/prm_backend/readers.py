"""Step readers over tiny random bodies, and a slow reference that judges every step by a pass of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaModel,
    MistralConfig,
    MistralModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
)

from prm_backend.batching import Encoded
from prm_backend.encoding import SolutionTooLong
from prm_backend.stepmodel import StepModel, StepProbabilities
from prm_backend.types import Solution, SolutionTree

VOCABULARY = 64
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # so that attention is not nearly flat, and a wrong mask is seen
}
BODIES: dict[str, Callable[[], PreTrainedModel]] = {
    "qwen2": lambda: Qwen2Model(Qwen2Config(num_key_value_heads=2, **SHAPE)),
    "llama": lambda: LlamaModel(LlamaConfig(**SHAPE)),
    "mistral": lambda: MistralModel(MistralConfig(num_key_value_heads=2, sliding_window=16, **SHAPE)),
}


def softmax_readout(raw: torch.Tensor) -> StepProbabilities:
    p = raw.softmax(dim=-1)
    return StepProbabilities(p, p[:, 0] / 2)


class WordReader:
    """One token for each word; a step ends with token 1, where it is judged."""

    def __init__(self, model: StepModel, *, max_tokens: int = 10**6) -> None:
        self.model, self.max_tokens = model.eval(), max_tokens

    def encode(self, item: Solution | SolutionTree) -> Encoded:
        tree = SolutionTree.of(item) if isinstance(item, Solution) else item
        ids = [1, *self.ids(tree.problem)]
        starts, ends, ways = [], [], [len(ids)]
        for node in tree.nodes:
            starts.append(len(ids))
            ids += [*self.ids(node.text), 1]
            ends.append(len(ids))
            ways.append(ways[node.parent + 1] + ends[-1] - starts[-1])
        if max(ways) > self.max_tokens:
            raise SolutionTooLong(f"solution {tree.key}: {max(ways)} tokens, but this model reads {self.max_tokens}")
        parents = tuple(node.parent for node in tree.nodes)
        return Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(end - 1 for end in ends), parents)

    def ids(self, text: str) -> list[int]:
        return [2 + sum(map(ord, word)) % (VOCABULARY - 2) for word in text.split()]


def tiny_reader(family: str, *, max_tokens: int = 10**6, dtype: torch.dtype = torch.float32) -> WordReader:
    torch.manual_seed(0)
    head = nn.Linear(SHAPE["hidden_size"], 3)
    return WordReader(StepModel(BODIES[family]().to(dtype), head, softmax_readout), max_tokens=max_tokens)


def encoder_reader() -> WordReader:
    """Its tokens see later ones."""
    torch.manual_seed(0)
    return WordReader(
        StepModel(BertModel(BertConfig(**SHAPE), add_pooling_layer=False), nn.Linear(32, 3), softmax_readout)
    )


@torch.inference_mode()
def reference(reader: WordReader, problem: str, steps: Sequence[str]) -> list[list[float]]:
    """p(−), p(0), p(+) of every step, each from a pass over its own prefix, one token after the other in order."""
    rows = []
    for last in range(len(steps)):
        ids = [1, *reader.ids(problem)]
        for step in steps[: last + 1]:
            ids += [*reader.ids(step), 1]
        body: Any = reader.model.body
        hidden = body(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
        rows.append(reader.model.head(hidden.float()).softmax(-1).tolist())
    return rows
