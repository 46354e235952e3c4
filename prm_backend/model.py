"""A frozen backbone that reads solutions, and the step heads that judge what it saw.

Heads are linear in the step features and nested: the first asks "bad or not", the second "neutral or good, given not
bad". So p(0) + p(+) is exactly what the first head learns, and a label that says only "not bad" needs no guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from prm_backend.batching import Encoded, TokenBatch
from prm_backend.encoding import Adapter, EncodedSolution, StepEncoder
from prm_backend.errors import CheckpointError
from prm_backend.masks import attention_mask
from prm_backend.types import StepScores

Array = NDArray[np.float32]
logging.disable_progress_bar()  # loading and saving would print into every log; progress is told by Progress

# Columns of the step features before the hidden states.
SCALARS = ("max_excess", "max_surprisal", "mean_surprisal", "log_tokens", "step_index")
# The label-free score of a step: how far its most surprising token surprised the model beyond what it expected there
# (surprisal minus entropy). A free choice of words is expected to surprise, a wrong number is not.
EXCESS = SCALARS.index("max_excess")
# Hidden states of a step: at its last token, on average, and at its most surprising token.
HIDDEN_VIEWS = 3
LOGIT_CHUNK = 2**24


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    probability: NDArray[Any] = np.exp(-np.logaddexp(0.0, -logits))
    return probability


@dataclass(frozen=True)
class StepHeads:
    """H linear heads over d features. `prior` is (slope, intercept) of the logit of p(−) in excess surprisal alone."""

    bad_weight: Array  # (H, d)
    bad_bias: Array  # (H,)
    neutral_weight: Array  # (H, d)
    neutral_bias: Array  # (H,)
    prior: Array  # (2,)

    def __post_init__(self) -> None:
        heads, width = self.bad_weight.shape
        shapes = {"bad_bias": (heads,), "neutral_weight": (heads, width), "neutral_bias": (heads,), "prior": (2,)}
        for name, shape in shapes.items():
            assert getattr(self, name).shape == shape, f"{name}: {getattr(self, name).shape}, not {shape}"

    def predict(self, features: Array) -> StepScores:
        """Mean over the heads for features of shape (steps, d)."""
        bad = sigmoid(features @ self.bad_weight.T + self.bad_bias).astype(np.float64)
        neutral = (1.0 - bad) * sigmoid(features @ self.neutral_weight.T + self.neutral_bias)
        p_bad, p_neutral = bad.mean(axis=1), neutral.mean(axis=1)
        columns = (p_bad, p_neutral, 1.0 - p_bad - p_neutral, bad.std(axis=1))
        minus, zero, plus, spread = (tuple(map(float, column)) for column in columns)
        return StepScores(minus, zero, plus, spread)

    def save(self, path: Path) -> None:
        save_file({field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}, path)

    @classmethod
    def load(cls, path: Path) -> StepHeads:
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise CheckpointError(f"{path}: not readable as step heads ({error})") from error


class Backbone:
    """A transformers model, causal or encoder, with its tokenizer. Reads only; never trained here."""

    def __init__(self, folder: Path, adapter: Adapter) -> None:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        self.causal = any(name.endswith("ForCausalLM") for name in config.architectures or ())
        kind = AutoModelForCausalLM if self.causal else AutoModel
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = kind.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval().to(self.device)
        self.adapter = adapter
        self.encoder = StepEncoder(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), adapter)
        self.width = len(SCALARS) + HIDDEN_VIEWS * len(adapter.layers) * config.hidden_size

    @torch.inference_mode()
    def read(self, batch: Sequence[EncodedSolution]) -> list[Array]:
        """One forward pass; for each solution an array (steps, width) of step features."""
        tokens = TokenBatch.of([chain_of(solution) for solution in batch], device=self.device)
        ids, body = tokens.ids, self.model.base_model if self.causal else self.model
        arguments = {"use_cache": False} if self.causal else {}
        # An encoder would look ahead: it reads in blocks, so that a step's features do not depend on later steps.
        mask = attention_mask(tokens, body.config, bidirectional=not self.causal, dtype=self.model.dtype)
        output = body(input_ids=ids, attention_mask=mask, output_hidden_states=True, **arguments)
        surprisal, entropy = self._surprisal(output.last_hidden_state, ids)
        layers = [output.hidden_states[layer].float() for layer in self.adapter.layers]
        steps = StepSpans.of(batch, device=self.device)
        features = torch.cat([steps.scalars(surprisal, entropy), *steps.views(layers, surprisal - entropy)], dim=1)
        return np.split(features.cpu().numpy(), np.cumsum([len(solution.ends) for solution in batch])[:-1])

    def _surprisal(self, hidden: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Surprisal of every token and entropy of its prediction, in nats, (batch, tokens); zeros for encoders."""
        surprisal = torch.zeros(ids.shape, device=self.device)
        entropy = torch.zeros_like(surprisal)
        if not self.causal:
            return surprisal, entropy
        vocabulary = self.model.get_output_embeddings()
        rows = max(1, LOGIT_CHUNK // vocabulary.weight.shape[0])
        flat, targets = hidden[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
        losses, entropies = [], []
        for first in range(0, len(flat), rows):
            logs = vocabulary(flat[first : first + rows]).float().log_softmax(-1)
            losses.append(-logs.gather(1, targets[first : first + rows, None])[:, 0])
            entropies.append(-(logs.exp() * logs).sum(-1))
        surprisal[:, 1:] = torch.cat(losses).view(len(ids), -1)
        entropy[:, 1:] = torch.cat(entropies).view(len(ids), -1)
        return surprisal, entropy


def chain_of(solution: EncodedSolution) -> Encoded:
    reads = tuple(end - 1 for end in solution.ends)
    return Encoded(solution.ids, solution.starts, solution.ends, reads, tuple(range(-1, len(reads) - 1)))


@dataclass(frozen=True)
class StepSpans:
    """Where the S steps of a batch stand: step i is tokens `start[i]` to `end[i]` of row `row[i]`; all are (S,)."""

    row: torch.Tensor
    start: torch.Tensor
    end: torch.Tensor
    index: torch.Tensor

    @classmethod
    def of(cls, batch: Sequence[EncodedSolution], *, device: torch.device) -> StepSpans:
        spans = [
            (row, min(start, end - 1), end, index)
            for row, solution in enumerate(batch)
            for index, (start, end) in enumerate(zip(solution.starts, solution.ends, strict=True))
        ]
        return cls(*torch.tensor(spans, dtype=torch.long, device=device).reshape(-1, 4).unbind(dim=1))

    def inside(self, tokens: int) -> torch.Tensor:
        """(S, tokens): which tokens of its row belong to the step."""
        position = torch.arange(tokens, device=self.row.device)
        return (position >= self.start[:, None]) & (position < self.end[:, None])

    def scalars(self, surprisal: torch.Tensor, entropy: torch.Tensor) -> torch.Tensor:
        """(S, len(SCALARS)) from values of shape (batch, tokens)."""
        outside = ~self.inside(surprisal.shape[1])
        losses = surprisal[self.row]
        length = (self.end - self.start).float()
        return torch.stack(
            [
                (losses - entropy[self.row]).masked_fill(outside, -torch.inf).amax(dim=1),
                losses.masked_fill(outside, -torch.inf).amax(dim=1),
                losses.masked_fill(outside, 0.0).sum(dim=1) / length,
                length.log(),
                self.index.float(),
            ],
            dim=1,
        )

    def views(self, layers: Sequence[torch.Tensor], excess: torch.Tensor) -> Iterator[torch.Tensor]:
        """(S, hidden) for each layer (batch, tokens, hidden) and each of its `HIDDEN_VIEWS`."""
        inside = self.inside(excess.shape[1])
        peak = excess[self.row].masked_fill(~inside, -torch.inf).argmax(dim=1)
        step, token = inside.nonzero().unbind(dim=1)
        length = (self.end - self.start)[:, None]
        for layer in layers:
            yield layer[self.row, self.end - 1]
            total = layer.new_zeros(len(self.row), layer.shape[2])
            yield total.index_add_(0, step, layer[self.row[step], token]) / length
            yield layer[self.row, peak]
