"""The pool to select from, as flat arrays: a million solutions take a few array operations, and no Python loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from prm_backend.errors import PrmError
from prm_backend.types import StepScores

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


class SelectionError(PrmError):
    """A strategy that needs something which the candidates do not carry; names both."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A pool of n solutions with all their steps in flat arrays; made by `pack` or `of_arrays`.

    problem (n,): number of its problem, from 0; wrong_answer (n,): True where the final answer is known to be wrong;
    scored (n,): False where there are no step scores, so that only chance can pick the solution;
    solution (steps,): number of its solution, ascending; bad, spread (steps,): p(−) and its spread over the heads.

    Optional: features (n, d): what a PRM or an encoder makes of the whole solution, at distances that mean something;
    labelings, errors_found (n,): how many labelings there are of this solution, or where it has none, of others of its
    problem, and how many of them found an error. Raises `ValueError` for arrays that make no sense, NaN included.
    """

    keys: Sequence[str]
    problem: Integers
    wrong_answer: Booleans
    scored: Booleans
    solution: Integers
    bad: Floats
    spread: Floats
    features: Features | None = None
    labelings: Integers | None = None
    errors_found: Integers | None = None

    def __post_init__(self) -> None:
        if len(set(self.keys)) != len(self.keys):
            raise ValueError("keys must not repeat")
        self._check_solutions()
        self._check_steps()

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def pack(
        cls,
        keys: Sequence[str],
        problem_keys: Sequence[str],
        scores: Sequence[StepScores | None],
        final_answer_correct: Sequence[bool | None],
        *,
        features: npt.ArrayLike | None = None,
        labelings: npt.ArrayLike | None = None,
        errors_found: npt.ArrayLike | None = None,
    ) -> Candidates:
        """From one entry for each solution; None for a solution without scores, or with an ungraded answer."""
        if not len(keys) == len(problem_keys) == len(scores) == len(final_answer_correct):
            raise ValueError("keys, problem_keys, scores and final_answer_correct must have the same length")
        numbers: dict[str, int] = {}
        return cls.of_arrays(
            keys,
            [numbers.setdefault(key, len(numbers)) for key in problem_keys],
            [0 if steps is None else len(steps) for steps in scores],
            [p for steps in scores if steps is not None for p in steps.bad],
            [s for steps in scores if steps is not None for s in steps.spread],
            wrong_answer=[correct is False for correct in final_answer_correct],
            features=features,
            labelings=labelings,
            errors_found=errors_found,
        )

    @classmethod
    def of_arrays(
        cls,
        keys: Sequence[str],
        problem: npt.ArrayLike,
        lengths: npt.ArrayLike,
        bad: npt.ArrayLike,
        spread: npt.ArrayLike | None = None,
        *,
        wrong_answer: npt.ArrayLike | None = None,
        features: npt.ArrayLike | None = None,
        labelings: npt.ArrayLike | None = None,
        errors_found: npt.ArrayLike | None = None,
    ) -> Candidates:
        """From flat arrays, without one Python object for each solution. problem (n,): any numbers, equal for the same
        problem; lengths (n,): scored steps of each solution, 0 where it has no scores; bad, spread (sum of lengths,):
        their step scores, one solution after the other; the others as above."""
        steps = np.asarray(lengths, np.int64)
        if steps.ndim != 1 or (steps < 0).any():
            raise ValueError("lengths must be one number from 0 for each solution")
        p = np.asarray(bad, np.float64)
        return cls(
            keys=keys,
            problem=np.unique(np.asarray(problem, np.int64), return_inverse=True)[1].reshape(-1).astype(np.int64),
            wrong_answer=np.zeros(len(keys), bool) if wrong_answer is None else np.asarray(wrong_answer, bool),
            scored=steps > 0,
            solution=np.repeat(np.arange(len(steps), dtype=np.int64), steps),
            bad=p,
            spread=np.zeros(len(p)) if spread is None else np.asarray(spread, np.float64),
            features=None if features is None else np.asarray(features, np.float32),
            labelings=None if labelings is None else np.asarray(labelings, np.int64),
            errors_found=None if errors_found is None else np.asarray(errors_found, np.int64),
        )

    def sums(self, values: Floats) -> Floats:
        """(steps,) -> (n,): the sum over the steps of each solution."""
        return np.bincount(self.solution, weights=values, minlength=len(self)).astype(np.float64, copy=False)

    def first_steps(self) -> Integers:
        """(scored solutions,): the number of the first step of each."""
        starts = np.ones(len(self.solution), bool)
        np.not_equal(self.solution[1:], self.solution[:-1], out=starts[1:])
        return np.flatnonzero(starts)

    def reached(self) -> Floats:
        """(steps,): the probability that judging gets as far as this step."""
        reached: Floats = np.ones(len(self.bad))
        step = self.first_steps()  # then the next of each solution, and so on
        left = np.diff(step, append=len(self.bad))  # steps from there to its end
        while step.size:
            goes_on = left > 1
            step, left = step[goes_on] + 1, left[goes_on] - 1
            reached[step] = reached[step - 1] * (1 - self.bad[step - 1])
        return reached

    def solution_score(self) -> Floats:
        """(n,): the product of 1 - p(−); 1 where there are no scores."""
        score: Floats = np.ones(len(self))
        last = np.append(self.first_steps(), len(self.bad))[1:] - 1
        score[self.solution[last]] = self.reached()[last] * (1 - self.bad[last])
        return score

    def _check_solutions(self) -> None:
        count = len(self)
        for name in ("problem", "wrong_answer", "scored", "labelings", "errors_found"):
            values: npt.NDArray[Any] | None = getattr(self, name)
            if values is not None and values.shape != (count,):
                raise ValueError(f"{name} must have one entry for each solution: {count}, not shape {values.shape}")
        if count and not (self.problem.min() >= 0 and self.problem.max() < count):
            raise ValueError(f"problem must number the problems from 0, below {count}")
        if (self.labelings is None) != (self.errors_found is None):
            raise ValueError("labelings and errors_found must be given together")
        if self.labelings is not None and self.errors_found is not None:
            wrong = np.logical_or(self.errors_found < 0, self.errors_found > self.labelings)
            self._refuse(wrong, "errors_found must lie between 0 and labelings")
        if self.features is not None:
            if self.features.ndim != 2 or len(self.features) != count:
                raise ValueError(f"features must have shape ({count}, d), not {self.features.shape}")
            finite: Booleans = np.logical_and.reduce(np.isfinite(self.features), axis=1)
            self._refuse(~finite, "features: must be finite")

    def _check_steps(self) -> None:
        if not len(self.solution) == len(self.bad) == len(self.spread):
            raise ValueError(
                f"lengths promise {len(self.solution)} steps, but there are {len(self.bad)} of p(−) and "
                f"{len(self.spread)} of its spread"
            )
        if (self.solution[1:] < self.solution[:-1]).any():
            raise ValueError("solution must ascend: the steps of one solution stand together")
        if not np.array_equal(np.bincount(self.solution, minlength=len(self)) > 0, self.scored):
            raise ValueError("scored must be True exactly where a solution has steps")
        for wrong, why in (
            (~((self.bad >= 0) & (self.bad <= 1)), "p(−) must lie between 0 and 1"),
            (~((self.spread >= 0) & (self.spread < np.inf)), "the spread of p(−) must be finite, and 0 or more"),
        ):
            if wrong.any():
                raise ValueError(f"{self.keys[self.solution[wrong.argmax()]]}: {why}")

    def _refuse(self, wrong: Booleans, why: str) -> None:
        if wrong.any():
            raise ValueError(f"{self.keys[int(wrong.argmax())]}: {why}")


def count_labelings(
    keys: Sequence[str], problem_keys: Sequence[str], said: Iterable[tuple[str, str, bool]]
) -> tuple[Integers, Integers]:
    """`labelings` and `errors_found` (n,) of candidates, from (key, problem key, found an error) of every labeling, of
    solutions in the pool and of others: those of the solution itself, or where it has none, those of its problem."""
    count: Counter[tuple[str, str]] = Counter()
    errors: Counter[tuple[str, str]] = Counter()
    for key, problem_key, found_error in said:
        for about in (("solution", key), ("problem", problem_key)):
            count[about] += 1
            errors[about] += found_error
    sources = [
        ("solution", key) if count[("solution", key)] else ("problem", problem_key)
        for key, problem_key in zip(keys, problem_keys, strict=True)
    ]
    return np.array([count[about] for about in sources], np.int64), np.array(
        [errors[about] for about in sources], np.int64
    )
