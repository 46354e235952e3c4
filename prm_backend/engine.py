"""Step scores of streams of solutions and trees, by any reader: one forward pass for all steps of many solutions.

Solutions are taken in windows, and those of a window are read in batches of like length, so that little is padded and
memory does not grow with the stream. Scores come in input order. They do not depend on the batching: to 1e-5 in fp32,
and to 0.02 with a body in bf16.

Several GPUs: one process for each (CUDA_VISIBLE_DEVICES), each scoring its `shard` of the same stream; `interleave`
puts the results back in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import torch

from prm_backend.batching import TokenBatch, token_batches
from prm_backend.errors import PrmError
from prm_backend.passages import Passage, StepReader, TooLong, passages_of, windowed_from
from prm_backend.score_cache import ScoreCache, content_key
from prm_backend.stepmodel import StepModel
from prm_backend.types import Progress, ReportProgress, Solution, SolutionTree, StepScores, ignore_progress

WINDOW = 1024  # solutions; enough of them for batches of nearly equal length
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 32768}  # on CPU, more than that falls out of its caches

Item = Solution | SolutionTree
T = TypeVar("T")


def score(
    reader: StepReader,
    solutions: Iterable[Item],
    *,
    tokens_per_batch: int | None = None,
    cache: ScoreCache | None = None,
    progress: ReportProgress = ignore_progress,
    total: int | None = None,
    too_long: TooLong = "error",
) -> Iterator[tuple[str, StepScores]]:
    """(key, step scores) in input order, in memory that does not grow with the number of solutions. A tree has one
    score for each node, what scoring its paths alone would give; what they share is read once where that is faster
    (`prefix.parts`).

    A solution that the model cannot read whole raises `SolutionTooLong`; with `too_long="window"` it is read in windows
    of whole steps (`passages.windows`), and its scores are marked by `windowed_from`. `total` only serves progress.
    Raises `PrmError` naming a solution with a score that is no number.
    """
    device = next(reader.model.parameters()).device
    most_tokens = tokens_per_batch or TOKENS_PER_BATCH.get(device.type, TOKENS_PER_BATCH["cpu"])
    stream, done = iter(solutions), 0
    while window := list(islice(stream, WINDOW)):
        keys = [content_key(item) for item in window]
        known = {} if cache is None else cache.get(set(keys))
        if too_long == "error":
            known = {key: scores for key, scores in known.items() if scores.windowed_from is None}
        missing = {key: item for key, item in zip(keys, window, strict=True) if key not in known}
        items = list(missing.values())
        readings = [passages_of(reader, item, too_long=too_long) for item in items]
        fresh = dict(zip(missing, judge(reader.model, items, readings, most_tokens=most_tokens), strict=True))
        if cache is not None and fresh:
            cache.put(fresh)
        known |= fresh
        for key, item in zip(keys, window, strict=True):
            done += 1
            progress(Progress(done, total or done, "scoring"))
            yield item.key, known[key]


def judge(
    model: StepModel, items: Sequence[Item], readings: Sequence[Sequence[Passage]], *, most_tokens: int
) -> list[StepScores]:
    """The scores of items from their passages, in batches of at most `most_tokens` padded tokens, without dropout."""
    was_training = model.training
    model.eval()
    try:
        tables = _judge(model, items, readings, most_tokens)
    finally:
        model.train(was_training)
    scores = []
    for item, columns, passages in zip(items, tables, readings, strict=True):
        bad, neutral, good, spread = map(tuple, columns.tolist())
        mark = windowed_from(passages) if isinstance(item, Solution) else None
        scores.append(StepScores(bad, neutral, good, spread, mark))
    return scores


def _judge(
    model: StepModel, items: Sequence[Item], readings: Sequence[Sequence[Passage]], most_tokens: int
) -> list[torch.Tensor]:
    """For each item (4, steps): p(−), p(0), p(+) and spread."""
    device = next(model.parameters()).device
    tables = [torch.empty(4, len(item.steps if isinstance(item, Solution) else item.nodes)) for item in items]
    found = [(index, passage) for index, passages in enumerate(readings) for passage in passages if passage.steps]
    for chains in (True, False):  # apart, because one tree brings a mask to every sequence of its batch
        alike = [(index, passage) for index, passage in found if passage.encoded.is_chain is chains]
        for batch in token_batches([len(passage.encoded) for _, passage in alike], most_tokens=most_tokens):
            chosen = [alike[place] for place in batch]
            judged = model.judge(TokenBatch.of([passage.encoded for _, passage in chosen], device=device))
            values = torch.cat([judged.p, judged.spread[:, None]], dim=1).T.float().cpu()
            parts = torch.split(values, [len(passage.steps) for _, passage in chosen], dim=1)
            for (index, passage), part in zip(chosen, parts, strict=True):
                if not part.isfinite().all():
                    raise PrmError(f"solution {items[index].key}: a step score is not a number")
                tables[index][:, list(passage.steps[passage.context :])] = part[:, passage.context :]
    return tables


def score_trees(
    reader: StepReader,
    trees: Iterable[SolutionTree],
    *,
    tokens_per_batch: int | None = None,
    cache: ScoreCache | None = None,
    progress: ReportProgress = ignore_progress,
    total: int | None = None,
) -> Iterator[tuple[str, StepScores]]:
    """`score` for trees alone: (key, one score for each node), in input order."""
    return score(
        reader, trees, tokens_per_batch=tokens_per_batch, cache=cache, progress=progress, total=total, too_long="error"
    )


def shard(stream: Iterable[T], index: int, count: int) -> Iterator[T]:
    """Every `count`-th item from item `index` on: what process `index` of `count` scores."""
    return islice(stream, index, None, count)


def interleave(shards: Sequence[Iterable[T]]) -> Iterator[T]:
    """The stream whose `shard`s these are, in its order."""
    iterators = [iter(one) for one in shards]
    while True:
        for iterator in iterators:
            try:
                yield next(iterator)
            except StopIteration:
                return
