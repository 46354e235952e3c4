"""The bridge between tables and the torch-bearing half of prm_backend: rows in, its dataclasses out. Tasks alone import
it, and it imports torch only when a function needs it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Prefetch, QuerySet

from annotator.actions.generations import PlannedItem
from annotator.actions.learning import record_scores
from annotator.models import (
    Campaign,
    Checkpoint,
    Completion,
    Job,
    Labeling,
    Problem,
    QueueItem,
    Rating,
    Solution,
    SolutionScore,
)
from annotator.queries.pool import eligible_solutions, ready_solutions, unscored_solutions
from prm_backend import types as prm
from prm_backend.errors import NotEnoughData
from prm_backend.policy import parse_policy
from prm_backend.types import ReportProgress, StepScores

# OpenMP's threads spin while they wait for each other. Where anything else wants the cores, that made training nine
# times slower and starved the web process; a short spin costs little either way (docs/experiments.md). Read by torch.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")

CALIBRATION_SAMPLE = 512  # solutions
SCORING_CHUNK = 500  # solutions between two short transactions

PATH = Prefetch("completions", Completion.objects.filter(completion_index=0).order_by("step_index"), to_attr="path")


def readable(solution: Solution) -> prm.Solution:
    """What a PRM reads of a row fetched with its problem and `PATH`."""
    path: list[Completion] = solution.path  # type: ignore[attr-defined]  # set by the prefetch
    return prm.Solution(
        key=str(solution.pk),
        problem_key=solution.problem.text_key,
        problem=solution.problem.text,
        steps=tuple(step.text for step in path[: solution.step_count]),
    )


def rows(solutions: QuerySet[Solution], *, chunk: int = 500) -> Iterator[Solution]:
    return solutions.select_related("problem").prefetch_related(PATH).iterator(chunk_size=chunk)


def pool_to_read(campaign: Campaign, *splits: Problem.SplitName) -> Iterator[prm.Solution]:
    solutions = ready_solutions(campaign).filter(split__in=splits).order_by("id")
    return (readable(solution) for solution in rows(solutions))


def labeled_solutions(labelings: QuerySet[Labeling]) -> list[prm.LabeledSolution]:
    """Labelings as training or evaluation data. n labelings of a solution weigh 1/n each; a step marked unsure, and
    every step that nobody judged, carries no label."""
    found = list(
        labelings.select_related("solution__problem").prefetch_related(
            Prefetch("ratings", Rating.objects.filter(completion__completion_index=0)),
            Prefetch("solution__completions", PATH.queryset, to_attr="path"),
        )
    )
    copies = Counter(labeling.solution_id for labeling in found)
    return [
        prm.LabeledSolution(
            solution=readable(labeling.solution),
            labels=_labels(labeling),
            weight=1 / copies[labeling.solution_id],
        )
        for labeling in found
    ]


def _labels(labeling: Labeling) -> tuple[prm.StepLabel | None, ...]:
    labels: list[prm.StepLabel | None] = [None] * labeling.solution.step_count
    for rating in labeling.ratings.all():
        if rating.not_bad:
            labels[rating.step_index] = prm.StepLabel.NOT_BAD
        elif rating.value is not None and not rating.flagged:
            labels[rating.step_index] = prm.LABEL_OF_RATING[rating.value]
    return tuple(labels)


def checkpoint_folder(job: Job, number: int) -> str:
    """Relative to the data folder. Every attempt has a folder of its own, so that a worker that was given up for dead
    cannot touch what its successor has written."""
    return f"checkpoints/{job.campaign.slug}/{number:04d}-{job.pk}.{job.attempt}"


def feature_cache(campaign: Campaign) -> Path:
    return Path(settings.DATA_DIR) / "cache" / campaign.slug


def make_backbone(campaign: Campaign, folder: str, progress: ReportProgress) -> dict[str, Any]:
    """Write the checkpoint before any label: the embedded model, pretrained on the training problems' solutions, or a
    given transformers model calibrated on a sample of them. Returns its metadata."""
    from prm_backend.checkpoints import load_metadata
    from prm_backend.pretraining import init_backbone, pretrain_embedded

    out = _place(folder)
    pool = pool_to_read(campaign, Problem.SplitName.TRAIN)
    if campaign.backbone == "embedded":
        pretrain_embedded(list(pool), out, steps=settings.PRETRAIN_STEPS, progress=progress)
    else:
        init_backbone(Path(campaign.backbone), out, solutions=list(islice(pool, CALIBRATION_SAMPLE)))
    return asdict(load_metadata(out))


def train(
    backbone: Checkpoint, labeled: Sequence[prm.LabeledSolution], folder: str, progress: ReportProgress
) -> dict[str, Any]:
    """Refit the heads on all labels and write the checkpoint. Returns its metadata; raises `NotEnoughData`."""
    from prm_backend.training import train_heads

    cache = feature_cache(backbone.campaign)
    return asdict(train_heads(backbone.path, labeled, _place(folder), cache_dir=cache, progress=progress))


def _place(folder: str) -> Path:
    out = Path(settings.DATA_DIR) / folder
    out.parent.mkdir(parents=True, exist_ok=True)
    return out


def scores_of(folder: Path, campaign: Campaign, solutions: Iterable[prm.Solution]) -> dict[str, StepScores]:
    """The scores of a checkpoint folder, by solution key."""
    from prm_backend.scoring import Scorer

    return dict(Scorer.load(folder, cache_dir=feature_cache(campaign)).score(solutions))


def score_pool(checkpoint: Checkpoint) -> Iterator[tuple[int, int]]:
    """Score what this checkpoint has not scored yet, writing chunk by chunk; yields how many are done, of how many."""
    from prm_backend.scoring import Scorer

    pending = unscored_solutions(checkpoint)
    total, done, last = pending.count(), 0, 0
    yield done, total
    scorer = Scorer.load(checkpoint.path, cache_dir=feature_cache(checkpoint.campaign))
    while chunk := list(rows(pending.filter(pk__gt=last).order_by("id")[:SCORING_CHUNK])):
        by_key = {str(solution.pk): solution for solution in chunk}
        scores = scorer.score(readable(solution) for solution in chunk)
        record_scores(checkpoint, [(by_key[key], steps) for key, steps in scores])
        last, done = chunk[-1].pk, done + len(chunk)
        yield done, total


def select_active(
    campaign: Campaign, checkpoint: Checkpoint, count: int, *, without: set[int], seed: int
) -> list[PlannedItem]:
    """What the checkpoint asks for: the campaign's strategies over the scores of the eligible training pool, beside
    the solutions of the random arm, which count for the limit for each problem."""
    import numpy as np

    from prm_backend.selection import Candidates
    from prm_backend.selection import select_active as select

    eligible = list(eligible_solutions(campaign, Problem.SplitName.TRAIN).select_related("problem"))
    scored = {
        row.solution_id: row
        for row in SolutionScore.objects.filter(checkpoint=checkpoint, solution__split=Problem.SplitName.TRAIN)
    }
    candidates = Candidates.pack(
        keys=[str(solution.pk) for solution in eligible],
        problem_keys=[solution.problem.text_key for solution in eligible],
        scores=[step_scores(scored.get(solution.pk)) for solution in eligible],
        final_answer_correct=[solution.answer_correct for solution in eligible],
    )
    picks = select(
        candidates,
        parse_policy(campaign.selection_policy),
        count,
        np.random.default_rng(seed),
        taken=[str(pk) for pk in without],
    )
    return [
        PlannedItem(
            solution_id=int(pick.key),
            arm=QueueItem.Arm.ACTIVE,
            strategy=pick.strategy,
            inclusion_probability=pick.inclusion_probability,
            score=pick.score,
            target_steps=_target_steps(campaign, step_scores(scored.get(int(pick.key)))),
        )
        for pick in picks
    ]


def _target_steps(campaign: Campaign, scores: StepScores | None) -> tuple[int, ...] | None:
    """Targeted labeling: the steps of which the checkpoint is least sure, as far as they are likely to be reached."""
    if campaign.scope != Campaign.Scope.TARGETED or scores is None:
        return None
    from prm_backend.selection import most_uncertain_steps

    return most_uncertain_steps(scores, campaign.target_steps)


def step_scores(row: SolutionScore | None) -> StepScores | None:
    if row is None:
        return None
    bad, neutral, good, spread = zip(*row.steps, strict=True)
    return StepScores(bad=bad, neutral=neutral, good=good, spread=spread)


def judge_candidate(
    folder: str,
    backbone: Checkpoint,
    labeled: Sequence[prm.LabeledSolution],
    audit: Sequence[prm.LabeledSolution],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measure a candidate on the audit labels, its baselines beside it, and compare it with the checkpoint in service.

    Returns (metrics, gate) as the `Checkpoint` row keeps them. The threshold of F1 comes from the training labelings;
    where too little is judged, figures are None.
    """
    from prm_backend.evaluation import compare

    campaign = backbone.campaign
    current = campaign.checkpoint or backbone
    candidate_path = Path(settings.DATA_DIR) / folder
    read = [item.solution for item in [*audit, *labeled]]
    scores = {
        "candidate": scores_of(candidate_path, campaign, read),
        "current": scores_of(current.path, campaign, read),
        "surprisal": scores_of(backbone.path, campaign, read),
    }
    figures = {name: _figures(found, labeled, audit) for name, found in scores.items()}
    comparison = compare(audit, scores["candidate"], scores["current"])
    metrics = {
        "candidate": figures["candidate"],
        "current": figures["current"],
        "baselines": {"surprisal": figures["surprisal"]} | simple_baselines(labeled, audit),
        "threshold_source": "training labelings",
    }
    gate = {
        "verdict": str(comparison.verdict),
        "difference": comparison.difference,
        "lower": comparison.lower,
        "upper": comparison.upper,
        "against": current.number,
        "audit_solutions": len({item.solution.key for item in audit}),
        "bad_steps": sum(label is prm.StepLabel.BAD for item in audit for label in item.labels),
    }
    return metrics, gate


