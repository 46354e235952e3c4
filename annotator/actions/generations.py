"""Opening and closing labeling rounds. What is served is fixed here, with why; the request path only claims."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from annotator.actions.audit import record
from annotator.models import Campaign, Checkpoint, Generation, Problem, QueueItem, Solution, SolutionScore
from annotator.queries.pool import eligible_solutions


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """One solution to serve, and why."""

    solution_id: int
    arm: QueueItem.Arm
    strategy: str
    inclusion_probability: float
    score: float | None = None
    target_steps: tuple[int, ...] | None = None


def plan_stream(campaign: Campaign, arm: QueueItem.Arm, count: int) -> list[PlannedItem]:
    """Items that no model chose: the next ones by seeded draw, for the audit stream or the random arm. A simple random
    sample of what is eligible, so every inclusion probability is the same and exact."""
    split = Problem.SplitName.VALIDATION if arm == QueueItem.Arm.AUDIT else Problem.SplitName.TRAIN
    eligible = eligible_solutions(campaign, split)
    drawn = list(eligible.values_list("pk", flat=True)[:count])
    probability = len(drawn) / eligible.count() if drawn else 0.0
    return [PlannedItem(pk, arm, strategy="seeded draw", inclusion_probability=probability) for pk in drawn]


@transaction.atomic
def open_first_generation(campaign: Campaign) -> Generation:
    """Round 0, before any checkpoint has scored the pool: the audit stream and a random draw."""
    items = plan_stream(campaign, QueueItem.Arm.AUDIT, campaign.audit_per_generation)
    items += plan_stream(campaign, QueueItem.Arm.RANDOM, campaign.generation_size)
    return open_generation(campaign, items, checkpoint=None)


@transaction.atomic
def open_generation(campaign: Campaign, items: Sequence[PlannedItem], *, checkpoint: Checkpoint | None) -> Generation:
    """Close the open round and serve a new one. What nobody holds of the old round goes back to the pool; what is held
    or waits for further labelers stays in the queue."""
    campaign = Campaign.objects.get(pk=campaign.pk)  # the plan took its time, and settings may have changed
    last = campaign.generations.select_for_update().order_by("-number").first()
    if last and last.closed_at is None:
        last.closed_at = timezone.now()
        last.save(update_fields=["closed_at"])
        waiting = [QueueItem.Lane.REVIEW, QueueItem.Lane.HELD]
        untouched = QueueItem.objects.filter(campaign=campaign, retired=False, taken=0)
        untouched.exclude(lane__in=waiting).update(retired=True)
    generation = Generation.objects.create(
        campaign=campaign,
        number=last.number + 1 if last else 0,
        checkpoint=checkpoint,
        policy=campaign.selection_policy,
    )
    live = set(
        QueueItem.objects.filter(solution__in=[item.solution_id for item in items], retired=False).values_list(
            "solution_id", flat=True
        )
    )
    solutions = {
        solution.pk: solution
        for solution in Solution.objects.filter(
            pk__in=[item.solution_id for item in items], problem__is_held=False
        ).only("problem", "step_count")
    }
    mixed = sorted(
        (item for item in items if item.solution_id in solutions and item.solution_id not in live),
        key=lambda item: _place(generation, item.solution_id),
    )
    scores = dict(
        SolutionScore.objects.filter(
            checkpoint=checkpoint, solution__in=[item.solution_id for item in mixed]
        ).values_list("solution_id", "solution_score")
    )
    QueueItem.objects.bulk_create(
        QueueItem(
            campaign=campaign,
            generation=generation,
            solution_id=item.solution_id,
            problem_id=solutions[item.solution_id].problem_id,
            arm=item.arm,
            strategy=item.strategy,
            score=item.score,
            solution_score=scores.get(item.solution_id),
            inclusion_probability=item.inclusion_probability,
            target_steps=_targets(campaign, item, solutions[item.solution_id].step_count),
            rank=rank,
            place=QueueItem.place_of(generation.number, rank),
            wanted=campaign.labelings_wanted,
        )
        for rank, item in enumerate(mixed)
    )
    record(
        "open generation", campaign=campaign, actor=None, subject=f"generation {generation.number}", items=len(mixed)
    )
    return generation


def _targets(campaign: Campaign, item: PlannedItem, step_count: int) -> list[int] | None:
    """Targeted labeling: the steps that selection marked; else as many as the campaign asks, by seeded draw, so that
    the random arm stays a fair sample of all steps. The audit stream, which judges checkpoints, is judged whole."""
    if campaign.scope != Campaign.Scope.TARGETED or item.arm == QueueItem.Arm.AUDIT:
        return None
    if item.target_steps:
        return sorted(item.target_steps)
    drawn = random.Random(f"{campaign.slug}:{item.solution_id}")  # noqa: S311 - a seeded draw, no secret
    return sorted(drawn.sample(range(step_count), min(campaign.target_steps, step_count)))


def _place(generation: Generation, solution_id: int) -> str:
    """A seeded shuffle: the arms are mixed, so that a half-finished round is a fair sample of each."""
    return hashlib.sha256(f"{generation.campaign_id}:{generation.number}:{solution_id}".encode()).hexdigest()
