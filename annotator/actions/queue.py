"""Claiming, keeping and returning solutions. Each is one short transaction: rows are locked on PostgreSQL, and SQLite's
IMMEDIATE transactions let one writer in at a time, so no item is ever held by more labelers than it wants.

A lease that ran out needs nobody to sweep it: the assignment keeps its permit until a claim finds it by index and takes
the permit over, and until then its labeler may simply go on."""

from __future__ import annotations

import datetime
import time
from uuid import UUID

from django.db import IntegrityError, OperationalError, transaction
from django.db.models import Case, F, Max, Q, Value, When
from django.db.models.functions import Greatest, Least
from django.utils import timezone

from annotator.actions.audit import record
from annotator.actions.pool import Taken, take_from_pool, unfinished_and_run_out
from annotator.dispatch import enqueue
from annotator.errors import Conflict, Invalid, is_deadlock
from annotator.models import Assignment, Campaign, Job, Membership, QueueItem, User

State = Assignment.State
Lane = QueueItem.Lane

# How an assignment may be given back.
RETURNS = {"release": State.RELEASED, "postpone": State.POSTPONED, "skip": State.SKIPPED}
REWANT_CHUNK = 1000


def claim_next(membership: Membership, *, ahead: bool = False) -> Assignment | None:
    """What this person should label now, or (`ahead`) after that: the solution they already hold, a solution that they
    had and that is still free, a run-out lease of somebody else, the next open one of the pool; else None. Repeating
    the call, in another tab for example, gives the same assignment."""
    if not (membership.may_label and membership.campaign.is_open_for_labeling) or has_news(membership):
        return None
    now = timezone.now()
    try:
        with transaction.atomic():
            return _claim(membership, now, ahead=ahead)
    except (IntegrityError, OperationalError) as error:
        # Another request of the same person won, or their own row was just being written and passed over; or two
        # requests waited for each other. Once more, behind whoever holds this person's rows.
        if isinstance(error, OperationalError) and not is_deadlock(error):
            raise
        with transaction.atomic():
            list(Assignment.objects.select_for_update().filter(membership=membership, state=State.ACTIVE))
            return _claim(membership, now, ahead=ahead)


def has_news(membership: Membership) -> bool:
    """Whether the guideline has changed since this person acknowledged it: they read it before their next solution."""
    return membership.guideline_id is not None and membership.guideline_id != membership.campaign.guideline_id


def _claim(membership: Membership, now: datetime.datetime, *, ahead: bool) -> Assignment | None:
    near = unfinished_and_run_out(membership, now)
    mine = [assignment for assignment in near if assignment.membership_id == membership.pk]
    active = {assignment.ahead: assignment for assignment in mine if assignment.state == State.ACTIVE}
    if not active.get(False) and active.get(True):
        # What lay ahead is in hand, since what was in hand has ended.
        active[False] = _keep(active.pop(True), membership, now, ahead=False)
        if not ahead:
            return active[False]
    if held := active.get(ahead):
        return _keep(held, membership, now, ahead=ahead)
    if ahead and not active:
        ahead = False
    for assignment in mine:
        if assignment.state != State.ACTIVE and take_permit(assignment.item_id):
            return _keep(assignment, membership, now, ahead=ahead)
    for run_out in near:
        if run_out.membership_id != membership.pk:
            Assignment.objects.filter(pk=run_out.pk).update(state=State.EXPIRED, ended_at=now)
            targets = (run_out.rules or {}).get("targets")
            taken_over = Taken(run_out.item_id, run_out.solution_id, run_out.problem_id, targets)
            take = _take_up if run_out.begun else _assign  # type: ignore[attr-defined]  # a column of the query
            return take(membership, taken_over, now, ahead=ahead)
    if taken := take_from_pool(membership):
        return _assign(membership, taken, now, ahead=ahead)
    # Nothing lies ahead of the cursor: look at all that is open, and at what this person had put off.
    if taken := take_from_pool(membership, anywhere=True):
        return _take_up(membership, taken, now, ahead=ahead)
    return None


