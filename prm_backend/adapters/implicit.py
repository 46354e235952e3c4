"""Implicit PRMs: a policy's log-probability of each step, less that of the reference model it was trained from.

After "Free Process Rewards without Process Labels" (arXiv 2412.01981) and PRIME (arXiv 2502.01456). The solution is the
assistant's turn of a chat. The cumulative reward at the end of step i is

    beta · Σ (log p_policy − log p_reference)   over all tokens from the beginning of the solution to the end of step i

and the reward of a step is what it adds. What joins a step to the next belongs to the step, and the token that closes
the turn to the last one. (The sample code on the public cards measures prefixes that end in a closing token of their
own, so its sums run one or two tokens into the next step; tokens here belong to the step in which they begin.)

Rewards have no bounds. `score` maps them by p(+) = sigmoid((reward − threshold) / scale), p(0) = 0, p(−) = 1 − p(+);
`rewards` keeps them as they are. Threshold and scale are the adapter's. The presets have threshold 0 and scale beta, so
p(+) is the probability that the policy and not the reference wrote the step, either being as likely beforehand. (Models
were trained with scale 1, but on whole solutions: with a beta of 0.001, every single step would be near 0.5.)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from prm_backend.adapters.loaders import UNREADABLE
from prm_backend.adapters.spec import Adapter
from prm_backend.batching import Encoded, TokenBatch, token_batches
from prm_backend.controls import control_tokens, harmless
from prm_backend.encoding import SolutionTooLong
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.types import Progress, ReportProgress, Solution, StepScores, ignore_progress

WINDOW = 256
PROBE = "Step 1: $\\frac{1}{2} + 0.75 = 1.25$, and so x ≥ 17.\n\nStep 2: ки 数学\t<end>"


@dataclass(frozen=True, slots=True)
class StepRewards:
    """`cumulative` reward at the end of each step, in the adapter's units (beta times nats)."""

    cumulative: tuple[float, ...]

    @property
    def steps(self) -> tuple[float, ...]:
        """What each step adds."""
        return tuple(now - before for before, now in zip((0.0, *self.cumulative), self.cumulative, strict=False))


