"""Problems that a PRM was trained on say nothing about new ones: find them, exact or reworded, and leave them out.

Exact is `types.problem_key`. Reworded is the Jaccard similarity of sets of word triples. The search is exact, not
hashed: two sets can only be similar enough if they share one of their few rarest triples, so only those are indexed
(prefix filtering, Chaudhuri et al. 2006; Bayardo et al. 2007).
"""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prm_backend.types import Solution, normalized_problem_text, problem_key

SHINGLE = 3  # words
SIMILARITY = 0.5  # finds the variants of a problem in which one number became an unknown

# A number is a word, and so is each sign: in mathematics they tell one problem from another.
_WORD = re.compile(r"\d+|[^\W\d_]+|[^\w\s]")


class HasSolution(Protocol):
    @property
    def solution(self) -> Solution: ...


Item = TypeVar("Item", bound=HasSolution)


@dataclass(frozen=True, slots=True)
class Leak:
    """A measured problem and the training problem that is most like it; similarity 1.0 with `exact` False is the same
    set of word triples in another order."""

    problem: str
    training_problem: str
    similarity: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Leakage:
    """What was found: `leaks` names each measured problem that training shares, and `solutions` counts what was left
    out with them. Reworded means a Jaccard similarity of word triples of at least `similarity`."""

    problems: int
    training_problems: int
    solutions: int
    leaks: tuple[Leak, ...]
    similarity: float

    @property
    def exact(self) -> int:
        return sum(leak.exact for leak in self.leaks)

    @property
    def near(self) -> int:
        return len(self.leaks) - self.exact


def without_leaks(
    measured: Sequence[Item], training_problems: Iterable[str], *, similarity: float = SIMILARITY
) -> tuple[list[Item], Leakage]:
    """The solutions whose problem is not among the texts that anything was trained on (pretraining included), and what
    was left out. Problems are told apart by their text, not by the caller's keys."""
    training = list(training_problems)
    texts = [item.solution.problem for item in measured]
    leaks = near_duplicates(texts, training, similarity=similarity)
    leaked = {problem_key(leak.problem) for leak in leaks}
    kept = [item for item in measured if problem_key(item.solution.problem) not in leaked]
    return kept, Leakage(
        problems=len({problem_key(text) for text in texts}),
        training_problems=len({problem_key(text) for text in training}),
        solutions=len(measured) - len(kept),
        leaks=tuple(leaks),
        similarity=similarity,
    )


def near_duplicates(
    problems: Iterable[str], training_problems: Iterable[str], *, similarity: float = SIMILARITY
) -> list[Leak]:
    """Each distinct problem that training shares, with the training problem that is most like it. Raises `ValueError`
    for a similarity outside (0, 1]."""
    if not 0 < similarity <= 1:
        raise ValueError(f"the similarity must lie above 0 and at most at 1, not {similarity}")
    measured, training = _distinct(problems), _distinct(training_problems)
    found = [Leak(text, training[key], 1.0, True) for key, text in measured.items() if key in training]
    others = [text for key, text in measured.items() if key not in training]
    return found + _reworded(others, list(training.values()), similarity)


def _distinct(problems: Iterable[str]) -> dict[str, str]:
    return {problem_key(text): text for text in problems}


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    """The word triples of a text; a shorter text is one shingle, an empty one has none."""
    words = _WORD.findall(normalized_problem_text(text))
    if not words:
        return frozenset()
    return frozenset(tuple(words[at : at + SHINGLE]) for at in range(max(1, len(words) - SHINGLE + 1)))


def _reworded(measured: Sequence[str], training: Sequence[str], similarity: float) -> list[Leak]:
    sets, known = _ranked([measured, training])
    index: dict[int, list[int]] = {}
    for number, found in enumerate(known):
        for rank in _rarest(found, similarity):
            index.setdefault(rank, []).append(number)
    leaks = []
    for text, found in zip(measured, sets, strict=True):
        near = {number for rank in _rarest(found, similarity) for number in index.get(rank, ())}
        best, number = max(((_jaccard(found, known[number]), -number) for number in near), default=(0.0, 0))
        if best >= similarity:
            leaks.append(Leak(text, training[-number], best, False))
    return leaks


def _ranked(groups: Sequence[Sequence[str]]) -> list[list[frozenset[int]]]:
    """The shingles of each text as their ranks by frequency in all of them, the rarest first."""
    sets = [[shingles(text) for text in group] for group in groups]
    frequency = Counter(shingle for group in sets for found in group for shingle in found)
    ordered = sorted(frequency, key=lambda shingle: (frequency[shingle], shingle))
    rank = {shingle: number for number, shingle in enumerate(ordered)}
    return [[frozenset(map(rank.__getitem__, found)) for found in group] for group in sets]


def _rarest(found: frozenset[int], similarity: float) -> list[int]:
    """So many of the rarest that a set without any of them cannot be similar enough."""
    # A little less than the similarity, lest rounding ask for one shingle too many.
    prefix = len(found) - math.ceil((similarity - 1e-9) * len(found)) + 1
    return heapq.nsmallest(prefix, found) if found else []


def _jaccard(a: frozenset[int], b: frozenset[int]) -> float:
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
