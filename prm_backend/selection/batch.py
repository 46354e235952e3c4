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

    `inclusion_probability` is the chance that the lots gave this solution, given the pool and what was taken before its
    strategy, or chance, had its turn. Where a strategy ranked, it is 1, since ranking the same pool again picks the
    same; less only where the lot decided between equal scores, within a problem or between problems. Where features
    chose among the best (or, with diversity alone, among solutions drawn by lot), it is the chance to be among these.
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
    return _drawn(_Batch(candidates, per_problem), count, rng, "random")


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
    return picks + _drawn(batch, count - len(picks), rng, "active")


def _ranked(batch: _Batch, name: str, count: int, among: int, rng: np.random.Generator) -> list[Pick]:
    candidates, strategy = batch.candidates, STRATEGY_OF[name]
    scores = np.where(candidates.scored, strategy.scores(candidates), NEVER)
    wanted = batch.open(np.flatnonzero(scores > NEVER))
    looked_at, chances = _best(batch, wanted, scores, strategy.looked_at(count, among), rng)
    ranked_by = scores[looked_at]
    if strategy.looked_at(count, among) > count:
        chosen, distances = spread_out(*_features(batch, looked_at, name), count, rng)
        looked_at, chances = looked_at[chosen], chances[chosen]
        ranked_by = distances if isinstance(strategy, Diversity) else ranked_by[chosen]
    batch.mark(looked_at)
    return [
        Pick(candidates.keys[index], "active", name, float(score), float(chance))
        for index, score, chance in zip(looked_at, ranked_by, chances, strict=True)
    ]


def _best(
    batch: _Batch, wanted: Integers, scores: Floats, count: int, rng: np.random.Generator
) -> tuple[Integers, Floats]:
    """The `count` of `wanted` with the highest scores for which there is room, the highest first, and the chance of
    each. Equal scores are told apart by two lots, as in the random arm: one within each problem for its room, and one
    among those that came through for the places in the batch."""
    size = 4 * count  # sorting all would take most of the time
    while True:
        lowest = np.partition(scores[wanted], -size)[-size] if size < len(wanted) else NEVER
        top = wanted[scores[wanted] >= lowest]
        urn = batch.best(_by_score(top, scores, rng), len(top))
        if len(urn) >= count or size >= len(wanted):
            break
        size *= 8
    best = _by_score(urn, scores, rng)[:count]
    chances = _chances_in_problem(batch.candidates.problem, scores, top, urn)[best]
    if best.size:
        last = scores[best] == scores[best[-1]]
        chances[last] *= last.sum() / (scores[urn] == scores[best[-1]]).sum()
    return best, chances


def _by_score(order: Integers, scores: Floats, rng: np.random.Generator) -> Integers:
    """The highest score first, equal scores by lot."""
    return order[np.lexsort((rng.random(len(order)), -scores[order]))]


def _chances_in_problem(problem: Integers, scores: Floats, top: Integers, urn: Integers) -> Floats:
    """(n,): the chance of each of `urn` to be the one of its problem's `top` that has a place there. The lot has a say
    only at the lowest score that has one."""
    lowest: Floats = np.full(int(problem.max(initial=-1)) + 1, np.inf)
    np.minimum.at(lowest, problem[urn], scores[urn])
    tied, through = (order[scores[order] == lowest[problem[order]]] for order in (top, urn))
    of_problem = np.bincount(problem[through], minlength=len(lowest)) / np.maximum(
        1, np.bincount(problem[tied], minlength=len(lowest))
    )
    chances: Floats = np.ones(len(scores))
    chances[through] = of_problem[problem[through]]
    return chances


def _features(batch: _Batch, looked_at: Integers, name: str) -> tuple[Features, Features]:
    features = batch.candidates.features
    if features is None:
        raise SelectionError(f"{name}: the candidates carry no features, which a diverse batch needs")
    return features[looked_at], features[batch.taken()]


def _drawn(batch: _Batch, count: int, rng: np.random.Generator, arm: Arm) -> list[Pick]:
    """By lot: each problem puts as many solutions as it has room for into an urn, and `count` are drawn from it."""
    candidates = batch.candidates
    order = batch.open(rng.permutation(len(candidates)))
    urn = batch.best(order, len(order))
    chance = np.bincount(candidates.problem[urn]) / np.maximum(1, np.bincount(candidates.problem[order]))
    chance *= min(1.0, max(0, count) / max(1, len(urn)))
    return [
        Pick(candidates.keys[index], arm, "random", None, float(chance[candidates.problem[index]]))
        for index in rng.permutation(urn)[: max(0, count)]
    ]


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