def _keep(
    assignment: Assignment, membership: Membership, now: datetime.datetime, *, ahead: bool, item_id: int | None = None
) -> Assignment:
    """Hold it (again), with a full lease; `item_id` where the solution is served anew."""
    assignment.membership, assignment.campaign = membership, membership.campaign
    assignment.state, assignment.ahead, assignment.ended_at = State.ACTIVE, ahead, None
    assignment.lease_until = now + membership.campaign.lease
    assignment.item_id = item_id or assignment.item_id
    assignment.save(update_fields=["state", "ahead", "lease_until", "ended_at", "item"])
    return assignment


def _assign(membership: Membership, taken: Taken, now: datetime.datetime, *, ahead: bool) -> Assignment:
    assignment = Assignment.objects.create(
        item_id=taken.item_id,
        solution_id=taken.solution_id,
        problem_id=taken.problem_id,
        membership=membership,
        campaign=membership.campaign,
        ahead=ahead,
        place=taken.place,
        rules=membership.campaign.rules() | {"targets": taken.targets},
        lease_until=now + membership.campaign.lease,
    )
    Assignment.labeling.related.set_cached_value(assignment, None)  # it is new: nobody need ask for its labeling
    return assignment


def _take_up(membership: Membership, taken: Taken, now: datetime.datetime, *, ahead: bool) -> Assignment:
    """Hold an item whose solution this person may have begun before: then they go on where they stopped."""
    before = Assignment.objects.filter(membership=membership, solution=taken.solution_id).first()
    if before is None:
        return _assign(membership, taken, now, ahead=ahead)
    return _keep(before, membership, now, ahead=ahead, item_id=taken.item_id)


def take_permit(item_id: int) -> bool:
    """Count one more labeler on an item, if it wants one more."""
    open_item = QueueItem.objects.filter(pk=item_id, retired=False, taken__lt=F("wanted"))
    return open_item.update(taken=F("taken") + 1) == 1


def take_permit_back(item: QueueItem) -> bool:
    """For work that comes after its permit has gone: count it, if nobody else has the place. An item that a new
    generation has put aside is good for it too, unless the solution is being served again."""
    if take_permit(item.pk):
        return True
    served_again = QueueItem.objects.filter(solution=item.solution_id, retired=False).exists()
    aside = QueueItem.objects.filter(pk=item.pk, retired=True, taken__lt=F("wanted"))
    return not served_again and aside.update(taken=F("taken") + 1, retired=False) == 1


def end_assignment(
    assignment: Assignment, state: Assignment.State, *, now: datetime.datetime, gave_up: bool = False
) -> None:
    """Move an assignment that holds a permit to its end. Every end but `DONE` gives the permit back, and the item is
    served before the others; given up twice, it waits for a reviewer. Call it inside a transaction that has locked the
    row."""
    Assignment.objects.filter(pk=assignment.pk).update(state=state, ended_at=now)
    assignment.state, assignment.ended_at = state, now
    if state == State.DONE:
        return
    QueueItem.objects.filter(pk=assignment.item_id, taken__gt=0).update(
        taken=F("taken") - 1,
        # A smaller k closes an item as its holders leave.
        wanted=Greatest(F("taken") - 1, Least(F("wanted"), Value(assignment.campaign.labelings_wanted))),
        give_ups=F("give_ups") + int(gave_up),
        place=_place_of_returned(),
        lane=Case(
            When(lane=Lane.HELD, then=Value(Lane.HELD)),
            When(give_ups__gte=QueueItem.GIVE_UPS_BEFORE_REVIEW - int(gave_up), then=Value(Lane.REVIEW)),
            default=Value(Lane.RETURNED),
        ),
    )


def _place_of_returned() -> int:
    """First come back, first served."""
    return time.time_ns() // 1000


