"""Judged solutions in one line each, and generated ones with errors of their own."""

from __future__ import annotations

import random
from collections.abc import Sequence

from prm_backend.evaluation import Scored
from prm_backend.types import LabeledSolution, Solution, StepLabel, StepScores

B, N, G, OK = StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.GOOD, StepLabel.NOT_BAD
Labels = Sequence[StepLabel | None]
Triple = tuple[float, float, float]


def two_way(*p_bad: float) -> StepScores:
    zeros = (0.0,) * len(p_bad)
    return StepScores(p_bad, zeros, tuple(1 - p for p in p_bad), zeros)


def three_way(*steps: Triple) -> StepScores:
    bad, neutral, good = zip(*steps, strict=True)
    return StepScores(bad, neutral, good, (0.0,) * len(steps))


def labeled(
    labels: Labels, key: str = "s", problem: str | None = None, *, text: str | None = None, weight: float = 1.0
) -> LabeledSolution:
    steps = tuple(f"step {index}" for index in range(len(labels)))
    return LabeledSolution(Solution(key, problem or key, text or problem or key, steps), tuple(labels), weight)


def scored(*rows: tuple[Labels, Sequence[float]]) -> list[Scored]:
    return [(labeled(labels, f"s{number}"), two_way(*p_bad)) for number, (labels, p_bad) in enumerate(rows)]


def first_error_labels(steps: int, bad_at: int | None) -> list[StepLabel | None]:
    if bad_at is None:
        return [OK] * steps
    return [OK] * bad_at + [B] + [None] * (steps - bad_at - 1)


def campaign(seed: int, solutions: int = 120, *, name: str = "p") -> list[LabeledSolution]:
    """Two solutions of each problem, half of them with an error somewhere; problem texts have no three words in
    common."""
    rng = random.Random(f"{seed} {name}")
    items = []
    for number in range(solutions):
        steps = rng.randint(2, 6)
        labels = first_error_labels(steps, rng.randrange(steps) if rng.random() < 0.5 else None)
        problem = f"{name}{seed}-{number // 2}"
        words = random.Random(problem)
        text = " ".join("".join(words.choices("abcdefghij", k=6)) for _ in range(8))
        items.append(labeled(labels, f"{name}{seed}-s{number}", problem, text=text))
    return items


def knowing(items: Sequence[LabeledSolution], noise: float, seed: int = 0) -> dict[str, StepScores]:
    """Scores that know the labels up to some noise, by solution key."""
    rng = random.Random(seed)
    return {
        item.solution.key: two_way(
            *(min(1.0, max(0.0, (0.7 if label is B else 0.2) + rng.gauss(0, noise))) for label in item.labels)
        )
        for item in items
    }
