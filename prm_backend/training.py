"""Heads refitted from zero on all labels, in seconds: penalised logistic regression on frozen step features.

The logit of p(−) starts from surprisal, and everything else the heads may read is shrunk towards nothing. How far is
chosen by cross-validation over problems, with "surprisal alone" among the choices; so with few labels the heads keep
the ranking of the cold start and leave it only where labels say so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prm_backend.checkpoints import BACKBONE, CheckpointMetadata, content_hash, load_checkpoint, write_checkpoint
from prm_backend.errors import NotEnoughData
from prm_backend.features import FeatureReader
from prm_backend.model import EXCESS, SCALARS, Array, StepHeads, sigmoid
from prm_backend.types import LabeledSolution, Progress, ReportProgress, StepLabel, ignore_progress

Floats = NDArray[np.float64]

FOLDS = 5
PENALTIES = (1e4, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
PRIOR_STRENGTH = 2.0
# With fewer steps of a kind, folds can agree on a chance pattern: the heads then stay with surprisal.
FEWEST_STEPS = 8
HIDDEN_SCALE = 0.3
COMPONENTS = 128
NEWTON_STEPS = 30


@dataclass(frozen=True)
class JudgedSteps:
    """The judged steps of many solutions. `label` is 1 where the question of a head is answered yes."""

    features: Floats  # (n, d)
    label: Floats  # (n,)
    weight: Floats  # (n,)
    problem: NDArray[np.int64]  # (n,)

    def where(self, mask: NDArray[np.bool_]) -> JudgedSteps:
        return JudgedSteps(self.features[mask], self.label[mask], self.weight[mask], self.problem[mask])


@dataclass(frozen=True)
class Basis:
    """Standardised features turned to their principal axes: fitting in them equals fitting in the features (a penalty
    does not see a rotation), with as many unknowns as there are steps at most."""

    mean: Floats  # (d,)
    axes: Floats  # (d, r)

    @classmethod
    def of(cls, features: Floats) -> Basis:
        mean, spread = features.mean(axis=0), features.std(axis=0)
        scale = np.where(spread > 1e-6, 1.0 / np.maximum(spread, 1e-6), 0.0)
        hidden = features.shape[1] - len(SCALARS)
        scale[len(SCALARS) :] *= HIDDEN_SCALE * np.sqrt(len(SCALARS) / max(hidden, 1)) * 8
        rotation = np.linalg.svd((features - mean) * scale, full_matrices=False)[2][:COMPONENTS]
        return cls(mean, scale[:, None] * rotation.T)

    def coordinates(self, features: Floats) -> Floats:
        return (features - self.mean) @ self.axes


@dataclass(frozen=True)
class LogisticFit:
    """logit = intercept + slope · prior logit + coordinates · weights"""

    intercept: float
    slope: float
    weights: Floats  # (r,)

    def logits(self, prior: Floats, coordinates: Floats) -> Floats:
        return self.intercept + self.slope * prior + coordinates @ self.weights

    def folded(self, basis: Basis, prior: Array) -> tuple[Array, float]:
        """The same function of the raw features: weight (d,) and bias."""
        weight = basis.axes @ self.weights
        bias = self.intercept - float(basis.mean @ weight) + self.slope * float(prior[1])
        weight[EXCESS] += self.slope * float(prior[0])
        return weight.astype(np.float32), bias


def fit_logistic(
    coordinates: Floats,
    prior: Floats,
    label: Floats,
    weight: Floats,
    penalty: float,
    start: LogisticFit | None = None,
) -> LogisticFit:
    """Newton's method on the penalised log-likelihood, from `start`. The slope is drawn to 1 and the intercept, weakly,
    to 0; `penalty` infinite leaves the coordinates out."""
    count = coordinates.shape[1] if np.isfinite(penalty) else 0
    design = np.hstack([np.ones((len(label), 1)), prior[:, None], coordinates[:, :count]])
    strength = np.concatenate([[0.1, PRIOR_STRENGTH], np.full(count, penalty)])
    centre = np.concatenate([[0.0, 1.0], np.zeros(count)])
    theta = centre.copy()
    if start is not None:
        theta = np.concatenate([[start.intercept, start.slope], start.weights[:count]])
    for _ in range(NEWTON_STEPS):
        probability = sigmoid(design @ theta)
        gradient = design.T @ (weight * (probability - label)) + strength * (theta - centre)
        curvature = (design.T * (weight * np.maximum(probability * (1 - probability), 1e-6))) @ design
        step = np.linalg.solve(curvature + np.diag(strength), gradient)
        step *= min(1.0, 5.0 / max(float(np.abs(design @ step).max()), 1e-9))
        theta -= step
        if np.abs(step).max() < 1e-4:
            break
    weights = np.zeros(coordinates.shape[1])
    weights[:count] = theta[2:]
    return LogisticFit(float(theta[0]), float(theta[1]), weights)


def choose_penalty(coordinates: Floats, prior: Floats, steps: JudgedSteps, *, seed: int) -> float:
    """The strongest penalty whose held-out log-loss, over folds of problems, is within one standard error of the
    lowest (the rule of Breiman et al., "Classification and Regression Trees", 1984); infinite where the labels do not
    show that there is anything to gain."""
    problems, problem = np.unique(steps.problem, return_inverse=True)
    folds = min(FOLDS, len(problems))
    positive = int(steps.label.sum())
    if folds < 2 or min(positive, len(steps.label) - positive) < FEWEST_STEPS:
        return np.inf
    fold = np.random.default_rng(seed).permutation(np.arange(len(problems)) % folds)[problem]
    penalties = (np.inf, *PENALTIES)
    losses = np.zeros((len(penalties), len(problems)))
    for held_out in range(folds):
        fit, test = fold != held_out, fold == held_out
        model = None
        for row, penalty in enumerate(penalties):
            model = fit_logistic(coordinates[fit], prior[fit], steps.label[fit], steps.weight[fit], penalty, model)
            signed = np.where(steps.label[test] > 0, -1.0, 1.0) * model.logits(prior[test], coordinates[test])
            np.add.at(losses[row], problem[test], steps.weight[test] * np.logaddexp(0.0, signed))
    excess = losses - losses[losses.sum(axis=1).argmin()]
    error = excess.std(axis=1) * np.sqrt(len(problems))
    return penalties[int(np.argmax(excess.sum(axis=1) <= error))]


def fit_ensemble(steps: JudgedSteps, prior_of_surprisal: Array, *, heads: int, seed: int) -> tuple[Array, Array, float]:
    """Weights (H, d), biases (H,) and the chosen penalty, one head for each bootstrap sample of the problems."""
    basis = Basis.of(steps.features)
    coordinates = basis.coordinates(steps.features)
    prior = prior_of_surprisal[0] * steps.features[:, EXCESS] + prior_of_surprisal[1]
    penalty = choose_penalty(coordinates, prior, steps, seed=seed)
    rng = np.random.default_rng(seed)
    problems, problem = np.unique(steps.problem, return_inverse=True)
    full = fit_logistic(coordinates, prior, steps.label, steps.weight, penalty)
    weights, biases = [], []
    for _ in range(heads):
        drawn = np.bincount(rng.integers(len(problems), size=len(problems)), minlength=len(problems))
        fit = fit_logistic(coordinates, prior, steps.label, steps.weight * drawn[problem], penalty, full)
        weight, bias = fit.folded(basis, prior_of_surprisal)
        weights.append(weight)
        biases.append(bias)
    return np.stack(weights), np.array(biases, np.float32), penalty


def judged_steps(labeled: Sequence[LabeledSolution], features: Sequence[Array]) -> tuple[JudgedSteps, JudgedSteps]:
    """The steps for the two questions: "bad or not" (all judged ones) and "neutral or good" (those said to be one)."""
    rows: list[Array] = []
    labels: list[StepLabel] = []
    weights: list[float] = []
    problems: list[int] = []
    numbers: dict[str, int] = {}
    for solution, array in zip(labeled, features, strict=True):
        number = numbers.setdefault(solution.solution.problem_key, len(numbers))
        for row, label in zip(array, solution.labels, strict=True):
            if label is not None:
                rows.append(row)
                labels.append(label)
                weights.append(solution.weight)
                problems.append(number)
    table = np.stack(rows).astype(np.float64)

    def asked(yes: StepLabel) -> JudgedSteps:
        answers = np.array([label is yes for label in labels], dtype=np.float64)
        return JudgedSteps(table, answers, np.array(weights), np.array(problems))

    said = np.array([label in (StepLabel.NEUTRAL, StepLabel.GOOD) for label in labels])
    return asked(StepLabel.BAD), asked(StepLabel.NEUTRAL).where(said)


def fit_heads(
    labeled: Sequence[LabeledSolution], features: Sequence[Array], start: StepHeads, *, heads: int, seed: int
) -> tuple[StepHeads, dict[str, Any]]:
    """New heads and the penalties chosen for them; of `start` only the prior is used, and its neutral question where no
    label answers that."""
    bad, neutral = judged_steps(labeled, features)
    bad_weight, bad_bias, bad_penalty = fit_ensemble(bad, start.prior, heads=heads, seed=seed)
    fitted = StepHeads(
        bad_weight=bad_weight,
        bad_bias=bad_bias,
        neutral_weight=np.zeros_like(bad_weight),
        neutral_bias=np.full(heads, start.neutral_bias.mean(), np.float32),
        prior=start.prior,
    )
    penalties = {"bad_penalty": str(bad_penalty)}
    if len(neutral.label):
        flat = np.array([0.0, 0.0], np.float32)
        weight, bias, penalty = fit_ensemble(neutral, flat, heads=heads, seed=seed)
        fitted = replace(fitted, neutral_weight=weight, neutral_bias=bias)
        penalties["neutral_penalty"] = str(penalty)
    return fitted, penalties


def train_heads(
    parent: Path,
    labeled: Sequence[LabeledSolution],
    out: Path,
    *,
    cache_dir: Path | None = None,
    heads: int = 8,
    seed: int = 0,
    progress: ReportProgress = ignore_progress,
) -> CheckpointMetadata:
    """Refit the step heads of `parent` on `labeled` and write the result as a checkpoint of its own.

    Steps without a label take no part; `NOT_BAD` trains as p(0) + p(+) together. Raises `NotEnoughData` when the labels
    hold no bad step or nothing else, `CheckpointError` when `parent` does not load or `out` exists.
    """
    labels = [label for solution in labeled for label in solution.labels if label is not None]
    bad = sum(label is StepLabel.BAD for label in labels)
    if bad == 0 or bad == len(labels):
        raise NotEnoughData(
            f"training needs bad steps and steps that are not bad; the labels hold {bad} bad of {len(labels)} judged"
        )
    started = time.monotonic()
    checkpoint = load_checkpoint(parent)
    reader = FeatureReader(checkpoint, cache_dir)
    features: list[Array] = []
    for _, array in reader.read(solution.solution for solution in labeled):
        features.append(array)
        progress(Progress(len(features), len(labeled) + 1, "reading labeled solutions"))
    fitted, penalties = fit_heads(labeled, features, checkpoint.heads, heads=heads, seed=seed)
    progress(Progress(len(labeled) + 1, len(labeled) + 1, "heads fitted"))
    return write_checkpoint(
        out,
        kind="heads",
        backbone=parent / BACKBONE,
        adapter=checkpoint.metadata.adapter,
        heads=fitted,
        data_hash=content_hash(
            [[s.solution.problem, *s.solution.steps, *map(str, s.labels), s.weight] for s in labeled]
        ),
        parent=checkpoint.metadata.digest,
        recipe={"heads": heads, "seed": seed, **penalties},
        metrics={
            "solutions": len(labeled),
            "judged_steps": len(labels),
            "bad_steps": bad,
            "seconds": round(time.monotonic() - started, 3),
        },
    )
