"""Best-of-N: of several solutions of a problem the one with the highest solution score is picked; how often is its
final answer right? Beside it stand the vote of the majority, a random pick, and pass@N, which nothing can exceed.

Equal scores share the pick, so that no figure depends on the order of the solutions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.evaluation.bootstrap import SAMPLES, Estimate, Statistic, estimates, of_sums, ratio
from prm_backend.evaluation.steps import Floats, check_probabilities
from prm_backend.types import Reduction, Solution, StepScores, solution_score

REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One solution of a problem: its final answer in a normal form (None: it gives none) and whether that is right
    (None: nobody graded it)."""

    solution: Solution
    answer: str | None
    correct: bool | None


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Shares of problems solved. `majority` is None where no solution states an answer. `smallest` and `largest` are
    the numbers of graded solutions of a problem; `ungraded` solutions take no part, nor do the `left_out` problems that
    have fewer than two graded ones."""

    problems: int
    solutions: int
    smallest: int
    largest: int
    ungraded: int
    left_out: int
    by_reduction: dict[Reduction, Estimate]
    majority: Estimate | None
    random: Estimate
    pass_at_n: Estimate


def best_of_n(
    candidates: Iterable[Candidate], scores: Mapping[str, StepScores], *, samples: int = SAMPLES, seed: int = 0
) -> BestOfN:
    """`scores` are by solution key. Raises `NotEnoughData` where no problem has two graded solutions, `PrmError`
    naming a solution without scores, without steps, or with a score that is no probability."""
    groups, ungraded, left_out = _groups(candidates, scores)
    if not groups:
        raise NotEnoughData("best-of-N needs a problem with at least two graded solutions")
    columns: dict[str, list[float]] = {how: [_pick(group, scores, how) for group in groups] for how in REDUCTIONS}
    columns["random"] = [_share(group) for group in groups]
    columns["pass_at_n"] = [float(any(candidate.correct for candidate in group)) for group in groups]
    voted = any(candidate.answer is not None for group in groups for candidate in group)
    if voted:
        columns["majority"] = [_vote(group) for group in groups]
    found = estimates(_means(columns), len(groups), samples=samples, seed=seed)
    sizes = [len(group) for group in groups]
    return BestOfN(
        problems=len(groups),
        solutions=sum(sizes),
        smallest=min(sizes),
        largest=max(sizes),
        ungraded=ungraded,
        left_out=left_out,
        by_reduction={how: found[how] for how in REDUCTIONS},
        majority=found.get("majority"),
        random=found["random"],
        pass_at_n=found["pass_at_n"],
    )


def _groups(
    candidates: Iterable[Candidate], scores: Mapping[str, StepScores]
) -> tuple[list[list[Candidate]], int, int]:
    """The graded solutions of each problem with two of them or more, how many solutions nobody graded, and how many
    problems are left out."""
    by_problem: dict[str, list[Candidate]] = {}
    ungraded = 0
    for candidate in candidates:
        key = candidate.solution.key
        if not len(scores.get(key, ())):
            raise PrmError(f"solution {key}: no score of any step, so no solution score")
        check_probabilities(key, scores[key])
        group = by_problem.setdefault(candidate.solution.problem_key, [])
        if candidate.correct is None:
            ungraded += 1
        else:
            group.append(candidate)
    groups = [group for _, group in sorted(by_problem.items()) if len(group) > 1]
    return groups, ungraded, len(by_problem) - len(groups)


def _pick(group: Sequence[Candidate], scores: Mapping[str, StepScores], how: Reduction) -> float:
    values = [solution_score(scores[candidate.solution.key], how) for candidate in group]
    highest = max(values)
    return _share([candidate for candidate, value in zip(group, values, strict=True) if value == highest])


def _vote(group: Sequence[Candidate]) -> float:
    """The most frequent answer; a solution without one has no vote."""
    votes: dict[str, list[Candidate]] = {}
    for candidate in group:
        if candidate.answer is not None:
            votes.setdefault(candidate.answer, []).append(candidate)
    if not votes:
        return 0.0
    most = max(map(len, votes.values()))
    return float(np.mean([_share(voters) for voters in votes.values() if len(voters) == most]))


def _share(group: Sequence[Candidate]) -> float:
    return sum(candidate.correct is True for candidate in group) / len(group)


def _means(columns: Mapping[str, Sequence[float]]) -> dict[str, Statistic]:
    """The mean of each column over the problems drawn."""

    def mean(column: Sequence[float]) -> Statistic:
        rows: Floats = np.column_stack([column, np.ones(len(column))])
        return of_sums(rows, np.arange(len(column)), len(column), lambda sums: ratio(sums[:, 0], sums[:, 1]))

    return {name: mean(column) for name, column in columns.items()}
