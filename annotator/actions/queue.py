"""Claiming, keeping and returning solutions. Each is one short transaction: rows are locked on PostgreSQL, and SQLite's
IMMEDIATE transactions let one writer in at a time, so no item is ever held by more labelers than it wants."""

from __future__ import annotations

import datetime
from typing import TypeVar

from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, F, Model, OuterRef, QuerySet
from django.utils import timezone

from annotator.actions.audit import record
from annotator.errors import Conflict
from annotator.models import Assignment, Labeling, Membership, QueueItem

# How many run-out leases one claim hands on: enough to keep up, few enough to stay short.
EXPIRED_PER_CLAIM = 5

M = TypeVar("M", bound=Model)


def claim_next(membership: Membership) -> Assignment | None:
    """What this person should label now: the solution they already hold, else the next open one of the queue, else
    None. Repeating the call, in another tab for example, gives the same assignment."""
    if not (membership.may_label and membership.campaign.is_open_for_labeling):
        return None
    now = timezone.now()
    try:
        with transaction.atomic():
            return _held(membership, now) or _resumed(membership, now) or _from_pool(membership, now)
    except IntegrityError:
        # Two tabs asked at once and the other one won: its assignment is this person's too.
        with transaction.atomic():
            return _held(membership, now)


def _held(membership: Membership, now: datetime.datetime) -> Assignment | None:
    """Waits for a rating of one's own that is just being stored, instead of passing over its locked row."""
    active = Assignment.objects.filter(membership=membership, state=Assignment.State.ACTIVE)
    held = active.select_for_update(of=("self",)).first()
    if held:
        held.lease_until = now + membership.campaign.lease
        held.save(update_fields=["lease_until"])
    return held


def _resumed(membership: Membership, now: datetime.datetime) -> Assignment | None:
    """A run-out lease with ratings in it goes back to its labeler while nobody else has taken the permit."""
    draft = Labeling.objects.filter(assignment=OuterRef("pk"), state=Labeling.State.DRAFT)
    expired = Assignment.objects.filter(Exists(draft), membership=membership, state=Assignment.State.EXPIRED)
    for assignment in _lock(expired.order_by("-created_at"))[:EXPIRED_PER_CLAIM]:
        if take_permit(assignment.item_id):
            assignment.state, assignment.lease_until = Assignment.State.ACTIVE, now + membership.campaign.lease
            assignment.save(update_fields=["state", "lease_until"])
            return assignment
    return None


def _from_pool(membership: Membership, now: datetime.datetime) -> Assignment | None:
    _expire_leases(membership, now)
    had = Assignment.objects.filter(membership=membership, solution=OuterRef("solution"))
    pool = QueueItem.objects.filter(
        ~Exists(had), campaign=membership.campaign, retired=False, taken__lt=F("wanted")
    ).order_by("rank", "id")
    item = _lock(pool).first()
    if item is None or not take_permit(item.pk):
        return None
    return Assignment.objects.create(
        item=item,
        solution_id=item.solution_id,
        membership=membership,
        campaign=membership.campaign,
        lease_until=now + membership.campaign.lease,
    )


def _expire_leases(membership: Membership, now: datetime.datetime) -> None:
    expired = _lock(
        Assignment.objects.filter(
            campaign=membership.campaign, state=Assignment.State.ACTIVE, lease_until__lte=now
        ).order_by("lease_until")
    )[:EXPIRED_PER_CLAIM]
    # Items are touched in one order everywhere, so that two claims cannot wait for each other.
    for assignment in sorted(expired, key=lambda assignment: assignment.item_id):
        end_assignment(assignment, Assignment.State.EXPIRED, now=now)


def take_permit(item_id: int) -> bool:
    """Count one more labeler on an item, if it wants one more."""
    open_item = QueueItem.objects.filter(pk=item_id, retired=False, taken__lt=F("wanted"))
    return open_item.update(taken=F("taken") + 1) == 1


def take_permit_back(item: QueueItem) -> bool:
    """For work that comes after its lease ran out: count it, if nobody else has the place. An item that a new
    generation has put aside is good for it too, unless the solution is being served again."""
    if take_permit(item.pk):
        return True
    served_again = QueueItem.objects.filter(solution=item.solution_id, retired=False).exists()
    aside = QueueItem.objects.filter(pk=item.pk, retired=True, taken__lt=F("wanted"))
    return not served_again and aside.update(taken=F("taken") + 1, retired=False) == 1


def end_assignment(assignment: Assignment, state: Assignment.State, *, now: datetime.datetime) -> None:
    """Move an assignment that holds a permit to its end; every end but `DONE` gives the permit back. Call it inside a
    transaction that has locked the row."""
    Assignment.objects.filter(pk=assignment.pk).update(state=state, ended_at=now)
    if state != Assignment.State.DONE:
        QueueItem.objects.filter(pk=assignment.item_id, taken__gt=0).update(taken=F("taken") - 1)
    assignment.state, assignment.ended_at = state, now


@transaction.atomic
def skip_assignment(assignment: Assignment) -> None:
    """Give the solution to others. What was rated stays as a draft; the person is not offered the solution again."""
    current = lock_assignment(assignment)
    if current.state != Assignment.State.ACTIVE:
        raise Conflict("not_active", "This solution is no longer yours to skip.")
    end_assignment(current, Assignment.State.RETURNED, now=timezone.now())
    record("skip", campaign=assignment.campaign, actor=assignment.membership.user, subject=str(assignment.pk))


def renew_lease(assignment: Assignment) -> datetime.datetime:
    """The page is in use: keep the solution. Raises `Conflict` once somebody else may have it."""
    until = timezone.now() + assignment.campaign.lease
    kept = Assignment.objects.filter(pk=assignment.pk, state=Assignment.State.ACTIVE).update(lease_until=until)
    if not kept:
        raise Conflict("not_active", "This solution is no longer reserved for you.")
    return until


def lock_assignment(assignment: Assignment) -> Assignment:
    """The row as it is now, locked until the transaction ends."""
    return (
        Assignment.objects.select_for_update(of=("self",))
        .select_related("membership", "campaign", "item")
        .get(pk=assignment.pk)
    )


def _lock(rows: QuerySet[M]) -> QuerySet[M]:
    """Rows that others have locked are not waited for. SQLite has no row locks and needs none: it has one writer."""
    return rows.select_for_update(skip_locked=True, of=("self",)) if connection.features.has_select_for_update else rows
