"""Celery's entry points. A task takes its job's lease, reads, computes outside any transaction, and writes through
actions; the job row tells the rest (design §3.9). Nothing imports this module but the Celery app."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import DatabaseError, connection, transaction

from annotator import prm
from annotator.actions import candidates, datasets, generations, grading, imports, jobs, learning, queue
from annotator.actions.pipeline import advance
from annotator.candidates import source_of
from annotator.celery_app import app
from annotator.dispatch import send, send_candidates
from annotator.models import Campaign, CandidateRequest, Checkpoint, ImportRun, Job, QueueItem
from annotator.queries.candidates import wanted_by
from annotator.queries.labelings import audit_labelings, training_labelings
from prm_backend.errors import Cancelled, EndpointError, NotEnoughData, PrmError
from prm_backend.policy import parse_policy
from prm_backend.types import Progress

logger = logging.getLogger(__name__)

# Progress is written at most this often, in seconds; every write also keeps the lease.
REPORT_EVERY = 0.5


@app.task(name="annotator.tasks.run_job")
def run_job(pk: int) -> None:
    """Do one job, if its lease is free."""
    job = jobs.take_job(pk)
    if job is None:
        return
    try:
        with kept_alive(job):
            HANDLERS[Job.Kind(job.kind)](job)
    except (jobs.JobCancelled, Cancelled):
        _give_up(job, "It was cancelled.")
        jobs.end_cancelled(job)
    except jobs.LeaseLost:
        logger.info("job %s: another worker has it", pk)
    except PrmError as error:
        _give_up(job, str(error))
        jobs.fail_job(job, str(error))
    except Exception as error:
        logger.exception("job %s failed", pk)
        if job.attempt >= Job.MAX_ATTEMPTS:
            _give_up(job, f"{type(error).__name__}: {error}")
        jobs.release_job(job, f"{type(error).__name__}: {error}")
    else:
        advance(job.campaign)


@contextmanager
def kept_alive(job: Job) -> Iterator[None]:
    """Renews the lease from a thread of its own, for the stretches in which a job has nothing to report."""
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(settings.JOB_LEASE_SECONDS / 3):
            try:
                jobs.keep_lease(job)
            except DatabaseError as error:
                logger.warning("job %s: its lease could not be renewed: %s", job.pk, error)
            finally:
                connection.close()

    thread = threading.Thread(target=renew, name=f"lease of job {job.pk}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@app.task(name="annotator.tasks.fetch_candidates")
def fetch_candidates(pk: int) -> None:
    """Ask the model for what one request wants. The call ends in CANDIDATE_TIMEOUT_SECONDS, before the lease does."""
    request = candidates.take_request(pk)
    if request is None:
        return
    try:
        texts = source_of(request.campaign).fetch(wanted_by(request))
        if not texts:
            candidates.fail_request(request, candidates.NOTHING_NEW)
        elif request.kind == CandidateRequest.Kind.CRITIQUES:
            candidates.store_critiques(request, texts)
        else:
            candidates.store_candidates(request, texts)
    except EndpointError as error:
        logger.warning("candidate request %s: %s %s", pk, error, error.detail)
        candidates.fail_request(request, str(error))
    except Exception as error:
        logger.exception("candidate request %s failed", pk)
        candidates.release_request(request, f"Asking the model failed: {type(error).__name__}.")


@app.task(name="annotator.tasks.reconcile")
def reconcile() -> None:
    """Wake what a crash left behind, and start what is due."""
    for job in jobs.sweep_jobs():
        send(job)
    for request in candidates.sweep_requests():
        send_candidates(request)
    for run in imports.abandoned_imports():
        imports.fail_import(run, "Its job ended without finishing it.")
    for campaign in Campaign.objects.filter(status=Campaign.Status.ACTIVE, simulated=False):
        advance(campaign)


@app.task(name="annotator.tasks.pulse")
def pulse(queue: str) -> None:
    """Sent to each queue by beat: whoever answers is alive."""
    jobs.record_pulse(queue)


class Reporter:
    """Writes a job's progress, not too often. Raises `LeaseLost` or `JobCancelled` where the work should stop."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.last = 0.0

    def __call__(self, progress: Progress, /) -> None:
        if time.monotonic() - self.last >= REPORT_EVERY:
            jobs.report_progress(self.job, done=progress.done, total=progress.total, note=progress.note)
            self.last = time.monotonic()


def import_file(job: Job) -> None:
    run = ImportRun.objects.select_related("campaign", "created_by").get(pk=job.params["import_run"])
    report = Reporter(job)
    counts = imports.run_import(run, lambda done, total, note: report(Progress(done, total, note)))
    with transaction.atomic():
        imports.publish_import(run, counts)
        jobs.finish_job(job, counts)


def undo_import(job: Job) -> None:
    imports.finish_undo(ImportRun.objects.get(pk=job.params["import_run"]))
    jobs.finish_job(job, {})


