"""Acquisition strategies: each is one method from packed arrays to one number for each solution.

Whole solutions are picked and judged up to their first error. So a step counts by the probability that it is reached,
the product of 1 - p(−) over the steps before it, and a solution by what it gives over the steps that will be judged:
the cost is a judged step, and long solutions get no bonus. Acquisition works on p(−) against p(0) + p(+), the line that
the solution score depends on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from prm_backend.selection.candidates import Candidates, Floats, SelectionError
from prm_backend.types import StepScores

NEVER = -np.inf
SMALLEST = 1e-12  # keeps logarithms finite
LOOKED_AT = 20_000  # solutions that diversity alone compares: a million would take minutes


class Strategy(ABC):
    @abstractmethod
    def scores(self, candidates: Candidates) -> Floats:
        """(n,): higher is picked first, `NEVER` is not picked. Unscored solutions are left out by the caller."""

    def looked_at(self, count: int, among: int) -> int:
        """How many of the best features may choose among for `count` picks; `count` where features have no say."""
        return count * among


class _PerJudgedStep(Strategy):
    """The sum of a quantity over the steps, each by the probability that it is reached, per step judged."""

    def scores(self, candidates: Candidates) -> Floats:
        reached = candidates.reached()
        return _divided(candidates, candidates.sums(reached * self.of_step(candidates)), candidates.sums(reached))

    @abstractmethod
    def of_step(self, candidates: Candidates) -> Floats:
        """(steps,)"""


def _divided(candidates: Candidates, total: Floats, expected_steps: Floats) -> Floats:
    mean: Floats = np.full(len(candidates), NEVER)
    np.divide(total, expected_steps, out=mean, where=candidates.scored)
    return mean


class Uncertainty(_PerJudgedStep):
    """Entropy of p(−), in bits. The sum over the steps is the entropy of where the first error will be found."""

    def of_step(self, candidates: Candidates) -> Floats:
        p = np.clip(candidates.bad, SMALLEST, 1 - SMALLEST)
        entropy: Floats = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        return entropy


class Margin(_PerJudgedStep):
    """1 at p(−) = 1/2, falling to 0 at certainty on either side."""

    def of_step(self, candidates: Candidates) -> Floats:
        return 1 - np.abs(2 * candidates.bad - 1)


class LeastConfidence(Strategy):
    """The probability that the likeliest outcome of judging does not come about, per step judged. The outcomes are
    "first error at step i" and "no error". Step by step, least confidence would be half the margin."""

    def scores(self, candidates: Candidates) -> Floats:
        reached = candidates.reached()
        likeliest = candidates.solution_score()
        first = candidates.first_steps()
        if first.size:
            of_error = np.maximum.reduceat(reached * candidates.bad, first)
            solution = candidates.solution[first]
            likeliest[solution] = np.maximum(likeliest[solution], of_error)
        return _divided(candidates, 1 - likeliest, candidates.sums(reached))


class Disagreement(_PerJudgedStep):
    """Standard deviation of p(−) over the heads of an ensemble (arXiv 2504.10559)."""

    def of_step(self, candidates: Candidates) -> Floats:
        return candidates.spread


class Convincing(Strategy):
    """The solution score (product of 1 - p(−)), whatever the final answer."""

    def scores(self, candidates: Candidates) -> Floats:
        return np.where(candidates.scored, candidates.solution_score(), NEVER)


class ConvincingWrongAnswer(Strategy):
    """The solution score of solutions with a wrong final answer (arXiv 2305.20050, which mixes 80 % of these with
    20 % of the most convincing others: `policy.CONVINCING`)."""

    def scores(self, candidates: Candidates) -> Floats:
        return np.where(candidates.wrong_answer & candidates.scored, candidates.solution_score(), NEVER)


class HumanDisagreement(Strategy):
    """How far labelers and PRM are apart on whether there is an error, per step judged. The PRM's belief, 1 - solution
    score, weighs as much as one labeling, so that one odd labeling counts for less than three that agree. Solutions
    about which nobody has said anything, nor about their problem, are not picked. Raises `SelectionError`."""

    def scores(self, candidates: Candidates) -> Floats:
        if candidates.labelings is None or candidates.errors_found is None:
            raise SelectionError("human_disagreement: the candidates carry no labelings and errors_found")
        belief = 1 - candidates.solution_score()
        apart = np.abs(candidates.errors_found - candidates.labelings * belief) / (candidates.labelings + 1)
        scores = _divided(candidates, apart, candidates.sums(candidates.reached()))
        return np.where(candidates.labelings > 0, scores, NEVER)


class Diversity(Strategy):
    """No solution is better than another by its scores; features alone choose, among as many as time allows, drawn by
    lot. A pick's score is its distance from the nearest solution of the batch so far."""

    def scores(self, candidates: Candidates) -> Floats:
        return np.where(candidates.scored, 0.0, NEVER)

    def looked_at(self, count: int, among: int) -> int:
        return max(LOOKED_AT, count * max(among, 4))


STRATEGY_OF: dict[str, Strategy] = {
    "uncertainty": Uncertainty(),
    "margin": Margin(),
    "least_confidence": LeastConfidence(),
    "disagreement": Disagreement(),
    "convincing_wrong_answer": ConvincingWrongAnswer(),
    "convincing": Convincing(),
    "human_disagreement": HumanDisagreement(),
    "diversity": Diversity(),
}


def most_uncertain_steps(scores: StepScores, count: int) -> tuple[int, ...]:
    """Which `count` steps of one solution to ask about, in reading order: those whose p(−) is nearest to 1/2 and has
    the widest spread over the heads, weighted by the probability that a reader gets that far without an error."""
    bad = np.array(scores.bad, float)
    reached = np.concatenate([[1.0], np.cumprod(1 - bad)[:-1]])
    worth = reached * (1 - 2 * np.abs(bad - 0.5) + np.array(scores.spread, float))
    return tuple(sorted(int(step) for step in np.argsort(-worth, kind="stable")[:count]))
