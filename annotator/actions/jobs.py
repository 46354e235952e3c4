"""The life of a job: queued, taken under a lease, kept alive by its progress, ended in a state that a person can read.

A worker owns a job only while its token is in the row. Whoever finds the lease run out may take it; the former owner
then finds its token gone at its next report and stops.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from annotator.actions.audit import record
from annotator.dispatch import enqueue
from annotator.errors import Conflict
from annotator.models import Job, User, WorkerPulse


class LeaseLost(Exception):
    """Another worker has the job, or it was cancelled: stop without writing."""


class JobCancelled(LeaseLost):
    """Somebody asked for the job to stop."""


def _lease_end() -> datetime.datetime:
    return timezone.now() + datetime.timedelta(seconds=settings.JOB_LEASE_SECONDS)


@transaction.atomic
def take_job(pk: int) -> Job | None:
    """Take the lease of a queued or abandoned job; None where there is nothing to take."""
    token, now = uuid.uuid4(), timezone.now()
    free = Q(state=Job.State.QUEUED) | Q(state=Job.State.RUNNING, lease_until__lte=now)
    taken = Job.objects.filter(free, pk=pk, cancel_requested=False, attempt__lt=Job.MAX_ATTEMPTS).update(
        state=Job.State.RUNNING,
        lease_token=token,
        lease_until=_lease_end(),
        attempt=F("attempt") + 1,
        started_at=now,
        error="",
    )
    return Job.objects.select_related("campaign", "created_by").get(pk=pk) if taken else None


def _owned(job: Job) -> Q:
    return Q(pk=job.pk, state=Job.State.RUNNING, lease_token=job.lease_token)


def report_progress(job: Job, *, done: float, total: float, note: str = "") -> None:
    """Keep the lease and show how far the job is. Raises `JobCancelled` or `LeaseLost`."""
    kept = Job.objects.filter(_owned(job), cancel_requested=False).update(
        done=done, total=total, note=note[:300], lease_until=_lease_end()
    )
    if not kept:
        if Job.objects.filter(_owned(job), cancel_requested=True).exists():
            raise JobCancelled(f"job {job.pk} was cancelled")
        raise LeaseLost(f"job {job.pk} has another owner")


def finish_job(job: Job, result: dict[str, Any]) -> None:
    """End the job as done; call it inside the transaction that writes its result, so that both happen or neither.
    Raises `LeaseLost` (and so rolls the result back) when the job has another owner."""
    ended = Job.objects.filter(_owned(job)).update(
        state=Job.State.DONE, result=result, done=F("total"), finished_at=timezone.now(), lease_until=None
    )
    if not ended:
        raise LeaseLost(f"job {job.pk} has another owner")


def keep_lease(job: Job) -> bool:
    """Renew the lease without a word on progress; False once the job has another owner."""
    return bool(Job.objects.filter(_owned(job)).update(lease_until=_lease_end()))


def fail_job(job: Job, error: str) -> None:
    Job.objects.filter(_owned(job)).update(
        state=Job.State.FAILED, error=error, finished_at=timezone.now(), lease_until=None
    )


def release_job(job: Job, error: str) -> None:
    """Give the lease back after a passing fault: the job is tried again until its attempts are used up."""
    if job.attempt >= Job.MAX_ATTEMPTS:
        fail_job(job, error)
        return
    again = Job.objects.filter(_owned(job), cancel_requested=False)
    if not again.update(state=Job.State.QUEUED, error=error, lease_until=None):
        end_cancelled(job)


@transaction.atomic
def retry_job(job: Job, *, actor: User) -> Job:
    """Do again what failed or was cancelled; but an import starts with its file."""
    if job.state not in (Job.State.FAILED, Job.State.CANCELLED) or job.kind == Job.Kind.IMPORT:
        raise Conflict("not_again", "Only failed or cancelled work can be tried again; a file is uploaded again.")
    record("retry job", campaign=job.campaign, actor=actor, subject=f"job {job.pk}", kind=job.kind)
    return enqueue(Job.Kind(job.kind), job.campaign, params=job.params, actor=actor)


@transaction.atomic
def cancel_job(job: Job, *, actor: User) -> None:
    """Stop a job: at once if nobody runs it, else at its next safe point."""
    ended = Job.objects.filter(pk=job.pk, state=Job.State.QUEUED).update(
        state=Job.State.CANCELLED, finished_at=timezone.now()
    )
    if not ended and not Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).update(cancel_requested=True):
        raise Conflict("not_running", "This job has already ended.")
    record("cancel job", campaign=job.campaign, actor=actor, subject=f"job {job.pk}", kind=job.kind)


def end_cancelled(job: Job) -> None:
    Job.objects.filter(_owned(job)).update(state=Job.State.CANCELLED, finished_at=timezone.now(), lease_until=None)


@transaction.atomic
def sweep_jobs(*, resend_after: datetime.timedelta = datetime.timedelta(seconds=60)) -> list[Job]:
    """End what can no longer run (cancelled or out of attempts, its worker silent) and return the jobs that need a new
    wake-up: queued for a while, or running under a lease that ran out."""
    now = timezone.now()
    silent = Job.objects.filter(state=Job.State.RUNNING, lease_until__lte=now)
    silent.filter(cancel_requested=True).update(state=Job.State.CANCELLED, finished_at=now, lease_until=None)
    silent.filter(attempt__gte=Job.MAX_ATTEMPTS).update(
        state=Job.State.FAILED,
        error=f"Its worker stopped {Job.MAX_ATTEMPTS} times without a word; see the worker's log.",
        finished_at=now,
        lease_until=None,
    )
    waiting = Q(state=Job.State.QUEUED) | Q(state=Job.State.RUNNING, lease_until__lte=now)
    unsent = Q(sent_at=None) | Q(sent_at__lte=now - resend_after)
    return list(Job.objects.filter(waiting, unsent, campaign__simulated=False).order_by("id"))


def record_pulse(queue: str) -> None:
    """A worker of this queue is alive."""
    WorkerPulse.objects.update_or_create(queue=queue, defaults={"seen_at": timezone.now()})
