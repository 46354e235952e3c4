"""Picks that lie far apart: greedy k-centre over solution features (the core-set method, arXiv 1708.00489)."""

from __future__ import annotations

import numpy as np

from prm_backend.selection.candidates import Features, Floats, Integers

DIMENSIONS = 64  # distances survive a random projection to so few (Johnson and Lindenstrauss)


def spread_out(features: Features, centres: Features, count: int, rng: np.random.Generator) -> tuple[Integers, Floats]:
    """(m, d), (c, d) -> positions (k,) in `features` and distances (k,), k = min(count, m).

    Each pick is the one farthest from all `centres`, the mean of `features` and the picks before it; its distance,
    which never grows from pick to pick, says how far. Beyond `DIMENSIONS`, distances are those of a random projection.
    Takes time in proportion to m × (c + k), and memory to m × d.
    """
    count = max(0, min(count, len(features)))
    scale = float(max(np.abs(features).max(initial=0), np.abs(centres).max(initial=0), np.finfo(np.float32).tiny))
    points = _projected(features / np.float32(scale), centres / np.float32(scale), rng)
    points, centres = points[: len(features)], points[len(features) :]
    lengths = np.einsum("md,md->m", points, points)
    nearest = np.full(len(points), np.inf, np.float32)

    def add(centre: Features) -> None:
        squared = lengths - 2 * (points @ centre) + centre @ centre
        np.minimum(nearest, np.maximum(squared, 0), out=nearest)

    for centre in [points.mean(axis=0), *centres] if count else []:
        add(centre)
    picked = np.empty(count, np.int64)
    distances = np.empty(count)
    for place in range(count):
        picked[place] = index = int(nearest.argmax())
        distances[place] = np.sqrt(nearest[index]) * scale
        add(points[index])
        nearest[index] = -1  # below every distance, so it cannot come again
    return picked, distances


def _projected(features: Features, centres: Features, rng: np.random.Generator) -> Features:
    """All rows, features first, in at most `DIMENSIONS` dimensions."""
    rows = np.concatenate([features, centres])
    dimensions = rows.shape[1]
    if dimensions <= DIMENSIONS:
        return rows
    directions = rng.standard_normal((dimensions, DIMENSIONS), np.float32) / np.float32(np.sqrt(DIMENSIONS))
    projected: Features = rows @ directions
    return projected