def measure(
    checkpoint: Checkpoint, labeled: Sequence[prm.LabeledSolution], test: Sequence[prm.LabeledSolution]
) -> dict[str, Any] | None:
    """A checkpoint's figures on `test`, with the threshold of F1 from `labeled`."""
    read = [item.solution for item in [*test, *labeled]]
    return _figures(scores_of(checkpoint.path, checkpoint.campaign, read), labeled, test)


def _figures(
    scores: Mapping[str, StepScores],
    labeled: Sequence[prm.LabeledSolution],
    audit: Sequence[prm.LabeledSolution],
) -> dict[str, Any] | None:
    from prm_backend.evaluation import best_threshold, evaluate

    try:
        threshold = best_threshold([(item, scores[item.solution.key]) for item in labeled])
    except NotEnoughData:
        threshold = None
    try:
        return evaluate([(item, scores[item.solution.key]) for item in audit], threshold=threshold).as_dict()
    except NotEnoughData:
        return None


def simple_baselines(
    labeled: Sequence[prm.LabeledSolution], audit: Sequence[prm.LabeledSolution]
) -> dict[str, dict[str, Any] | None]:
    """What a PRM has to beat without reading a word: fitted on `labeled`, measured on `audit`."""
    from prm_backend.baselines import majority_baseline, position_baseline

    figures: dict[str, dict[str, Any] | None] = {}
    for name, measure in (("majority", majority_baseline), ("position", position_baseline)):
        try:
            figures[name] = measure(labeled, audit).as_dict()
        except NotEnoughData:
            figures[name] = None
    return figures
