"""A cold start without labels: a tiny causal language model trained on the unlabeled pool itself.

What surprises it is suspicious, so surprisal alone already ranks steps. `init_backbone` gives any transformers model
the same form, so that both go the same way from there.
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from prm_backend.checkpoints import BACKBONE, content_hash, write_checkpoint
from prm_backend.encoding import (
    PAD_TOKEN,
    START_TOKEN,
    STEP_TOKEN,
    Adapter,
    EncodedSolution,
    StepEncoder,
    train_tokenizer,
)
from prm_backend.errors import CheckpointError, NotEnoughData, PrmError
from prm_backend.features import token_batches
from prm_backend.model import EXCESS, Array, Backbone, StepHeads
from prm_backend.types import Progress, ReportProgress, Solution, ignore_progress

DEFAULT_STEPS = 2000
VOCABULARY = 4096
MAX_TOKENS = 4096
WINDOW = 256
HIDDEN, LAYERS, HEADS = 96, 3, 4
READ_LAYERS = (2, 3)
BATCH = 16
LEARNING_RATE = 3e-3
WARM_UP = 0.04
# A small pool is memorised, and nothing surprises a model that knows it by heart: stop before that.
MOST_EPOCHS = 12
PROBLEM_LOSS = 0.1
# The cold start calls this share of steps bad, and one standard deviation of surprisal this many logits worse.
COLD_SHARE, COLD_SLOPE = 0.15, 1.5
COLD_NEUTRAL = 0.15
CALIBRATION_SOLUTIONS = 512


def pretrain_embedded(
    solutions: Sequence[Solution],
    out: Path,
    *,
    seed: int = 0,
    seconds: float | None = None,
    steps: int = DEFAULT_STEPS,
    progress: ReportProgress = ignore_progress,
) -> Path:
    """Train the embedded backbone on problems and steps, and write it as a complete cold-start checkpoint.

    It makes `steps` updates, or fewer where the pool is so small that it would learn it by heart; the same input then
    gives the same weights. `seconds` may limit the CPU time over all cores as well; what a busy machine reaches within
    it varies. The default takes about 200 CPU seconds. Raises `NotEnoughData` when no solution has a step, and what
    `progress` raises.
    """
    solutions = [solution for solution in solutions if solution.steps]
    if not solutions:
        raise NotEnoughData("pretraining needs at least one solution with steps")
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(
        (text for solution in solutions for text in (solution.problem, *solution.steps)), vocabulary=VOCABULARY
    )
    start, step, pad = (tokenizer.get_vocab()[token] for token in (START_TOKEN, STEP_TOKEN, PAD_TOKEN))
    adapter = Adapter(prefix_ids=(start,), separator_ids=(step,), layers=READ_LAYERS, max_tokens=MAX_TOKENS)
    encoder = StepEncoder(tokenizer, adapter)
    encoded = [encoder.encode(solution) for solution in solutions]
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=HIDDEN,
            intermediate_size=3 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=MAX_TOKENS,
            tie_word_embeddings=True,
            use_cache=False,
            pad_token_id=pad,
            bos_token_id=start,
            eos_token_id=None,
        )
    )
    started, started_cpu = time.monotonic(), time.process_time()
    updates = train_language_model(model, encoded, seed=seed, seconds=seconds, steps=steps, progress=progress)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        sample = random.Random(seed).sample(encoded, min(len(encoded), CALIBRATION_SOLUTIONS))  # noqa: S311 - no secret
        write_checkpoint(
            out,
            kind="pretrained",
            backbone=Path(folder),
            adapter=adapter,
            heads=cold_heads(Backbone(Path(folder), adapter), sample),
            data_hash=content_hash([[s.problem, *s.steps] for s in solutions]),
            recipe={"seed": seed, "seconds": seconds, "steps": steps, "updates": updates, "solutions": len(solutions)},
            metrics={"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - started_cpu},
        )
    return out


def train_language_model(
    model: LlamaForCausalLM,
    encoded: Sequence[EncodedSolution],
    *,
    seed: int,
    seconds: float | None,
    steps: int,
    progress: ReportProgress,
) -> int:
    """Next-token training with a cosine schedule over the budget; returns the number of updates made."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    most = min(steps, math.ceil(MOST_EPOCHS * len(encoded) / BATCH))
    started = time.process_time()
    model.train()
    update, loss_value = 0, math.nan
    for ids, weights in language_batches(encoded, seed):
        spent = 0.0 if seconds is None else (time.process_time() - started) / seconds
        done = max(update / most, spent)
        progress(Progress(min(done, 1.0), 1.0, f"pretraining: update {update}, loss {loss_value:.2f}"))
        if done >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, done / WARM_UP + 0.01) * 0.5 * (1 + math.cos(math.pi * done))
        logits = model(input_ids=ids).logits[:, :-1]
        losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update, loss_value = update + 1, loss.item()
    model.eval()
    return update


