from __future__ import annotations

from typing import Any

from django.db.models import Exists, F, OuterRef

from annotator.models import Assignment, Campaign, Generation, QueueItem
from annotator.queries.labelings import submitted_labelings
from annotator.queries.pool import visible_solutions


def campaign_totals(campaign: Campaign) -> dict[str, Any]:
    """The few numbers that say how far a campaign is."""
    generation = Generation.objects.filter(campaign=campaign, closed_at=None).first()
    items = QueueItem.objects.filter(generation=generation)
    held = Assignment.objects.filter(item=OuterRef("pk"), state=Assignment.State.ACTIVE)
    return {
        "status": campaign.status,
        "generation": generation.number if generation else None,
        "checkpoint": campaign.checkpoint.number if campaign.checkpoint else None,
        "items": items.count(),
        "items_done": items.filter(~Exists(held), taken__gte=F("wanted")).count(),
        "labelings": submitted_labelings(campaign).count(),
        "solutions": visible_solutions(campaign).count(),
    }
