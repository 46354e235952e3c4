"""Real worker processes: what they do, and what is left of it when one is killed."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from annotator.actions import jobs
from annotator.actions.campaigns import activate_campaign
from annotator.celery_app import app
from annotator.dispatch import send
from annotator.models import Campaign, Checkpoint, Job, SolutionScore, WorkerPulse
from prm_backend.synthetic import generate_rows
from tests.annotator.cast import import_rows, make_campaign, make_user
from tests.services import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(600)]

LASTING = {"PRETRAIN_STEPS": "100000", "JOB_LEASE_SECONDS": "6"}
QUICK = {"PRETRAIN_STEPS": "10", "JOB_LEASE_SECONDS": "6"}


@pytest.fixture
def campaign() -> Campaign:
    campaign = make_campaign(generation_size=10, audit_per_generation=2)
    import_rows(campaign, generate_rows(problems=250, solutions_per_problem=1, seed=5), labels="oracle")
    return activate_campaign(campaign, actor=None)


def until(condition: Callable[[], Any], worker: Worker, *, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, worker.log
        time.sleep(0.1)


def test_a_killed_workers_job_is_finished_by_another_without_doubles(
    campaign: Campaign, celery_worker: Callable[..., Worker]
) -> None:
    job = campaign.jobs.get(kind=Job.Kind.PRETRAIN)
    send(job)
    first = celery_worker("gpu", **LASTING)
    until(lambda: Job.objects.get(pk=job.pk).done > 0, first)
    first.kill()
    assert Job.objects.get(pk=job.pk).state == "running"
    assert not Checkpoint.objects.exists()

    second = celery_worker("default", "gpu", **QUICK)
    until(lambda: Job.objects.filter(pk=job.pk, lease_until__lte=timezone.now()).exists(), second)
    assert job in jobs.sweep_jobs(resend_after=datetime.timedelta(0))
    send(job)
    send(job)
    until(lambda: campaign.jobs.filter(kind=Job.Kind.SCORE, state="done").exists(), second)
    job.refresh_from_db()
    assert (job.state, job.attempt) == ("done", 2)
    checkpoint = Checkpoint.objects.get()
    campaign.refresh_from_db()
    assert campaign.checkpoint == checkpoint
    assert (checkpoint.path / "metadata.json").exists()
    served = campaign.solutions.exclude(split="test").count()
    assert SolutionScore.objects.filter(checkpoint=checkpoint).count() == served


def test_a_pulse_reaches_the_table(celery_worker: Callable[..., Worker]) -> None:
    worker = celery_worker("gpu")
    app.send_task("annotator.tasks.pulse", args=["gpu"], queue="gpu")
    until(lambda: WorkerPulse.objects.filter(queue="gpu").exists(), worker)


def test_a_job_is_cancelled_while_it_runs(campaign: Campaign, celery_worker: Callable[..., Worker]) -> None:
    job = campaign.jobs.get(kind=Job.Kind.PRETRAIN)
    send(job)
    worker = celery_worker("gpu", **LASTING)
    until(lambda: Job.objects.get(pk=job.pk).done > 0, worker)
    jobs.cancel_job(job, actor=make_user("mia"))
    until(lambda: Job.objects.get(pk=job.pk).state == "cancelled", worker)
    assert not Checkpoint.objects.exists()
