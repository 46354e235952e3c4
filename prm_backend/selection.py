"""Which solutions people judge next: acquisition strategies over packed arrays of step scores.

Whole solutions are picked and judged up to their first error. So a step counts by the probability that it is reached,
the product of 1 - p(−) over the steps before it, and a solution by its mean over the steps that will be judged: the
cost is a judged step, and long solutions get no bonus. Acquisition works on p(−) against p(0) + p(+), the line that the
solution score depends on.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from prm_backend.policy import Policy
from prm_backend.types import StepScores

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Arm = Literal["random", "active"]

NEVER = -np.inf
SMALLEST = 1e-12  # keeps logarithms finite


@dataclass(frozen=True, slots=True)
class Candidates:
    """A pool of n solutions with all their steps in flat arrays.

    problem (n,): number of its problem; wrong_answer (n,): True where the final answer is known to be wrong;
    scored (n,): False where there are no step scores, so that only chance can pick the solution;
    solution (steps,): number of its solution, ascending; bad, spread (steps,): p(−) and its spread over the heads.
    """

    keys: Sequence[str]
    problem: Integers
    wrong_answer: npt.NDArray[np.bool_]
    scored: npt.NDArray[np.bool_]
    solution: Integers
    bad: Floats
    spread: Floats

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def pack(
        cls,
        keys: Sequence[str],
        problem_keys: Sequence[str],
        scores: Sequence[StepScores | None],
        final_answer_correct: Sequence[bool | None],
    ) -> Candidates:
        """From one entry for each solution; None for a solution without scores, or with an ungraded answer. Raises
        `ValueError` for lengths that differ, keys that repeat and probabilities outside 0 to 1."""
        if not len(keys) == len(problem_keys) == len(scores) == len(final_answer_correct):
            raise ValueError("keys, problem_keys, scores and final_answer_correct must have the same length")
        if len(set(keys)) != len(keys):
            raise ValueError("keys must not repeat")
        numbers: dict[str, int] = {}
        lengths = [0 if steps is None else len(steps) for steps in scores]
        bad = np.array([p for steps in scores if steps is not None for p in steps.bad], float)
        spread = np.array([s for steps in scores if steps is not None for s in steps.spread], float)
        if not (((bad >= 0) & (bad <= 1)).all() and (spread >= 0).all()):
            raise ValueError("p(−) must lie between 0 and 1, and its spread be 0 or more")
        return cls(
            keys=keys,
            problem=np.array([numbers.setdefault(key, len(numbers)) for key in problem_keys], np.int64),
            wrong_answer=np.array([correct is False for correct in final_answer_correct], bool),
            scored=np.array(lengths, np.int64) > 0,
            solution=np.repeat(np.arange(len(keys)), lengths),
            bad=bad,
            spread=spread,
        )

    def sums(self, values: Floats) -> Floats:
        """(steps,) -> (n,): the sum over the steps of each solution."""
        sums: Floats = np.zeros(len(self))
        np.add.at(sums, self.solution, values)
        return sums

    def reached(self) -> Floats:
        """(steps,): the probability that judging gets as far as this step."""
        reached: Floats = np.ones(len(self.bad))
        step = np.flatnonzero(np.diff(self.solution, prepend=-1))  # the first step of each solution, then the next
        while step.size:
            step = step[step + 1 < len(self.bad)]
            step = step[self.solution[step] == self.solution[step + 1]] + 1
            reached[step] = reached[step - 1] * (1 - self.bad[step - 1])
        return reached

    def solution_score(self) -> Floats:
        """(n,): the product of 1 - p(−); 1 where there are no scores."""
        score: Floats = np.ones(len(self))
        last = np.flatnonzero(np.diff(self.solution, append=-1))
        score[self.solution[last]] = self.reached()[last] * (1 - self.bad[last])
        return score


@dataclass(frozen=True, slots=True)
class Pick:
    """One solution to judge, and why. `score` is what the strategy ranked by, None where chance alone decided.
    `inclusion_probability` is exact for the random arm; it is 1 where a strategy ranked, since ranking the same pool
    again picks the same, and the share of what was left where the active arm had to be filled up by chance."""

    key: str
    arm: Arm
    strategy: str
    score: float | None
    inclusion_probability: float


def most_uncertain_steps(scores: StepScores, count: int) -> tuple[int, ...]:
    """Which `count` steps of one solution to ask about, in reading order: those whose p(−) is nearest to 1/2 and has
    the widest spread over the heads, weighted by the probability that a reader gets that far without an error."""
    bad = np.array(scores.bad, float)
    reached = np.concatenate([[1.0], np.cumprod(1 - bad)[:-1]])
    worth = reached * (1 - 2 * np.abs(bad - 0.5) + np.array(scores.spread, float))
    return tuple(sorted(int(step) for step in np.argsort(-worth, kind="stable")[:count]))


class Strategy(ABC):
    @abstractmethod
    def scores(self, candidates: Candidates) -> Floats:
        """(n,): higher is picked first, `NEVER` is not picked. Unscored solutions are left out by the caller."""


class _PerJudgedStep(Strategy):
    """The mean of a quantity of steps over the steps that will be judged."""

    def scores(self, candidates: Candidates) -> Floats:
        reached = candidates.reached()
        expected_steps = candidates.sums(reached)
        total = candidates.sums(reached * self.of_step(candidates))
        mean: Floats = np.full(len(candidates), NEVER)
        np.divide(total, expected_steps, out=mean, where=candidates.scored)
        return mean

    @abstractmethod
    def of_step(self, candidates: Candidates) -> Floats:
        """(steps,)"""


class Uncertainty(_PerJudgedStep):
    """Entropy of p(−), in bits."""

    def of_step(self, candidates: Candidates) -> Floats:
        p = np.clip(candidates.bad, SMALLEST, 1 - SMALLEST)
        entropy: Floats = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        return entropy


class Margin(_PerJudgedStep):
    """1 at p(−) = 1/2, falling to 0 at certainty on either side."""

    def of_step(self, candidates: Candidates) -> Floats:
        return 1 - np.abs(2 * candidates.bad - 1)


class Disagreement(_PerJudgedStep):
    """Standard deviation of p(−) over the heads of an ensemble (arXiv 2504.10559)."""

    def of_step(self, candidates: Candidates) -> Floats:
        return candidates.spread


class ConvincingWrongAnswer(Strategy):
    """The solution score (product of 1 - p(−)) of solutions with a wrong final answer (arXiv 2305.20050)."""

    def scores(self, candidates: Candidates) -> Floats:
        return np.where(candidates.wrong_answer, candidates.solution_score(), NEVER)


STRATEGY_OF: dict[str, Strategy] = {
    "uncertainty": Uncertainty(),
    "margin": Margin(),
    "disagreement": Disagreement(),
    "convincing_wrong_answer": ConvincingWrongAnswer(),
}


def select(candidates: Candidates, policy: Policy, count: int, rng: np.random.Generator) -> list[Pick]:
    """A batch of `count` solutions, fewer where the pool or the limit for each problem allows no more. The random arm
    is drawn first, from the whole pool; the strategies share the rest by weight."""
    drawn = draw_random(candidates, random_count(policy, count), rng, per_problem=policy.per_problem)
    return drawn + select_active(candidates, policy, count - len(drawn), rng, taken=[pick.key for pick in drawn])


def random_count(policy: Policy, count: int) -> int:
    """How many of a batch the random arm gets: its share, rounded up."""
    return math.ceil(count * policy.random_share - 1e-9)


def draw_random(candidates: Candidates, count: int, rng: np.random.Generator, *, per_problem: int = 1) -> list[Pick]:
    """The random arm: each problem puts up to `per_problem` of its solutions, drawn by lot, into an urn, and `count`
    are drawn from the urn. So the inclusion probability of a solution is known exactly, and recorded."""
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
        for index in rng.permutation(urn)[: max(0, count)]
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
    problem). What one strategy cannot fill falls to the others, and at last to chance."""
    batch = _Batch(candidates, policy.per_problem)
    batch.take_keys(taken)
    picks: list[Pick] = []
    missing = 0
    quotas = _shared_out(max(0, count), policy.strategies)
    for name, quota in [*quotas.items(), *((name, 0) for name in quotas)]:  # a second round for what is left over
        if quota + missing > 0:
            chosen = _ranked(batch, name, quota + missing, rng)
            missing += quota - len(chosen)
            picks += chosen
    return picks + _filled_up(batch, count - len(picks), rng)


