"""How far a campaign is and how fast it goes: the reads behind the overview, each a fixed number of queries."""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import dataclass
from statistics import median

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDate

from annotator.models import Assignment, Campaign, Generation, Job, Labeling, Membership, QueueItem, Rating, Report
from annotator.queries.figures import LabelerFigures, figures_of
from annotator.queries.labelings import submitted_labelings

DAYS = 14
# Enough labelings for a steady median, few enough to read on every page load.
PACE_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class ArmProgress:
    """One arm of a generation, counted in labelings."""

    arm: str
    items: int
    wanted: int
    done: int

    @property
    def fraction(self) -> float:
        return self.done / self.wanted if self.wanted else 0.0

    @property
    def unfinished(self) -> float:
        return 1 - self.fraction


def arm_progress(generation: Generation) -> list[ArmProgress]:
    """Audit, random, active: what each wants and what is done. Items given back unlabeled want nothing."""
    held = Q(retired=False) | Q(taken__gt=0)
    rows = QueueItem.objects.filter(held, generation=generation).values("arm").annotate(n=Count("pk"), k=Sum("wanted"))
    done = dict(
        Assignment.objects.filter(item__generation=generation, state=Assignment.State.DONE)
        .values_list("item__arm")
        .annotate(Count("pk"))
    )
    found = {row["arm"]: ArmProgress(row["arm"], row["n"], row["k"], done.get(row["arm"], 0)) for row in rows}
    return [found[arm] for arm in QueueItem.Arm.values if arm in found]


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """A generation in the list. `arms` counts items."""

    generation: Generation
    arms: dict[str, int]
    wanted: int
    done: int

    @property
    def items(self) -> int:
        return sum(self.arms.values())

    @property
    def fraction(self) -> float:
        return self.done / self.wanted if self.wanted else 0.0


def generation_rows(campaign: Campaign) -> list[GenerationRow]:
    """All generations, newest first, in three queries however many there are."""
    items = QueueItem.objects.filter(campaign=campaign).values_list("generation", "arm")
    arms: dict[int, dict[str, int]] = {}
    wanted: Counter[int] = Counter()
    for generation, arm, count, labelings in items.annotate(Count("pk"), Sum("wanted")):
        arms.setdefault(generation, {})[arm] = count
        wanted[generation] += labelings
    done = dict(
        Assignment.objects.filter(campaign=campaign, state=Assignment.State.DONE)
        .values_list("item__generation")
        .annotate(Count("pk"))
    )
    return [
        GenerationRow(row, arms.get(row.pk, {}), wanted[row.pk], done.get(row.pk, 0))
        for row in campaign.generations.select_related("checkpoint").order_by("-number")
    ]


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast people label. Medians are None before the first labeling."""

    by_day: list[tuple[datetime.date, int]]
    labelers: int
    seconds_per_solution: float | None
    seconds_per_step: float | None

    @property
    def today(self) -> int:
        return self.by_day[-1][1]

    @property
    def week(self) -> int:
        return sum(count for _, count in self.by_day[-7:])


def pace(campaign: Campaign, now: datetime.datetime) -> Pace:
    """People's labelings of the last days (UTC), and how long the latest took them in active time."""
    ours = submitted_labelings(campaign).filter(assignment__isnull=False)
    first = (now - datetime.timedelta(days=DAYS - 1)).date()
    since = datetime.datetime.combine(first, datetime.time(), tzinfo=datetime.UTC)
    recent = ours.filter(submitted_at__gte=since)
    by_day = dict(
        recent.order_by()
        .annotate(day=TruncDate("submitted_at", tzinfo=datetime.UTC))
        .values_list("day")
        .annotate(Count("pk"))
    )
    times = list(
        ours.filter(active_ms__gt=0)
        .order_by("-id")
        .annotate(judged=Count("ratings", filter=Q(ratings__value__isnull=False)))
        .values_list("active_ms", "judged")[:PACE_SAMPLE]
    )
    steps = [active / judged for active, judged in times if judged]
    return Pace(
        by_day=[(day, by_day.get(day, 0)) for day in (first + datetime.timedelta(days=n) for n in range(DAYS))],
        labelers=recent.order_by().aggregate(n=Count("membership", distinct=True))["n"],
        seconds_per_solution=median(active for active, _ in times) / 1000 if times else None,
        seconds_per_step=median(steps) / 1000 if steps else None,
    )


def judged_steps(campaign: Campaign) -> int:
    return Rating.objects.filter(labeling__in=submitted_labelings(campaign).order_by(), value__isnull=False).count()


def labelings_today(membership: Membership, now: datetime.datetime) -> int:
    """What a labeler has submitted since midnight UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Labeling.objects.filter(membership=membership, submitted_at__gte=midnight).count()


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a manager should look at, and what people hold."""

    reports: int
    reviews: int
    leases: int


def waiting_for_managers(campaign: Campaign) -> Waiting:
    return Waiting(
        reports=Report.objects.filter(campaign=campaign, state=Report.State.OPEN).count(),
        reviews=QueueItem.objects.filter(
            campaign=campaign, retired=False, taken__lt=F("wanted"), lane=QueueItem.Lane.REVIEW
        ).count(),
        leases=Assignment.objects.filter(campaign=campaign, state=Assignment.State.ACTIVE, ahead=False).count(),
    )


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A member with the figures that they see of themselves."""

    membership: Membership
    figures: LabelerFigures


def member_rows(campaign: Campaign) -> list[MemberRow]:
    """Everybody of a campaign, in three queries."""
    members = list(campaign.memberships.select_related("user").order_by("role", "user__username"))
    figures = figures_of(members)
    return [MemberRow(member, figures[member.pk]) for member in members]


def unfinished_jobs(campaign: Campaign) -> list[Job]:
    return list(Job.objects.filter(campaign=campaign, state__in=Job.UNFINISHED).order_by("id"))


def stopped_kinds(campaign: Campaign) -> list[Job]:
    """Kinds whose latest job failed or was cancelled: the campaign does not start them again by itself."""
    latest: dict[str, Job] = {}
    for job in Job.objects.filter(campaign=campaign).order_by("-id")[:50]:
        latest.setdefault(job.kind, job)
    return [job for job in latest.values() if job.state in (Job.State.FAILED, Job.State.CANCELLED)]
