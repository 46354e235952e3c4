"""Why there is nothing to label, and whether anybody is at work behind the scenes."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from annotator.models import Assignment, Campaign, Job, Membership, QueueItem, WorkerPulse

_HELD = {
    False: "The last solution is with another labeler.",
    True: "The last {count} solutions are with other labelers.",
}


@dataclass(frozen=True, slots=True)
class Empty:
    """Why there is nothing to label: `code` for programs, `message` for people, `until` when it may change."""

    code: str
    message: str
    until: datetime.datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"until": self.until.isoformat() if self.until else None}


def why_empty(membership: Membership) -> Empty:
    """Explain an empty queue to the person in front of it."""
    campaign = membership.campaign
    if campaign.status == Campaign.Status.DRAFT:
        return Empty("draft", "This campaign has not started yet.")
    if campaign.status == Campaign.Status.PAUSED:
        return Empty("paused", "The campaign is paused. Your work is saved; come back when it goes on.")
    if campaign.status == Campaign.Status.FINISHED:
        return Empty("finished", "The campaign is finished. Thank you.")
    if not membership.may_label:
        return Empty("membership_paused", membership.pause_reason or "Your work on this campaign is paused.")
    if membership.guideline_id != campaign.guideline_id and membership.guideline_id is not None:
        return Empty("guideline", "The guideline has changed: read what is new, then go on.")
    had = Assignment.objects.filter(membership=membership, solution=OuterRef("solution"))
    others = Assignment.objects.filter(~Exists(had), campaign=campaign, state=Assignment.State.ACTIVE)
    held = others.filter(item__retired=False, lease_until__gt=timezone.now()).order_by("lease_until")
    if ends := list(held.values_list("lease_until", flat=True)):
        return Empty("held", _HELD[len(ends) > 1].format(count=len(ends)), ends[0])
    job = Job.objects.filter(campaign=campaign, state__in=Job.UNFINISHED).order_by("id").first()
    if job:
        return Empty("waiting", f"The next generation is being prepared: {Job.Kind(job.kind).label}.")
    if _served(campaign).exists():
        return Empty("seen_all", "You have seen every solution that is still open; others will finish them.")
    return Empty("all_done", "Everything selected so far is labeled.")


def _served(campaign: Campaign) -> QuerySet[QueueItem]:
    lanes = [QueueItem.Lane.MAIN, QueueItem.Lane.RETURNED]
    return QueueItem.objects.filter(campaign=campaign, retired=False, taken__lt=F("wanted"), lane__in=lanes)


def silent_queues(now: datetime.datetime, *, after: datetime.timedelta = datetime.timedelta(seconds=30)) -> list[str]:
    """The queues whose workers have not reported lately. A worker that is deep in a job keeps its lease instead."""
    alive = set(WorkerPulse.objects.filter(seen_at__gte=now - after).values_list("queue", flat=True))
    alive |= set(Job.objects.filter(state=Job.State.RUNNING, lease_until__gt=now).values_list("queue", flat=True))
    return [queue for queue in ("default", "gpu") if queue not in alive]