def _ranked(batch: _Batch, name: str, count: int, rng: np.random.Generator) -> list[Pick]:
    candidates = batch.candidates
    scores = np.where(candidates.scored, STRATEGY_OF[name].scores(candidates), NEVER)
    order = np.lexsort((rng.random(len(candidates)), -scores))  # ties by lot
    chosen = batch.take(order[scores[order] > NEVER], count)
    return [Pick(candidates.keys[index], "active", name, float(scores[index]), 1.0) for index in chosen]


def _filled_up(batch: _Batch, count: int, rng: np.random.Generator) -> list[Pick]:
    order = rng.permutation(len(batch.candidates))
    left = len(batch.best(order, len(order)))
    return [
        Pick(batch.candidates.keys[index], "active", "random", None, min(1.0, count / left))
        for index in batch.take(order, count)
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
        self._mark(np.array([index for index, key in enumerate(self.candidates.keys) if key in wanted], np.int64))

    def best(self, order: Integers, count: int) -> Integers:
        """The first `count` of `order` that are free and for whose problems there is room."""
        order = order[self._free[order]]
        problem = self.candidates.problem[order]
        grouped = np.argsort(problem, kind="stable")
        sizes = np.bincount(problem, minlength=len(self._room))
        starts = np.cumsum(sizes) - sizes
        place = np.empty(len(order), np.int64)
        place[grouped] = np.arange(len(order)) - starts[problem[grouped]]
        return order[place < self._room[problem]][: max(0, count)]

    def take(self, order: Integers, count: int) -> Integers:
        chosen = self.best(order, count)
        self._mark(chosen)
        return chosen

    def _mark(self, chosen: Integers) -> None:
        self._free[chosen] = False
        np.subtract.at(self._room, self.candidates.problem[chosen], 1)
