"""Step scores on disk, named by what they are scores of: the checkpoint, how it reads, and the text."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from prm_backend.errors import PrmError
from prm_backend.types import Solution, SolutionTree, StepScores

CACHE_VERSION = 1
WHOLE = -1


class ScoreCache:
    """One SQLite file for each checkpoint and adapter; several processes may use it at once. A killed process loses at
    most the window of solutions that it was working on. Scores are kept as they came, in single precision."""

    def __init__(self, folder: Path, *, checkpoint: str, adapter: Mapping[str, Any]) -> None:
        """`checkpoint` is the digest of the weights, with the dtype where that is not fixed; `adapter` is plain data.
        Raises `PrmError` where the folder cannot be used."""
        read_as = json.dumps([CACHE_VERSION, checkpoint, adapter], sort_keys=True)
        self.path = folder / f"scores-{hashlib.sha256(read_as.encode()).hexdigest()[:32]}.sqlite3"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS scores"
                    " (key TEXT PRIMARY KEY, windowed_from INTEGER NOT NULL, data BLOB NOT NULL) WITHOUT ROWID"
                )
        except (OSError, sqlite3.Error) as error:
            raise PrmError(f"{self.path}: not usable as a cache of scores ({error})") from error

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)

    def get(self, keys: Collection[str]) -> dict[str, StepScores]:
        """The scores that are there."""
        asked = json.dumps(list(keys))
        query = "SELECT key, windowed_from, data FROM scores WHERE key IN (SELECT value FROM json_each(?))"
        with closing(self._connect()) as database:
            rows = database.execute(query, (asked,)).fetchall()
        return {key: _unpack(windowed_from, data) for key, windowed_from, data in rows}

    def put(self, scores: Mapping[str, StepScores]) -> None:
        rows = [
            (key, WHOLE if one.windowed_from is None else one.windowed_from, _pack(one)) for key, one in scores.items()
        ]
        with closing(self._connect()) as database, database:
            database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", rows)


def content_key(item: Solution | SolutionTree) -> str:
    """Names the text that a score depends on. Equal text has equal scores, whatever its key."""
    steps = item.steps if isinstance(item, Solution) else [(node.text, node.parent) for node in item.nodes]
    return hashlib.sha256(json.dumps([item.problem, steps]).encode()).hexdigest()


def _pack(scores: StepScores) -> bytes:
    values = (*scores.bad, *scores.neutral, *scores.good, *scores.spread)
    return struct.pack(f"<{len(values)}f", *values)


def _unpack(windowed_from: int, data: bytes) -> StepScores:
    values = struct.unpack(f"<{len(data) // 4}f", data)
    steps = len(values) // 4
    bad, neutral, good, spread = (values[column * steps : (column + 1) * steps] for column in range(4))
    return StepScores(bad, neutral, good, spread, None if windowed_from == WHOLE else windowed_from)
