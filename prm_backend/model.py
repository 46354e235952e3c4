"""A frozen backbone that reads solutions, and the step heads that judge what it saw.

Heads are linear in the step features and nested: the first asks "bad or not", the second "neutral or good, given not
bad". So p(0) + p(+) is exactly what the first head learns, and a label that says only "not bad" needs no guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from prm_backend.encoding import Adapter, EncodedSolution, StepEncoder
from prm_backend.errors import CheckpointError
from prm_backend.types import StepScores

Array = NDArray[np.float32]

# Columns of the step features before the hidden states.
SCALARS = ("max_surprisal", "mean_surprisal", "max_excess", "log_tokens", "step_index")
HIDDEN_VIEWS = 2
LOGIT_CHUNK = 2**24


def sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    return np.exp(-np.logaddexp(0.0, -logits))


@dataclass(frozen=True)
class StepHeads:
    """H linear heads over d features. `prior` is (slope, intercept) of the logit of p(−) in the surprisal alone."""

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
        return StepScores(*(tuple(map(float, column)) for column in columns))

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
        config = AutoConfig.from_pretrained(folder)
        self.causal = any(name.endswith("ForCausalLM") for name in config.architectures or ())
        kind = AutoModelForCausalLM if self.causal else AutoModel
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = kind.from_pretrained(folder, dtype=dtype).eval().to(self.device)
        self.adapter = adapter
        self.encoder = StepEncoder(AutoTokenizer.from_pretrained(folder), adapter)
        self.width = len(SCALARS) + HIDDEN_VIEWS * len(adapter.layers) * config.hidden_size

    @torch.inference_mode()
    def read(self, batch: Sequence[EncodedSolution]) -> list[Array]:
        """One forward pass; for each solution an array (steps, width) of step features."""
        longest = max(len(solution.ids) for solution in batch)
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, solution in enumerate(batch):
            ids[row, : len(solution.ids)] = torch.tensor(solution.ids)
            mask[row, : len(solution.ids)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        body = self.model.base_model if self.causal else self.model
        arguments = {"use_cache": False} if self.causal else {}
        output = body(input_ids=ids, attention_mask=mask, output_hidden_states=True, **arguments)
        surprisal, entropy = self._surprisal(output.last_hidden_state, ids)
        layers = [output.hidden_states[layer].float() for layer in self.adapter.layers]
        read = []
        for row, solution in enumerate(batch):
            views = [layer[row] for layer in layers]
            steps = zip(solution.starts, solution.ends, strict=True)
            rows = [
                self._step(index, views, surprisal[row], entropy[row], start, end)
                for index, (start, end) in enumerate(steps)
            ]
            read.append(torch.stack(rows).cpu().numpy() if rows else np.zeros((0, self.width), np.float32))
        return read

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
        for states, target in zip(flat.split(rows), targets.split(rows), strict=True):
            logs = vocabulary(states).float().log_softmax(-1)
            losses.append(-logs.gather(1, target[:, None])[:, 0])
            entropies.append(-(logs.exp() * logs).sum(-1))
        surprisal[:, 1:] = torch.cat(losses).view(len(ids), -1)
        entropy[:, 1:] = torch.cat(entropies).view(len(ids), -1)
        return surprisal, entropy

    def _step(
        self,
        index: int,
        layers: list[torch.Tensor],
        surprisal: torch.Tensor,
        entropy: torch.Tensor,
        start: int,
        end: int,
    ) -> torch.Tensor:
        """Features (width,) of the step in tokens start to end."""
        start = min(start, end - 1)
        losses = surprisal[start:end]
        excess = losses - entropy[start:end]
        scalars = torch.stack(
            [
                losses.max(),
                losses.mean(),
                excess.max(),
                torch.tensor(float(end - start), device=self.device).log(),
                torch.tensor(float(index), device=self.device),
            ]
        )
        return torch.cat([scalars, *[view for layer in layers for view in (layer[end - 1], layer[start:end].mean(0))]])