def language_batches(encoded: Sequence[EncodedSolution], seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of (ids, loss weights), each (batch, tokens), right-padded with weight 0.

    A solution longer than `WINDOW` gives one window of it, drawn anew each time. Lengths are alike within a batch.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible training, nothing secret
    while True:
        order = rng.sample(range(len(encoded)), len(encoded))
        shelf = 32 * BATCH
        batches = []
        for first in range(0, len(order), shelf):
            alike = sorted(order[first : first + shelf], key=lambda index: len(encoded[index].ids))
            batches += [alike[index : index + BATCH] for index in range(0, len(alike), BATCH)]
        rng.shuffle(batches)
        for batch in batches:
            rows = [window_of(encoded[index], rng) for index in batch]
            longest = max(len(ids) for ids, _ in rows)
            ids = torch.zeros(len(rows), longest, dtype=torch.long)
            weights = torch.zeros(len(rows), longest)
            for row, (tokens, loss_weights) in enumerate(rows):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                weights[row, : len(tokens)] = torch.tensor(loss_weights)
            yield ids, weights


def window_of(solution: EncodedSolution, rng: random.Random) -> tuple[tuple[int, ...], list[float]]:
    weights = [PROBLEM_LOSS] * solution.starts[0] + [1.0] * (len(solution.ids) - solution.starts[0])
    first = rng.randint(0, max(0, len(solution.ids) - WINDOW))
    return solution.ids[first : first + WINDOW], weights[first : first + WINDOW]


def cold_heads(backbone: Backbone, sample: Sequence[EncodedSolution]) -> StepHeads:
    """One head that reads the excess surprisal of a step and nothing else; without a language model, a constant."""
    slope, intercept = 0.0, math.log(COLD_SHARE / (1 - COLD_SHARE))
    if backbone.causal and sample:
        arrays: list[Array] = []
        for batch in token_batches(sample):
            arrays += backbone.read([sample[index] for index in batch])
        surprisal = np.concatenate(arrays)[:, EXCESS]
        slope = COLD_SLOPE / max(float(surprisal.std()), 1e-3)
        intercept -= slope * float(surprisal.mean())
    bad_weight = np.zeros((1, backbone.width), np.float32)
    bad_weight[0, EXCESS] = slope
    return StepHeads(
        bad_weight=bad_weight,
        bad_bias=np.array([intercept], np.float32),
        neutral_weight=np.zeros_like(bad_weight),
        neutral_bias=np.array([math.log(COLD_NEUTRAL / (1 - COLD_NEUTRAL))], np.float32),
        prior=np.array([slope, intercept], np.float32),
    )


def init_backbone(pretrained: Path, out: Path, *, solutions: Sequence[Solution] = (), separator: str = "\n\n") -> Path:
    """Make a cold-start checkpoint from a transformers model folder with its tokenizer, causal or encoder.

    `solutions` (a few hundred of the pool) calibrate the surprisal; without them, and for encoders, p(−) is constant
    until heads are trained. Raises `CheckpointError` when the folder does not load.
    """
    try:
        config = AutoConfig.from_pretrained(pretrained, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(pretrained, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{pretrained}: not a transformers model with its tokenizer ({error})") from error
    prefix = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
    ids = tokenizer(separator, add_special_tokens=False)["input_ids"]
    if not ids:
        if tokenizer.sep_token_id is None:
            raise PrmError(f"{pretrained}: the separator {separator!r} has no tokens in this tokenizer")
        ids = [tokenizer.sep_token_id]
    depth = config.num_hidden_layers
    adapter = Adapter(
        prefix_ids=() if prefix is None else (prefix,),
        separator_ids=tuple(ids),
        layers=(math.ceil(depth * 2 / 3), depth),
        max_tokens=config.max_position_embeddings,
    )
    with tempfile.TemporaryDirectory() as folder:
        clean = Path(folder) / BACKBONE
        shutil.copytree(pretrained, clean)
        try:
            backbone = Backbone(clean, adapter)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{pretrained}: the model does not load ({error})") from error
        write_checkpoint(
            out,
            kind="pretrained",
            backbone=clean,
            adapter=adapter,
            heads=cold_heads(backbone, [backbone.encoder.encode(solution) for solution in solutions]),
            data_hash=content_hash([[s.problem, *s.steps] for s in solutions]),
            recipe={"source": pretrained.name, "adapter": asdict(adapter)},
        )
    return out
