from __future__ import annotations

from typing import Any

from django.db.models import Count, F, Q

from annotator.models import Campaign, Generation, QueueItem
from annotator.queries.labelings import submitted_labelings
from annotator.queries.pool import visible_solutions


def campaign_totals(campaign: Campaign) -> dict[str, Any]:
    """The few numbers that say how far a campaign is."""
    generation = Generation.objects.filter(campaign=campaign, closed_at=None).first()
    counts = QueueItem.objects.filter(generation=generation).aggregate(
        items=Count("pk"), done=Count("pk", filter=Q(taken__gte=F("wanted"), assignments__state="done"), distinct=True)
    )
    return {
        "status": campaign.status,
        "generation": generation.number if generation else None,
        "checkpoint": campaign.checkpoint.number if campaign.checkpoint else None,
        "items": counts["items"],
        "items_done": counts["done"],
        "labelings": submitted_labelings(campaign).count(),
        "solutions": visible_solutions(campaign).count(),
    }
