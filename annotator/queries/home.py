"""What waits for a person in each of their campaigns, in a fixed number of queries."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from annotator.models import Assignment, Campaign, Job, Membership, Message, QueueItem, RatingEvent, User
from annotator.queries.figures import LabelerFigures, figures_of

# The newest messages of each campaign are shown, not its whole history.
MESSAGES = 50


@dataclass(frozen=True, slots=True)
class InHand:
    """The solution that the person holds. `step` is the last one they touched, from 1; None before the first."""

    assignment: Assignment
    step: int | None
    steps: int


@dataclass(slots=True)
class MyCampaign:
    """A row of the home page. `code` says what the queue has for this person: `work`, or why there is none (`draft`,
    `paused`, `finished`, `membership_paused`, `held`, `waiting`, `seen_all`, `all_done`)."""

    membership: Membership
    figures: LabelerFigures
    code: str
    until: datetime.datetime | None = None
    in_hand: InHand | None = None
    put_off: int = 0
    unread: list[Message] = field(default_factory=list)
    read: list[Message] = field(default_factory=list)

    @property
    def campaign(self) -> Campaign:
        return self.membership.campaign

    @property
    def guideline_changed(self) -> bool:
        seen = self.membership.guideline_id
        return self.membership.may_label and seen is not None and seen != self.campaign.guideline_id


def my_campaigns(user: User) -> list[MyCampaign]:
    """The person's campaigns by name."""
    now = timezone.now()
    memberships = list(_with_outlook(user).select_related("campaign").order_by("campaign__name"))
    figures = figures_of(memberships)
    rows = {
        membership.pk: MyCampaign(membership, figures[membership.pk], *_outlook(membership, now))
        for membership in memberships
    }
    _add_assignments(rows)
    _add_messages(rows)
    return list(rows.values())


def _with_outlook(user: User) -> QuerySet[Membership]:
    """Memberships with what the queue holds for each. An item is no work for somebody who is done with it."""
    had = Assignment.objects.filter(membership=OuterRef(OuterRef("pk")), solution=OuterRef("solution")).exclude(
        state__in=Assignment.RESUMABLE
    )
    items = QueueItem.objects.filter(campaign=OuterRef("campaign"), retired=False, taken__lt=F("wanted"))
    served = items.filter(lane__in=(QueueItem.Lane.MAIN, QueueItem.Lane.RETURNED))
    with_others = Assignment.objects.filter(
        ~Exists(had), campaign=OuterRef("campaign"), state=Assignment.State.ACTIVE, item__retired=False
    ).order_by("lease_until")
    return Membership.objects.filter(user=user).annotate(
        has_open=Exists(served.filter(~Exists(had))),
        next_lease_end=Subquery(with_others.values("lease_until")[:1]),
        is_prepared=Exists(Job.objects.filter(campaign=OuterRef("campaign"), state__in=Job.UNFINISHED)),
        has_seen_all=Exists(served),
    )


def _outlook(membership: Membership, now: datetime.datetime) -> tuple[str, datetime.datetime | None]:
    campaign = membership.campaign
    if campaign.status != Campaign.Status.ACTIVE:
        return campaign.status, None
    if not membership.may_label:
        return "membership_paused", None
    lease_end: datetime.datetime | None = membership.next_lease_end  # type: ignore[attr-defined]  # annotations
    if membership.has_open or (lease_end and lease_end <= now):  # type: ignore[attr-defined]  # the same
        return "work", None
    if lease_end:
        return "held", lease_end
    if membership.is_prepared:  # type: ignore[attr-defined]  # the same
        return "waiting", None
    return ("seen_all" if membership.has_seen_all else "all_done"), None  # type: ignore[attr-defined]  # the same


def _add_assignments(rows: dict[int, MyCampaign]) -> None:
    touched = RatingEvent.objects.filter(labeling__assignment=OuterRef("pk"), completion__isnull=False).order_by("-id")
    mine = (
        Assignment.objects.filter(
            Q(state=Assignment.State.ACTIVE, ahead=False) | Q(state=Assignment.State.POSTPONED), membership__in=rows
        )
        .annotate(touched=Subquery(touched.values("completion__step_index")[:1]))
        .select_related("solution", "problem")
    )
    for assignment in mine:
        row = rows[assignment.membership_id]
        if assignment.state == Assignment.State.POSTPONED:
            row.put_off += 1
        else:
            step = None if assignment.touched is None else assignment.touched + 1
            row.in_hand = InHand(assignment, step, assignment.solution.step_count)


def _add_messages(rows: dict[int, MyCampaign]) -> None:
    """Messages to the person, and to all labelers since they joined, newest first."""
    by_campaign = {row.membership.campaign_id: row for row in rows.values()}
    to_all = Q(membership=None, campaign__in=by_campaign)
    newest = Window(RowNumber(), partition_by="campaign", order_by="-pk")
    theirs = Message.objects.filter(to_all | Q(membership__in=rows)).annotate(place=newest)
    for message in theirs.filter(place__lte=MESSAGES).select_related("author"):
        row = by_campaign[message.campaign_id]
        member = row.membership
        if message.membership_id is None and (
            member.role != Membership.Role.LABELER or message.created_at < member.created_at
        ):
            continue
        known = member.messages_read_at is not None and message.created_at <= member.messages_read_at
        (row.read if known else row.unread).append(message)
