"""The one place that enqueues. A job is a row first; its message is sent by task name when the row is committed, so the
web process needs neither the tasks nor a reachable broker: what could not be sent is sent again by `reconcile`."""

from __future__ import annotations

import logging
import time
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from annotator.celery_app import app
from annotator.errors import Conflict
from annotator.models import Campaign, CandidateRequest, Job, User

logger = logging.getLogger(__name__)

QUEUE_OF_KIND: dict[str, str] = {
    Job.Kind.IMPORT: "default",
    Job.Kind.UNDO: "default",
    Job.Kind.GRADE: "default",
    Job.Kind.PRETRAIN: "gpu",
    Job.Kind.SCORE: "gpu",
    Job.Kind.RETRAIN: "gpu",
    Job.Kind.RELEASE: "default",
    Job.Kind.DATASET: "default",
    Job.Kind.REWANT: "default",
}


def enqueue(
    kind: Job.Kind,
    campaign: Campaign,
    *,
    params: dict[str, Any] | None = None,
    actor: User | None = None,
    wake: bool = True,
) -> Job:
    """Create a job and wake a worker for it on commit, unless the caller is going to `run_here`, as a simulation does
    with all its jobs. Raises `Conflict` where the same work is already under way."""
    wake = wake and not campaign.simulated
    try:
        with transaction.atomic():
            job = Job.objects.create(
                campaign=campaign,
                kind=kind,
                queue=QUEUE_OF_KIND[kind],
                params=params or {},
                created_by=actor,
                # Counts as sent just now, so that no worker is woken beside the caller.
                sent_at=None if wake else timezone.now(),
            )
    except IntegrityError as error:
        raise Conflict("already_running", f"This campaign is already going to {kind.label}.") from error
    if wake:
        transaction.on_commit(lambda: send(job))
    return job


def send(job: Job) -> None:
    """Put a wake-up for the job on its queue. A dead broker is logged, not raised: the row waits."""
    Job.objects.filter(pk=job.pk).update(sent_at=timezone.now())
    try:
        app.send_task("annotator.tasks.run_job", [job.pk], queue=job.queue, retry=False)
    except (OperationalError, OSError) as error:
        logger.warning("job %s waits, the broker cannot be reached: %s", job.pk, error)


def send_candidates(request: CandidateRequest) -> None:
    """Wake a worker for what a labeler waits for; with a dead broker the row waits, as a job does."""
    CandidateRequest.objects.filter(pk=request.pk).update(sent_at=timezone.now())
    try:
        app.send_task("annotator.tasks.fetch_candidates", [request.pk], queue="default", retry=False)
    except (OperationalError, OSError) as error:
        logger.warning("candidate request %s waits, the broker cannot be reached: %s", request.pk, error)


def run_here(job: Job) -> Job:
    """Do a job in this process, for commands: no worker is needed. Where a worker got it first, wait for it."""
    app.loader.import_default_modules()
    while True:
        app.tasks["annotator.tasks.run_job"].apply(args=(job.pk,), throw=True)
        job.refresh_from_db()
        if job.state not in Job.UNFINISHED:
            return job
        time.sleep(0.5)
