"""What may be selected. Reads of the whole pool: for workers and commands, never on the way to a labeler."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from annotator.models import (
    Assignment,
    Campaign,
    Checkpoint,
    ImportRun,
    Labeling,
    Membership,
    Problem,
    QueueItem,
    Solution,
    SolutionScore,
)
from prm_backend.types import FinishReason

M = TypeVar("M", bound=Model)


def visible_solutions(campaign: Campaign) -> QuerySet[Solution]:
    """What can be labeled here: imported and of the campaign's phase. Imported labelings of the other phase keep their
    solutions, which nobody is served."""
    return _imported(campaign).filter(phase=campaign.phase)


def ready_solutions(campaign: Campaign) -> QuerySet[Solution]:
    """What a PRM can read: whole solutions, which phase 1 has none of before it is labeled."""
    return _imported(campaign).filter(phase=Campaign.Phase.JUDGE, step_count__gt=0)


def _imported(campaign: Campaign) -> QuerySet[Solution]:
    return Solution.objects.filter(campaign=campaign, import_run__state=ImportRun.State.DONE)


def for_somebody(rows: QuerySet[M], campaign: Campaign, solution: str) -> QuerySet[M]:
    """The rows whose solution (the column `solution`) at least one active labeler may still be asked about. All of them
    while there are no labelers yet."""
    labelers = campaign.memberships.filter(role=Membership.Role.LABELER, state=Membership.State.ACTIVE)
    if not labelers.exists():
        return rows
    had = Assignment.objects.exclude(state__in=Assignment.RESUMABLE).filter(
        membership=OuterRef("pk"), solution=OuterRef(OuterRef(solution))
    )
    return rows.filter(Exists(labelers.filter(~Exists(had))))


def eligible_solutions(campaign: Campaign, split: Problem.SplitName) -> QuerySet[Solution]:
    """Solutions that may be served: nobody holds them and nobody has judged them, in the order of their seeded draw.
    What lies untouched in the queue counts, since a release takes it back; so does what was skipped or given up.
    What every labeler has had, and skipped or given up, waits until somebody new comes.
    Imported labelings keep a solution out of training, but the audit stream is people's work of its own; in phase 1
    they keep it out altogether, since its tree is one labeler's. Problems that were reported as bad wait for a manager,
    and test problems are never served."""
    if split == Problem.SplitName.TEST:
        raise ValueError("test problems are never served")
    waiting = Q(lane__in=[QueueItem.Lane.REVIEW, QueueItem.Lane.HELD])
    taken = QueueItem.objects.filter(Q(taken__gt=0) | waiting, solution=OuterRef("pk"), retired=False)
    submitted = Labeling.objects.filter(solution=OuterRef("pk"), state=Labeling.State.SUBMITTED)
    judged = submitted.exclude(finish_reason=FinishReason.GIVE_UP)
    if campaign.phase == Campaign.Phase.CHOOSE:
        judged = submitted.exclude(import_run=None, finish_reason=FinishReason.GIVE_UP)
    elif split == Problem.SplitName.VALIDATION:
        judged = judged.filter(import_run=None)
    free = visible_solutions(campaign).filter(~Exists(taken), ~Exists(judged), split=split, problem__is_held=False)
    return for_somebody(free, campaign, "pk").order_by("draw", "id")


def unscored_solutions(checkpoint: Checkpoint) -> QuerySet[Solution]:
    """What this checkpoint has still to score. Test problems are left out: nothing is ever selected from them."""
    scored = SolutionScore.objects.filter(checkpoint=checkpoint, solution=OuterRef("pk"))
    splits = (Problem.SplitName.TRAIN, Problem.SplitName.VALIDATION)
    return ready_solutions(checkpoint.campaign).filter(~Exists(scored), split__in=splits)
