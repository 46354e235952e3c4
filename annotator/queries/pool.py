"""What may be selected. Reads of the whole pool: for workers and commands, never on the way to a labeler."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from annotator.models import Campaign, ImportRun, Labeling, Problem, QueueItem, Solution


def visible_solutions(campaign: Campaign) -> QuerySet[Solution]:
    return Solution.objects.filter(campaign=campaign, phase=2, import_run__state=ImportRun.State.DONE)


def eligible_solutions(campaign: Campaign, split: Problem.SplitName) -> QuerySet[Solution]:
    """Solutions that nobody has been asked about: not in a live queue item and not labeled, in the order of their
    seeded draw. Test problems are never served."""
    if split == Problem.SplitName.TEST:
        raise ValueError("test problems are never served")
    queued = QueueItem.objects.filter(solution=OuterRef("pk"), retired=False)
    labeled = Labeling.objects.filter(solution=OuterRef("pk")).exclude(state=Labeling.State.WITHDRAWN)
    return visible_solutions(campaign).filter(~Exists(queued), ~Exists(labeled), split=split).order_by("draw", "id")