def grade(job: Job) -> None:
    graded = grading.grade_pending(job.campaign, Reporter(job))
    jobs.finish_job(job, {"graded": graded})


def pretrain(job: Job) -> None:
    campaign = job.campaign
    folder = prm.checkpoint_folder(job, 0)
    metadata = prm.make_backbone(campaign, folder, Reporter(job))
    with transaction.atomic():
        checkpoint = learning.register_checkpoint(
            campaign, kind=Checkpoint.Kind.BACKBONE, number=0, folder=folder, metadata=metadata
        )
        learning.promote(checkpoint)
        jobs.finish_job(job, {"checkpoint": checkpoint.number})


def score(job: Job) -> None:
    """Score what the checkpoint in service has not seen; chunks that are written stay written."""
    checkpoint = job.campaign.checkpoint
    assert checkpoint is not None, "scoring is enqueued once there is a checkpoint"
    scored = 0
    for done, total in prm.score_pool(checkpoint):
        scored = done
        jobs.report_progress(job, done=done, total=total, note=f"{done} of {total} solutions")
    with transaction.atomic():
        learning.mark_pool_scored(checkpoint)
        jobs.finish_job(job, {"checkpoint": checkpoint.number, "solutions": scored})


def retrain(job: Job) -> None:
    """Train a candidate on all labels, judge it on the audit stream, and let the gate decide."""
    campaign = job.campaign
    labelings = training_labelings(campaign)
    labeled = prm.labeled_solutions(labelings)
    number = learning.next_checkpoint_number(campaign)
    folder = prm.checkpoint_folder(job, number)
    backbone = Checkpoint.objects.filter(campaign=campaign, kind=Checkpoint.Kind.BACKBONE).latest("number")
    report = Reporter(job)
    try:
        metadata = prm.train(backbone, labeled, folder, report)
    except NotEnoughData as error:
        jobs.finish_job(job, {"labelings": len(labeled), "skipped": str(error)})
        return
    jobs.report_progress(job, done=0, total=0, note="judging the candidate on the audit stream")
    metrics, gate = prm.judge_candidate(folder, backbone, labeled, prm.labeled_solutions(audit_labelings(campaign)))
    with transaction.atomic():
        checkpoint = learning.register_checkpoint(
            campaign,
            kind=Checkpoint.Kind.HEADS,
            number=number,
            folder=folder,
            metadata=metadata,
            parent=backbone,
            labelings=len(labeled),
            judged_steps=sum(label is not None for solution in labeled for label in solution.labels),
        )
        promoted = learning.pass_gate(checkpoint, metrics=metrics, gate=gate)
        jobs.finish_job(job, {"labelings": len(labeled), "checkpoint": number, "promoted": promoted})


def release(job: Job) -> None:
    """Close the round and serve the next one: audit stream and random arm first, then what the checkpoint asks for."""
    campaign = job.campaign
    checkpoint = campaign.checkpoint
    trained = checkpoint is not None and checkpoint.kind == Checkpoint.Kind.HEADS
    policy = parse_policy(campaign.selection_policy)
    size = campaign.generation_size
    items = generations.plan_stream(campaign, QueueItem.Arm.AUDIT, campaign.audit_per_generation)
    drawn = generations.plan_stream(
        campaign, QueueItem.Arm.RANDOM, math.ceil(size * policy.random_share) if trained else size
    )
    items += drawn
    if checkpoint is not None and trained:
        taken = {item.solution_id for item in drawn}
        items += prm.select_active(campaign, checkpoint, size - len(drawn), without=taken, seed=job.pk)
    with transaction.atomic():
        generation = generations.open_generation(campaign, items, checkpoint=checkpoint)
        jobs.finish_job(job, {"generation": generation.number, "items": generation.queue_items.count()})


def rewant(job: Job) -> None:
    changed = queue.rewant(job.campaign)
    jobs.finish_job(job, {"items": changed})


def write_dataset(job: Job) -> None:
    draft = datasets.write_draft(job.campaign, include_targeted=job.params.get("include_targeted", False))
    with transaction.atomic():
        version = datasets.publish(draft, actor=job.created_by)
        jobs.finish_job(job, {"number": version.number})


def _give_up(job: Job, error: str) -> None:
    """An import that ends early takes its rows back."""
    if job.kind == Job.Kind.IMPORT:
        run = ImportRun.objects.filter(pk=job.params["import_run"]).first()
        if run is not None:
            imports.fail_import(run, error)


HANDLERS: dict[Job.Kind, Callable[[Job], None]] = {
    Job.Kind.IMPORT: import_file,
    Job.Kind.UNDO: undo_import,
    Job.Kind.GRADE: grade,
    Job.Kind.PRETRAIN: pretrain,
    Job.Kind.SCORE: score,
    Job.Kind.RETRAIN: retrain,
    Job.Kind.RELEASE: release,
    Job.Kind.DATASET: write_dataset,
    Job.Kind.REWANT: rewant,
}
