"""A batch by policy: the random arm first, then the strategies by their shares, at most so many of one problem."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prm_backend.policy import Policy
from prm_backend.selection.candidates import Candidates, Features, Floats, Integers, SelectionError
from prm_backend.selection.diversity import spread_out
from prm_backend.selection.strategies import NEVER, STRATEGY_OF, Diversity

Arm = Literal["random", "active"]


@dataclass(frozen=True, slots=True)
class Pick:
    """One solution to judge, and why. `score` is what the strategy ranked by, None where chance alone decided.

    `inclusion_probability` is the chance that the lots gave this solution, given the pool and the picks before it. It
    is exact for the random arm. Where a strategy ranked, it is 1, since ranking the same pool again picks the same;
    less only where the lot decided between equal scores, then the share that got through (diversity alone: the share
    of the pool that was looked at). Where the active arm was filled up by chance, it is the share of what was left.
    """

    key: str
    arm: Arm
    strategy: str
    score: float | None
    inclusion_probability: float


def select(candidates: Candidates, policy: Policy, count: int, rng: np.random.Generator) -> list[Pick]:
    """A batch of `count` solutions, fewer where the pool or the limit for each problem allows no more. The random arm
    is drawn first, from the whole pool; the strategies share the rest by weight. Raises `SelectionError` where a
    strategy needs what the candidates do not carry."""
    drawn = draw_random(candidates, random_count(policy, count), rng, per_problem=policy.per_problem)
    return drawn + select_active(candidates, policy, count - len(drawn), rng, taken=[pick.key for pick in drawn])


def random_count(policy: Policy, count: int) -> int:
    """How many of a batch the random arm gets: its share, rounded up."""
    return math.ceil(count * policy.random_share - 1e-9)


def draw_random(candidates: Candidates, count: int, rng: np.random.Generator, *, per_problem: int = 1) -> list[Pick]:
    """The random arm: each problem puts up to `per_problem` of its solutions, drawn by lot, into an urn, and `count`
    are drawn from the urn. So the inclusion probability of a solution is known exactly, and recorded."""
    if count <= 0:
        return []
    batch = _Batch(candidates, per_problem)
    urn = batch.best(rng.permutation(len(candidates)), len(candidates))
    sizes = np.bincount(candidates.problem)
    from_urn = min(1.0, count / max(1, len(urn)))
    return [
        Pick(
            key=candidates.keys[index],
            arm="random",
            strategy="random",
            score=None,
            inclusion_probability=float(min(1.0, per_problem / sizes[candidates.problem[index]]) * from_urn),
        )
        for index in rng.permutation(urn)[:count]
    ]


def select_active(
    candidates: Candidates,
    policy: Policy,
    count: int,
    rng: np.random.Generator,
    *,
    taken: Sequence[str] = (),
) -> list[Pick]:
    """The active arm: `count` solutions beside those already `taken` (by key; they count for the limit for each
    problem, and diversity keeps away from them). What one strategy cannot fill falls to the others, and at last to
    chance. Raises `SelectionError`, as `select`."""
    batch = _Batch(candidates, policy.per_problem)
    batch.take_keys(taken)
    picks: list[Pick] = []
    missing = 0
    quotas = _shared_out(max(0, count), policy.strategies)
    for name, quota in [*quotas.items(), *((name, 0) for name in quotas)]:  # a second round for what is left over
        if quota + missing > 0:
            chosen = _ranked(batch, name, quota + missing, policy.diverse_among, rng)
            missing += quota - len(chosen)
            picks += chosen
    return picks + _filled_up(batch, count - len(picks), rng)


def _ranked(batch: _Batch, name: str, count: int, among: int, rng: np.random.Generator) -> list[Pick]:
    candidates, strategy = batch.candidates, STRATEGY_OF[name]
    scores = np.where(candidates.scored, strategy.scores(candidates), NEVER)
    wanted = batch.open(np.flatnonzero(scores > NEVER))
    looked_at = _best(batch, wanted, scores, strategy.looked_at(count, among), rng)
    shares = _shares(scores, wanted, looked_at)
    ranked_by = scores[looked_at]
    if strategy.looked_at(count, among) > count:
        chosen, distances = spread_out(*_features(batch, looked_at, name), count, rng)
        looked_at, shares = looked_at[chosen], shares[chosen]
        ranked_by = distances if isinstance(strategy, Diversity) else ranked_by[chosen]
    batch.mark(looked_at)
    return [
        Pick(candidates.keys[index], "active", name, float(score), float(share))
        for index, score, share in zip(looked_at, ranked_by, shares, strict=True)
    ]


def _best(batch: _Batch, wanted: Integers, scores: Floats, count: int, rng: np.random.Generator) -> Integers:
    """The `count` of `wanted` with the highest scores for which there is room, the highest first, ties by lot."""
    size = 4 * count  # sorting all would take most of the time
    while True:
        lowest = np.partition(scores[wanted], -size)[-size] if size < len(wanted) else NEVER
        top = wanted[scores[wanted] >= lowest]
        found = batch.best(top[np.lexsort((rng.random(len(top)), -scores[top]))], count)
        if len(found) == count or size >= len(wanted):
            return found
        size *= 8


def _shares(scores: Floats, wanted: Integers, best: Integers) -> Floats:
    """(best,): 1, but for those with the lowest score the share of them that the lot let through."""
    shares: Floats = np.ones(len(best))
    if best.size:
        lowest = scores[best].min()
        last = scores[best] == lowest
        shares[last] = last.sum() / (scores[wanted] == lowest).sum()
    return shares


def _features(batch: _Batch, looked_at: Integers, name: str) -> tuple[Features, Features]:
    features = batch.candidates.features
    if features is None:
        raise SelectionError(f"{name}: the candidates carry no features, which a diverse batch needs")
    return features[looked_at], features[batch.taken()]


def _filled_up(batch: _Batch, count: int, rng: np.random.Generator) -> list[Pick]:
    if count <= 0:
        return []
    order = rng.permutation(len(batch.candidates))
    left = len(batch.best(order, len(order)))
    chosen = batch.best(order, count)
    return [Pick(batch.candidates.keys[index], "active", "random", None, min(1.0, count / left)) for index in chosen]


def _shared_out(count: int, weights: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in proportion to the weights that sum to `count` (largest remainders)."""
    exact = {name: count * weight / sum(weights.values()) for name, weight in weights.items()}
    quotas = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: quotas[name] - exact[name])
    for name in by_remainder[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


class _Batch:
    """What has been taken so far, and how much room each problem has left."""

    def __init__(self, candidates: Candidates, per_problem: int) -> None:
        self.candidates = candidates
        self._free = np.ones(len(candidates), bool)
        self._room = np.full(int(candidates.problem.max(initial=-1)) + 1, per_problem)

    def take_keys(self, keys: Sequence[str]) -> None:
        wanted = set(keys)
        self.mark(np.array([index for index, key in enumerate(self.candidates.keys) if key in wanted], np.int64))

    def taken(self) -> Integers:
        return np.flatnonzero(~self._free)

    def open(self, order: Integers) -> Integers:
        """Those of `order` that are free and for whose problems there is some room."""
        return order[self._free[order] & (self._room[self.candidates.problem[order]] > 0)]

    def best(self, order: Integers, count: int) -> Integers:
        """The first `count` of `order` that are free and for whose problems there is room for all of them."""
        order = self.open(order)
        problem = self.candidates.problem[order]
        grouped = np.argsort(problem, kind="stable")
        sizes = np.bincount(problem, minlength=len(self._room))
        starts = np.cumsum(sizes) - sizes
        place = np.empty(len(order), np.int64)
        place[grouped] = np.arange(len(order)) - starts[problem[grouped]]
        return order[place < self._room[problem]][: max(0, count)]

    def mark(self, chosen: Integers) -> None:
        self._free[chosen] = False
        np.subtract.at(self._room, self.candidates.problem[chosen], 1)