class LanguageModel:
    """A causal language model taken apart, so that the vocabulary layer runs on the tokens that count and no others."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        """Raises `PrmError` where the model does more to its logits than apply one layer (soft caps, scales)."""
        self.name, self.model = name, model.eval()
        self.body: nn.Module = model.base_model
        head = model.get_output_embeddings()
        if head is None or self.body is model:
            raise PrmError(f"{name}: not a causal language model with a vocabulary layer")
        self.head: nn.Module = head
        self._check()

    @torch.inference_mode()
    def _check(self) -> None:
        ids = torch.arange(1, 5, device=self.model.device)[None] % self.model.config.vocab_size
        whole = self.model(input_ids=ids, use_cache=False).logits
        parts = self.head(self.body(input_ids=ids, use_cache=False).last_hidden_state)
        if not torch.allclose(whole.float(), parts.float(), rtol=1e-2, atol=1e-2):
            raise PrmError(f"{self.name}: this architecture changes its logits behind the vocabulary layer")

    @torch.inference_mode()
    def step_log_probs(self, batch: TokenBatch, *, rows_per_chunk: int) -> torch.Tensor:
        """(S,) in float64: the log-probability of each step's tokens given all before them. The vocabulary layer and
        the softmax run on `rows_per_chunk` tokens at a time, in fp32."""
        output = self.body(
            input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False
        )
        lengths = (batch.end - batch.start).tolist()
        step = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.long))
        places = [torch.arange(a, b) for a, b in zip(batch.start.tolist(), batch.end.tolist(), strict=True)]
        sums = torch.zeros(len(lengths), dtype=torch.float64)
        if not places:
            return sums
        row, place = batch.row[step.to(batch.row.device)], torch.cat(places).to(batch.ids.device)
        for first in range(0, len(step), rows_per_chunk):
            chunk = slice(first, first + rows_per_chunk)
            at = row[chunk], place[chunk]
            logits = self.head(output.last_hidden_state[at[0], at[1] - 1]).float()
            chosen = logits.gather(1, batch.ids[at][:, None])[:, 0]
            sums.index_add_(0, step[chunk], (chosen - logits.logsumexp(dim=1)).double().cpu())
        return sums

    def digest(self) -> str:
        """SHA-256 of all weights, which costs one pass over them."""
        content = hashlib.sha256()
        for name, weights in sorted(self.model.state_dict().items()):
            content.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
            content.update(weights.detach().contiguous().cpu().view(-1).view(torch.uint8).numpy().tobytes())
        return content.hexdigest()


class ImplicitPrm:
    """A policy and its reference, ready to score. With `reference_cache`, the reference model's log-probabilities are
    kept there by content (its weights and the token ids), so that scoring again after the policy has been trained on
    costs one forward pass and not two; any mapping will do, one on disk too."""

    def __init__(
        self,
        adapter: Adapter,
        tokenizer: PreTrainedTokenizerBase,
        policy: PreTrainedModel,
        reference: PreTrainedModel,
        *,
        threshold: float | None = None,
        scale: float | None = None,
        reference_cache: MutableMapping[str, tuple[float, ...]] | None = None,
        tokens_per_batch: int = 8192,
        rows_per_chunk: int = 256,
    ) -> None:
        """`threshold` and `scale` stand in for the adapter's own. Raises `PrmError` for an adapter of another kind, and
        for models that cannot be compared."""
        if adapter.readout != "log_ratio":
            raise PrmError(f"adapter {adapter.name} is read by {adapter.readout}, not by a log-ratio of two models")
        if adapter.too_long != "error":
            raise PrmError(f"adapter {adapter.name}: a log-ratio needs the whole solution; windows are not possible")
        self.adapter = replace(
            adapter,
            threshold=adapter.threshold if threshold is None else threshold,
            scale=adapter.scale if scale is None else scale,
        )
        self.tokenizer = tokenizer
        self.policy = LanguageModel(policy, "the policy")
        self.reference = LanguageModel(reference, "the reference")
        self.cache = reference_cache
        self.tokens_per_batch, self.rows_per_chunk = tokens_per_batch, rows_per_chunk
        self._reference_digest = "" if reference_cache is None else self.reference.digest()
        self._controls = control_tokens(tokenizer)

    @classmethod
    def load(
        cls,
        policy: str | Path,
        adapter: Adapter,
        *,
        reference: str | Path = "",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        threshold: float | None = None,
        scale: float | None = None,
        reference_cache: MutableMapping[str, tuple[float, ...]] | None = None,
    ) -> ImplicitPrm:
        """`reference` is the adapter's own where none is given. Raises `CheckpointError` where a folder does not
        load, and `PrmError` where the two models cut text into different tokens."""
        reference = reference or adapter.base
        if not reference:
            raise PrmError(
                f"adapter {adapter.name} names no reference model: say which one the policy was trained from"
            )
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        models: list[Any] = []
        tokenizers = []
        for path, revision in ((policy, adapter.revision or None), (reference, None)):
            try:
                tokenizers.append(tokenizer_as_saved(path, revision))
                model: Any = AutoModelForCausalLM.from_pretrained(
                    path, revision=revision, dtype=dtype or "auto", trust_remote_code=False
                )
            except UNREADABLE as error:
                raise CheckpointError(f"{path}: does not load as a causal language model ({error})") from error
            models.append(model.to(device=device))
        first, second = (list(each(PROBE, add_special_tokens=False)["input_ids"]) for each in tokenizers)
        if first != second:
            raise PrmError(f"{policy} and {reference} cut text into different tokens and cannot be compared")
        return cls(adapter, tokenizers[0], *models, threshold=threshold, scale=scale, reference_cache=reference_cache)

    def encode(self, solution: Solution) -> Encoded:
        """Token ids with the tokens of each step; raises `SolutionTooLong`, and `PrmError` where the chat template does
        not repeat what the assistant says word for word."""
        joiner = self.adapter.joiner
        texts = [self._labeled(step, number) for number, step in enumerate(solution.steps, start=1)]
        said = joiner.join(texts)
        messages = [
            {"role": "user", "content": self._neutral(solution.problem)},
            {"role": "assistant", "content": said},
        ]
        if self.adapter.system:
            messages.insert(0, {"role": "system", "content": self.adapter.system})
        rendered = str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        begin = rendered.rfind(said)
        if begin < 0:
            raise PrmError(f"solution {solution.key}: the chat template changes the text of the assistant's turn")
        cut = self.tokenizer(rendered, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids: list[int] = cut["input_ids"]
        if len(ids) > self.adapter.max_tokens:
            raise SolutionTooLong(
                f"solution {solution.key}: {len(ids)} tokens, but this model reads {self.adapter.max_tokens} at most"
            )
        ends = [begin + end for end in accumulate(len(text) + len(joiner) for text in texts)]
        bounds = step_bounds(cut["offset_mapping"], begin, [*ends[:-1], begin + len(said)]) if texts else [len(ids)]
        bounds[-1] = min(bounds[-1] + 1, len(ids))  # the token that closes the turn
        starts, stops = tuple(bounds[:-1]), tuple(bounds[1:])
        if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
            raise PrmError(f"solution {solution.key}: a step has no token of its own")
        reads, parents = tuple(stop - 1 for stop in stops), tuple(range(-1, len(stops) - 1))
        return Encoded(tuple(ids), starts, stops, reads, parents)

    def rewards(
        self, solutions: Iterable[Solution], *, progress: ReportProgress = ignore_progress, total: int | None = None
    ) -> Iterator[tuple[str, StepRewards]]:
        """(key, rewards) in input order, in constant memory; a reward does not depend on what else is in a batch (to
        1e-4 of the sum of log-probabilities). Raises `SolutionTooLong`, and `PrmError` naming a solution with a reward
        that is no number."""
        stream, done = iter(solutions), 0
        while window := list(islice(stream, WINDOW)):
            encoded = [self.encode(solution) for solution in window]
            ratios: dict[int, list[float]] = {}
            for indices in token_batches([len(each) for each in encoded], most_tokens=self.tokens_per_batch):
                batch = [encoded[index] for index in indices]
                for index, ratio in zip(indices, self._log_ratios(batch), strict=True):
                    ratios[index] = ratio
            for index, solution in enumerate(window):
                rewards = StepRewards(tuple(self.adapter.beta * ratio for ratio in accumulate(ratios[index])))
                if not all(map(math.isfinite, rewards.cumulative)):
                    raise PrmError(f"solution {solution.key}: a step reward is not a number")
                done += 1
                progress(Progress(done, total or done, "scoring"))
                yield solution.key, rewards

    def score(
        self, solutions: Iterable[Solution], *, progress: ReportProgress = ignore_progress, total: int | None = None
    ) -> Iterator[tuple[str, StepScores]]:
        """(key, step scores) in input order: `rewards` through the sigmoid that the module's text states."""
        threshold, scale = self.adapter.threshold, self.adapter.scale
        for key, rewards in self.rewards(solutions, progress=progress, total=total):
            good = tuple(sigmoid((reward - threshold) / scale) for reward in rewards.steps)
            nothing = (0.0,) * len(good)
            yield key, StepScores(tuple(1.0 - p for p in good), nothing, good, nothing)

    def _neutral(self, text: str) -> str:
        return harmless(text, self._controls)

    def _labeled(self, step: str, number: int) -> str:
        """The step with its prefix; a step that brings the same prefix along keeps its own."""
        prefix, text = self.adapter.step_prefix.replace("{i}", str(number)), self._neutral(step)
        return text if prefix and text.startswith(prefix.rstrip()) else prefix + text

    def _log_ratios(self, batch: Sequence[Encoded]) -> list[list[float]]:
        """For each solution, log p − log p of the reference of each of its steps, in nats."""
        keys = [content_key(self._reference_digest, each) for each in batch] if self.cache is not None else []
        known = [self.cache.get(key) if self.cache is not None else None for key in keys] or [None] * len(batch)
        unknown = [index for index, found in enumerate(known) if found is None]
        computed = self._step_log_probs(self.reference, [batch[index] for index in unknown])
        for index, found in zip(unknown, computed, strict=True):
            known[index] = found
            if self.cache is not None:
                self.cache[keys[index]] = found
        policy = self._step_log_probs(self.policy, batch)
        return [
            [ours - theirs for ours, theirs in zip(mine, reference or (), strict=True)]
            for mine, reference in zip(policy, known, strict=True)
        ]

    def _step_log_probs(self, model: LanguageModel, batch: Sequence[Encoded]) -> list[tuple[float, ...]]:
        if not batch:
            return []
        tokens = TokenBatch.of(batch, device=model.model.device)
        sums = iter(model.step_log_probs(tokens, rows_per_chunk=self.rows_per_chunk).tolist())
        return [tuple(islice(sums, len(each.reads))) for each in batch]


def step_bounds(offsets: Sequence[tuple[int, int]], begin: int, ends: Sequence[int]) -> list[int]:
    """Token indices where the steps begin, and where the last one ends, from the characters where the first begins and
    where each ends. A token that crosses a boundary belongs to the step in which it begins."""
    first = next((token for token, (_, end) in enumerate(offsets) if end > begin), len(offsets))
    bounds = [first]
    for end in ends:
        token = bounds[-1]
        while token < len(offsets) and offsets[token][0] < end:
            token += 1
        bounds.append(token)
    return bounds


def tokenizer_as_saved(path: str | Path, revision: str | None) -> PreTrainedTokenizerBase:
    """transformers 5 rebuilds the tokenizers of some architectures with rules of its own; tokenizer.json is what the
    model was trained with. Raises `OSError` or `ValueError`."""
    try:
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=False)
    return tokenizer


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def content_key(model_digest: str, encoded: Encoded) -> str:
    return hashlib.sha256(json.dumps([model_digest, encoded.ids, encoded.starts, encoded.ends]).encode()).hexdigest()
