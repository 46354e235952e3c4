"""Step features of many solutions from one backbone: batched, streamed, and cached on disk by content."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np

from prm_backend import batching
from prm_backend.checkpoints import Checkpoint
from prm_backend.encoding import EncodedSolution
from prm_backend.errors import PrmError
from prm_backend.model import Array
from prm_backend.types import Solution

WINDOW = 512
TOKENS_PER_BATCH = 4096
FEATURES_VERSION = 2


class FeatureCache:
    """One SQLite file for each backbone. A killed process loses at most the window it was working on."""

    def __init__(self, folder: Path, backbone_digest: str, width: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{backbone_digest[:32]}-{FEATURES_VERSION}.sqlite3"
        self.width = width
        with closing(self._connect()) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, data BLOB) WITHOUT ROWID")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)

    def get(self, solutions: Sequence[Solution]) -> list[Array | None]:
        with closing(self._connect()) as database:
            query = "SELECT data FROM features WHERE key = ?"
            rows = [database.execute(query, (content_key(solution),)).fetchone() for solution in solutions]
        return [None if row is None else np.frombuffer(row[0], np.float32).reshape(-1, self.width) for row in rows]

    def put(self, features: Iterable[tuple[Solution, Array]]) -> None:
        rows = [(content_key(solution), array.tobytes()) for solution, array in features]
        with closing(self._connect()) as database, database:
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)


def content_key(solution: Solution) -> str:
    return hashlib.sha256(json.dumps([solution.problem, *solution.steps]).encode()).hexdigest()


class FeatureReader:
    """Step features (steps, width) of solutions, in the order in which they come, in constant memory."""

    def __init__(self, checkpoint: Checkpoint, cache_dir: Path | None = None) -> None:
        self.backbone = checkpoint.backbone()
        self.cache = (
            None
            if cache_dir is None
            else FeatureCache(cache_dir, checkpoint.metadata.backbone_digest, self.backbone.width)
        )

    def read(self, solutions: Iterable[Solution]) -> Iterator[tuple[Solution, Array]]:
        """Raises `SolutionTooLong`, and `PrmError` where the model gives a number that is not finite."""
        stream = iter(solutions)
        while window := list(islice(stream, WINDOW)):
            known = self.cache.get(window) if self.cache else [None] * len(window)
            missing = [solution for solution, array in zip(window, known, strict=True) if array is None]
            fresh = iter(self._compute(missing))
            arrays = [array if array is not None else next(fresh) for array in known]
            yield from zip(window, arrays, strict=True)

    def _compute(self, solutions: list[Solution]) -> list[Array]:
        encoded = [self.backbone.encoder.encode(solution) for solution in solutions]
        computed: dict[int, Array] = {}
        for batch in token_batches(encoded):
            for index, array in zip(batch, self.backbone.read([encoded[index] for index in batch]), strict=True):
                if not np.isfinite(array).all():
                    raise PrmError(f"solution {solutions[index].key}: the model gave a value that is not a number")
                computed[index] = array
        arrays = [computed[index] for index in range(len(solutions))]
        if self.cache and solutions:
            self.cache.put(zip(solutions, arrays, strict=True))
        return arrays


def token_batches(encoded: Sequence[EncodedSolution]) -> Iterator[list[int]]:
    """Indices in batches of like length, each of at most `TOKENS_PER_BATCH` padded tokens (or one solution)."""
    return batching.token_batches([len(solution.ids) for solution in encoded], most_tokens=TOKENS_PER_BATCH)
