from __future__ import annotations

from django.db.models import Count, Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from annotator.models import Assignment, Campaign, RatingEvent


def held_leases(campaign: Campaign) -> QuerySet[Assignment]:
    """What people hold now, the lease that ends first on top. `rated` counts the steps rated so far and not taken back
    by undo."""
    undone = RatingEvent.objects.filter(
        labeling=OuterRef("labeling"), kind=RatingEvent.Kind.UNDO, undoes=OuterRef("client_id")
    )
    rated = (
        RatingEvent.objects.filter(
            ~Exists(undone),
            labeling__assignment=OuterRef("pk"),
            kind=RatingEvent.Kind.RATE,
            value__isnull=False,
        )
        .order_by()
        .values("labeling")
        .annotate(n=Count("completion", distinct=True))
    )
    return (
        Assignment.objects.filter(campaign=campaign, state=Assignment.State.ACTIVE)
        .annotate(rated=Coalesce(Subquery(rated.values("n")), 0))
        .select_related("membership__user", "item", "solution", "problem")
        .order_by("lease_until", "pk")
    )
