"""Which labelings count for what. Written down once, tested once (docs/manager.md says it in words)."""

from __future__ import annotations

from django.db.models import Q, QuerySet

from annotator.models import Campaign, ImportRun, Labeling, Problem, QueueItem
from prm_backend.types import FinishReason

VISIBLE = Q(import_run=None) | Q(import_run__state=ImportRun.State.DONE)
JUDGED = (FinishReason.FOUND_ERROR, FinishReason.SOLUTION)


def submitted_labelings(campaign: Campaign) -> QuerySet[Labeling]:
    """All that was said and counts, people's and imported, in the order it was written down."""
    return Labeling.objects.filter(VISIBLE, campaign=campaign, state=Labeling.State.SUBMITTED).order_by("id")


def training_labelings(campaign: Campaign) -> QuerySet[Labeling]:
    """What trains: judged solutions of training problems, imported ones that were judged half way too. Left out: the
    audit stream, screening and quality control, bad problems, give-ups, surplus and withdrawn labelings."""
    return submitted_labelings(campaign).filter(
        solution__split=Problem.SplitName.TRAIN,
        solution__phase=2,
        finish_reason__in=[*JUDGED, ""],
        is_quality_control=False,
        is_initial_screening=False,
    )


def audit_labelings(campaign: Campaign) -> QuerySet[Labeling]:
    """What judges a checkpoint: people's labelings of the audit stream, never imported ones."""
    return submitted_labelings(campaign).filter(
        assignment__item__arm=QueueItem.Arm.AUDIT,
        solution__split=Problem.SplitName.VALIDATION,
        finish_reason__in=JUDGED,
    )
