"""What a campaign needs next. Asked after every job and by the reconciler, so the loop goes on after a crash at any
line: the answer depends on the tables alone, and asking twice starts nothing twice."""

from __future__ import annotations

from contextlib import suppress

from django.db.models import F

from annotator.dispatch import enqueue
from annotator.errors import Conflict
from annotator.models import Campaign, Checkpoint, Generation, Job, Problem, QueueItem
from annotator.queries.labelings import training_labelings
from annotator.queries.pool import eligible_solutions, for_somebody


def advance(campaign: Campaign) -> Job | None:
    """Enqueue the next job of an active campaign, if there is one and nothing of its kind is under way. A kind whose
    last job failed or was cancelled waits for a person."""
    campaign.refresh_from_db()
    if campaign.status != Campaign.Status.ACTIVE:
        return None
    kind = next_kind(campaign)
    if kind is None or _stopped(campaign, kind):
        return None
    with suppress(Conflict):
        return enqueue(kind, campaign)
    return None


def next_kind(campaign: Campaign) -> Job.Kind | None:
    if queue_is_exhausted(campaign):
        return Job.Kind.RELEASE
    if campaign.phase == Campaign.Phase.CHOOSE:
        return None  # the PRM reads ready solutions
    if campaign.checkpoint is None:
        return Job.Kind.PRETRAIN
    if campaign.checkpoint.pool_scored_at is None:
        return Job.Kind.SCORE
    if release_is_due(campaign):
        return Job.Kind.RELEASE
    if new_labelings(campaign) >= campaign.retrain_after:
        return Job.Kind.RETRAIN
    return None


def queue_is_exhausted(campaign: Campaign) -> bool:
    """Nothing is left that anybody may claim, but the pool has more: people do not wait for a retrain. What all of them
    have skipped, or what waits for a reviewer or a manager, holds nobody up."""
    lanes = [QueueItem.Lane.MAIN, QueueItem.Lane.RETURNED]
    open_items = QueueItem.objects.filter(campaign=campaign, retired=False, taken__lt=F("wanted"), lane__in=lanes)
    left = for_somebody(open_items, campaign, "solution").exists()
    return not left and eligible_solutions(campaign, Problem.SplitName.TRAIN).exists()


def release_is_due(campaign: Campaign) -> bool:
    """A checkpoint has passed through the gate, either way, since the open generation was released."""
    generation = Generation.objects.filter(campaign=campaign, closed_at=None).first()
    if generation is None:
        return False
    gated = (Checkpoint.State.PROMOTED, Checkpoint.State.REJECTED)
    return Checkpoint.objects.filter(
        campaign=campaign, kind=Checkpoint.Kind.HEADS, state__in=gated, created_at__gt=generation.opened_at
    ).exists()


def new_labelings(campaign: Campaign) -> int:
    """Training labelings since the last retrain."""
    last = Job.objects.filter(campaign=campaign, kind=Job.Kind.RETRAIN, state=Job.State.DONE).first()
    return training_labelings(campaign).count() - (last.result.get("labelings", 0) if last else 0)


def _stopped(campaign: Campaign, kind: Job.Kind) -> bool:
    last = Job.objects.filter(campaign=campaign, kind=kind).first()
    return last is not None and last.state in (Job.State.FAILED, Job.State.CANCELLED)
