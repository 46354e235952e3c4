"""What a labeler has done and how long it took: the same figures for the labeler and for their manager."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.db.models import Count, F, Max, Q, QuerySet, Sum, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from annotator.models import Labeling, Membership

# Of each person the latest labelings: enough for a steady median, few enough to read on every page load.
SAMPLE = 100
# A late submit is work too, though it came after its place had gone to somebody else.
WORK = (Labeling.State.SUBMITTED, Labeling.State.SURPLUS)


@dataclass(frozen=True, slots=True)
class LabelerFigures:
    """One person's work in one campaign. Days are UTC; times are active time. Medians are None before the first
    labeling. `surplus` labelings came late and do not count to the campaign; they are among `labelings`."""

    labelings: int = 0
    today: int = 0
    week: int = 0
    surplus: int = 0
    active_seconds: float = 0.0
    active_seconds_today: float = 0.0
    seconds_per_solution: float | None = None
    seconds_per_step: float | None = None
    last_at: datetime.datetime | None = None


def labeler_figures(membership: Membership) -> LabelerFigures:
    return figures_of([membership])[membership.pk]


def figures_of(memberships: Iterable[Membership]) -> dict[int, LabelerFigures]:
    """The figures of each, in two queries however many there are."""
    ids = [membership.pk for membership in memberships]
    counts = _counts(Labeling.objects.filter(membership__in=ids, state__in=WORK))
    medians = _medians(ids)
    return {pk: LabelerFigures(**counts.get(pk, {}), **medians.get(pk, {})) for pk in ids}


def _counts(work: QuerySet[Labeling]) -> dict[int | None, dict[str, Any]]:
    now = timezone.now()
    midnight = now.astimezone(datetime.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    today = Q(submitted_at__gte=midnight)
    rows = (
        work.order_by()
        .values("membership")
        .annotate(
            n=Count("pk"),
            today=Count("pk", filter=today),
            week=Count("pk", filter=Q(submitted_at__gte=now - datetime.timedelta(days=7))),
            surplus=Count("pk", filter=Q(state=Labeling.State.SURPLUS)),
            worked=Sum("active_ms"),
            worked_today=Sum("active_ms", filter=today, default=0),
            last_at=Max("submitted_at"),
        )
    )
    return {
        row["membership"]: {
            "labelings": row["n"],
            "today": row["today"],
            "week": row["week"],
            "surplus": row["surplus"],
            "active_seconds": row["worked"] / 1000,
            "active_seconds_today": row["worked_today"] / 1000,
            "last_at": row["last_at"],
        }
        for row in rows
    }


def _medians(ids: list[int]) -> dict[int, dict[str, Any]]:
    """Median active time of each person's latest labelings, and of a judged step in them."""
    latest = (
        Labeling.objects.filter(membership__in=ids, state__in=WORK, active_ms__gt=0)
        .annotate(age=Window(RowNumber(), partition_by="membership", order_by=F("id").desc()))
        .filter(age__lte=SAMPLE)
    )
    rows = (
        Labeling.objects.filter(pk__in=latest.values("pk"))
        .order_by()
        .values_list("membership", "active_ms")
        .annotate(judged=Count("ratings", filter=Q(ratings__value__isnull=False)), key=F("pk"))
    )
    solutions: dict[int, list[float]] = defaultdict(list)
    steps: dict[int, list[float]] = defaultdict(list)
    for membership, active_ms, judged, _ in rows:
        solutions[membership].append(active_ms / 1000)
        if judged:
            steps[membership].append(active_ms / 1000 / judged)
    return {
        pk: {
            "seconds_per_solution": median(times),
            "seconds_per_step": median(steps[pk]) if steps[pk] else None,
        }
        for pk, times in solutions.items()
    }
