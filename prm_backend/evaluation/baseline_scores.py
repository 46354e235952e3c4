"""Scores that know nothing of the text: the majority class, position and length alone, and chance. Every figure of a
PRM stands beside what these are worth.

Labels that stop at the first error make position informative: the wrong step is always the last judged one. A model
that sees no word of the text can reach a step AUROC of 0.7 in this way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from prm_backend.errors import NotEnoughData
from prm_backend.evaluation.steps import Floats
from prm_backend.types import LabeledSolution, StepLabel, StepScores

RIDGE = 1.0
NEWTON_STEPS = 25


def majority_scores(train: Sequence[LabeledSolution], test: Sequence[LabeledSolution]) -> dict[str, StepScores]:
    """By solution key, a constant p(−): the share of bad steps in `train`."""
    judged = [label is StepLabel.BAD for labeled in train for label in labeled.labels if label is not None]
    rate = sum(judged) / len(judged) if judged else 0.0
    return {item.solution.key: _scores(np.full(len(item.labels), rate)) for item in test}


def random_scores(test: Sequence[LabeledSolution], *, seed: int = 0) -> dict[str, StepScores]:
    """By solution key, p(−) drawn evenly from [0, 1); each solution has a seed of its own, so order does not matter."""

    def drawn(item: LabeledSolution) -> Floats:
        digest = hashlib.sha256(f"{seed} {item.solution.key}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(len(item.labels))

    return {item.solution.key: _scores(drawn(item)) for item in test}


def position_scores(
    train: Sequence[LabeledSolution], test: Sequence[LabeledSolution] | None = None, *, folds: int = 5
) -> dict[str, StepScores]:
    """Step scores by solution key of a logistic regression on step index, relative position, length and number of
    steps, fitted on `train`. Without `test`, each solution of `train` is scored by a fit on other problems. Raises
    `NotEnoughData` where a fit would see one class only."""
    if test is not None:
        score = _fit(train)
        return {item.solution.key: score(item) for item in test}
    problems = sorted({item.solution.problem_key for item in train})
    fold_of = {problem: number % folds for number, problem in enumerate(problems)}
    scores: dict[str, StepScores] = {}
    for fold in range(min(folds, len(problems))):
        score = _fit([item for item in train if fold_of[item.solution.problem_key] != fold])
        scores |= {item.solution.key: score(item) for item in train if fold_of[item.solution.problem_key] == fold}
    return scores


def _fit(train: Sequence[LabeledSolution]) -> Callable[[LabeledSolution], StepScores]:
    """Ridge-penalised logistic regression by Newton's method; returns the function that scores a solution."""
    judged = [(item, np.array([label is not None for label in item.labels], bool)) for item in train]
    is_bad = np.array([label is StepLabel.BAD for item in train for label in item.labels if label is not None], float)
    if not 0 < is_bad.sum() < len(is_bad):
        raise NotEnoughData("the position baseline needs bad steps and others")
    rows = np.concatenate([_features(item)[mask] for item, mask in judged])
    weight = np.concatenate([np.full(mask.sum(), item.weight) for item, mask in judged])
    center, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    design = _with_intercept((rows - center) / scale)
    penalty = np.diag([0.0] + [RIDGE] * rows.shape[1])
    beta = np.zeros(design.shape[1])
    for _ in range(NEWTON_STEPS):
        p_bad = _sigmoid(design @ beta)
        gradient = design.T @ (weight * (p_bad - is_bad)) + penalty @ beta
        curvature = (design * (weight * p_bad * (1 - p_bad))[:, None]).T @ design + penalty
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(beta)), gradient)
        beta -= step
        if np.abs(step).max() < 1e-8:
            break
    return lambda item: _scores(_sigmoid(_with_intercept((_features(item) - center) / scale) @ beta))


def _features(item: LabeledSolution) -> Floats:
    """(steps, 4): index, relative position, log length in characters, number of steps."""
    steps = item.solution.steps
    index = np.arange(len(steps), dtype=float)
    length = np.log1p([len(step) for step in steps])
    return np.stack([index, index / max(1, len(steps) - 1), length, np.full(len(steps), float(len(steps)))], axis=1)


def _with_intercept(rows: Floats) -> Floats:
    return np.concatenate([np.ones((len(rows), 1)), rows], axis=1)


def _sigmoid(logits: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def _scores(p_bad: Floats) -> StepScores:
    """Scores that tell bad from the rest, and say nothing of neutral."""
    zeros = (0.0,) * len(p_bad)
    bad = tuple(p_bad.tolist())
    return StepScores(bad=bad, neutral=zeros, good=tuple(1 - p for p in bad), spread=zeros)
