"""Step scores of a stream of solutions: one forward pass for all steps of a solution, heads on the step positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from prm_backend.checkpoints import CheckpointMetadata, load_checkpoint
from prm_backend.errors import PrmError
from prm_backend.features import FeatureReader
from prm_backend.model import Array, StepHeads
from prm_backend.types import Progress, ReportProgress, Solution, StepScores, ignore_progress


class Scorer:
    """A loaded checkpoint. Scores do not depend on what else is in a batch (to 1e-4), nor on the cache."""

    def __init__(self, metadata: CheckpointMetadata, heads: StepHeads, reader: FeatureReader) -> None:
        self.metadata = metadata
        self.heads = heads
        self.reader = reader

    @classmethod
    def load(cls, path: Path, *, cache_dir: Path | None = None) -> Scorer:
        """Raises `CheckpointError` when the folder is missing or damaged. With `cache_dir`, step features are kept on
        disk, so that scoring again after a retrain costs no forward pass."""
        checkpoint = load_checkpoint(path)
        return cls(checkpoint.metadata, checkpoint.heads, FeatureReader(checkpoint, cache_dir))

    def score(
        self, solutions: Iterable[Solution], *, progress: ReportProgress = ignore_progress, total: int | None = None
    ) -> Iterator[tuple[str, StepScores]]:
        """(key, step scores) in input order, in constant memory. `total` only serves progress; without it, it is the
        number seen so far. Raises `SolutionTooLong`, and `PrmError` naming a solution with a score that is no number.
        """
        for done, (solution, features) in enumerate(self.reader.read(solutions), start=1):
            scores = self.heads.predict(features)
            if not np.isfinite([*scores.bad, *scores.neutral, *scores.spread]).all():
                raise PrmError(f"solution {solution.key}: a step score is not a number")
            progress(Progress(done, total or done, "scoring"))
            yield solution.key, scores

    def features(self, solutions: Iterable[Solution]) -> Iterator[tuple[str, Array]]:
        """(key, step features of shape (steps, width)), for diversity among solutions."""
        for solution, features in self.reader.read(solutions):
            yield solution.key, features