@transaction.atomic
def return_assignment(assignment: Assignment, how: str, *, client_id: UUID | None = None) -> None:
    """Give a solution back without a verdict; what was said stays as a draft. `release`: to everybody, oneself first;
    `postpone`: to oneself after other work, unless somebody else takes it; `skip`: to others only. Repeating it under
    the same client id changes nothing, also when the solution has come back meanwhile."""
    if how not in RETURNS:
        raise Invalid("unknown_return", f"A solution is given back by {', '.join(RETURNS)}, not by {how}.")
    lock_assignment(assignment)
    if client_id is not None and Assignment.objects.filter(pk=assignment.pk, returned_by=client_id).exists():
        return
    if assignment.state != State.ACTIVE:
        raise Conflict("not_active", "This solution is no longer yours to give back.")
    end_assignment(assignment, RETURNS[how], now=timezone.now())
    Assignment.objects.filter(pk=assignment.pk).update(returned_by=client_id)
    record(how, campaign=assignment.campaign, actor=assignment.membership.user, subject=str(assignment.pk))


def renew_lease(assignment: Assignment) -> datetime.datetime:
    """The page is in use: keep the solution, and the one fetched ahead. Raises `Conflict` once somebody else may have
    it."""
    if not (assignment.membership.may_label and assignment.campaign.is_open_for_labeling):
        raise Conflict("paused", "The work is paused: the reservation is not renewed. What you say is kept.")
    until = timezone.now() + assignment.campaign.lease
    held = Assignment.objects.filter(membership=assignment.membership_id, state=State.ACTIVE)
    if not held.filter(pk=assignment.pk).exists():
        raise Conflict("not_active", "This solution is no longer reserved for you.")
    held.update(lease_until=until)
    return until


@transaction.atomic
def free_lease(assignment: Assignment, *, actor: User) -> None:
    """A manager takes a solution away from somebody who does not come back. Their draft is kept, and they may go on if
    nobody else has taken it meanwhile."""
    lock_assignment(assignment)
    if assignment.state != State.ACTIVE:
        raise Conflict("not_active", "Nobody holds this solution any more.")
    end_assignment(assignment, State.EXPIRED, now=timezone.now())
    record("free lease", campaign=assignment.campaign, actor=actor, subject=str(assignment.pk))


def request_rewant(campaign: Campaign, *, actor: User | None) -> Job:
    """Enqueue the change of the queue to the campaign's present number of labelings wanted (k)."""
    return enqueue(Job.Kind.REWANT, campaign, actor=actor)


def rewant(campaign: Campaign) -> int:
    """Bring the items of the queue to the campaign's k, chunk by chunk: a larger k opens finished items again, a
    smaller one closes them; nobody's work is taken away. Returns how many items changed."""
    changed = 0
    top = QueueItem.objects.filter(campaign=campaign).aggregate(top=Max("place", filter=Q(lane=Lane.MAIN)))["top"] or 0
    items = QueueItem.objects.filter(campaign=campaign, retired=False).exclude(wanted=campaign.labelings_wanted)
    last = 0
    while chunk := list(items.filter(pk__gt=last).order_by("pk").values_list("pk", flat=True)[:REWANT_CHUNK]):
        last = chunk[-1]
        changed += _rewant_chunk(chunk, campaign.labelings_wanted, behind=top)
        top += len(chunk)
    return changed


@transaction.atomic
def _rewant_chunk(pks: list[int], wanted: int, *, behind: int) -> int:
    """Finished items that open again go behind the last of the main lane: everybody's cursor is before it."""
    rows = QueueItem.objects.filter(pk__in=pks).order_by("pk")
    reopened = list(rows.filter(taken=F("wanted"), taken__lt=wanted).exclude(lane=Lane.HELD).select_for_update())
    for place, item in enumerate(reopened, start=behind + 1):
        item.lane, item.place = Lane.MAIN, place
    QueueItem.objects.bulk_update(reopened, ["lane", "place"])
    more = rows.filter(taken__lte=wanted).update(wanted=wanted)
    return more + rows.filter(taken__gt=wanted).exclude(wanted=F("taken")).update(wanted=F("taken"))


def lock_assignment(assignment: Assignment) -> None:
    """Bring the row up to date and keep it locked until the transaction ends. What was fetched around it stays."""
    row = Assignment.objects.select_for_update().values_list("state", "lease_until").get(pk=assignment.pk)
    assignment.state, assignment.lease_until = row
