"""What workers write back: scores, checkpoints and the gate's decision; and the requests that start them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from annotator.actions.audit import record
from annotator.dispatch import enqueue
from annotator.errors import Conflict
from annotator.models import Campaign, Checkpoint, Job, Solution, SolutionScore, User
from annotator.queries.pool import unscored_solutions
from prm_backend.types import StepScores, solution_score


def request_scoring(campaign: Campaign, *, actor: User | None) -> Job:
    """Score the pool with the checkpoint in service, or pretrain the first one. Raises `Conflict` if under way."""
    return enqueue(Job.Kind.SCORE if campaign.checkpoint_id else Job.Kind.PRETRAIN, campaign, actor=actor)


def request_retrain(campaign: Campaign, *, actor: User | None) -> Job:
    """Train a candidate on all labels so far and put it through the gate."""
    if campaign.checkpoint_id is None:
        raise Conflict("no_backbone", "The first checkpoint is not ready yet: it is being pretrained on the pool.")
    return enqueue(Job.Kind.RETRAIN, campaign, actor=actor)


def next_checkpoint_number(campaign: Campaign) -> int:
    last = Checkpoint.objects.filter(campaign=campaign).aggregate(last=Max("number"))["last"]
    return 0 if last is None else last + 1


@transaction.atomic
def record_scores(checkpoint: Checkpoint, scored: Sequence[tuple[Solution, StepScores]]) -> None:
    """Store what a checkpoint says of some solutions; what is stored already stays (a redelivered task changes
    nothing)."""
    SolutionScore.objects.bulk_create(
        [
            SolutionScore(
                checkpoint=checkpoint,
                solution=solution,
                steps=[
                    [round(value, 5) for value in step]
                    for step in zip(scores.bad, scores.neutral, scores.good, scores.spread, strict=True)
                ],
                solution_score=solution_score(scores),
            )
            for solution, scores in scored
        ],
        ignore_conflicts=True,
    )


@transaction.atomic
def mark_pool_scored(checkpoint: Checkpoint) -> None:
    """The pool has its scores, unless solutions came in meanwhile: those are left to the next scoring."""
    locked = Checkpoint.objects.select_for_update().get(pk=checkpoint.pk)
    if not unscored_solutions(locked).exists():
        locked.pool_scored_at = timezone.now()
        locked.save(update_fields=["pool_scored_at"])


@transaction.atomic
def register_checkpoint(
    campaign: Campaign,
    *,
    kind: Checkpoint.Kind,
    number: int,
    folder: str,
    metadata: dict[str, Any],
    parent: Checkpoint | None = None,
    labelings: int = 0,
    judged_steps: int = 0,
) -> Checkpoint:
    """The row of a checkpoint whose folder is complete."""
    checkpoint = Checkpoint.objects.create(
        campaign=campaign,
        kind=kind,
        number=number,
        folder=folder,
        metadata=metadata,
        parent=parent,
        labelings=labelings,
        judged_steps=judged_steps,
    )
    record("write checkpoint", campaign=campaign, actor=None, subject=f"checkpoint {number}", kind=kind)
    return checkpoint


@transaction.atomic
def promote(checkpoint: Checkpoint, *, actor: User | None = None) -> None:
    """Put a checkpoint into service."""
    checkpoint.state = Checkpoint.State.PROMOTED
    checkpoint.save(update_fields=["state"])
    Campaign.objects.filter(pk=checkpoint.campaign_id).update(checkpoint=checkpoint)
    record("promote", campaign=checkpoint.campaign, actor=actor, subject=f"checkpoint {checkpoint.number}")


@transaction.atomic
def pass_gate(checkpoint: Checkpoint, *, metrics: dict[str, Any], gate: dict[str, Any]) -> bool:
    """Write the gate's figures down and do what the campaign's policy makes of the verdict. True when promoted."""
    promoted = is_good_enough(gate, checkpoint.campaign.gate_policy)
    checkpoint.metrics = metrics
    checkpoint.gate = gate | {"decision": "promoted" if promoted else "rejected"}
    checkpoint.save(update_fields=["metrics", "gate"])
    if promoted:
        promote(checkpoint)
    else:
        checkpoint.state = Checkpoint.State.REJECTED
        checkpoint.save(update_fields=["state"])
        record("reject", campaign=checkpoint.campaign, actor=None, subject=f"checkpoint {checkpoint.number}")
    return promoted


def is_good_enough(gate: dict[str, Any], policy: str) -> bool:
    """The three policies, from strict to trusting. `unless_worse` promotes while the interval of the difference does
    not lie wholly below zero; with too little evidence for an interval it looks at the difference itself, and without
    any it promotes nothing."""
    if policy == Campaign.GatePolicy.BETTER:
        return bool(gate["verdict"] == "better")
    if policy == Campaign.GatePolicy.NOT_WORSE:
        return gate["verdict"] in ("better", "not_worse")
    if gate["verdict"] == "not_enough_evidence":
        return gate["difference"] is not None and gate["difference"] >= 0
    return bool(gate["upper"] >= 0)
