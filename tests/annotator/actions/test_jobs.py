"""Background work: one owner at a time, nothing done twice, every job ends in a state that a person can read."""

from __future__ import annotations

import datetime
import time

import pytest
from django.db import transaction
from django.utils import timezone

from annotator.actions import jobs
from annotator.celery_app import app
from annotator.dispatch import enqueue, run_here
from annotator.errors import Conflict
from annotator.models import Campaign, ImportRun, Job
from annotator.queries.queue import silent_queues
from tests.annotator.cast import make_campaign, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


@pytest.fixture
def job(campaign: Campaign) -> Job:
    return enqueue(Job.Kind.GRADE, campaign, wake=False)


def take(job: Job) -> Job:
    taken = jobs.take_job(job.pk)
    assert taken is not None
    return taken


def run_out(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


def state(job: Job) -> str:
    return Job.objects.get(pk=job.pk).state


def test_a_job_is_taken_once(job: Job) -> None:
    assert take(job).state == "running"
    assert jobs.take_job(job.pk) is None


def test_the_same_work_is_not_enqueued_twice(campaign: Campaign, job: Job) -> None:
    with pytest.raises(Conflict, match="already going to grade final answers"):
        enqueue(Job.Kind.GRADE, campaign)
    jobs.finish_job(take(job), {})
    assert enqueue(Job.Kind.GRADE, campaign, wake=False).pk != job.pk


def test_a_job_whose_worker_fell_silent_is_taken_over_and_the_former_owner_stops(job: Job) -> None:
    former = take(job)
    run_out(job)
    owner = take(job)
    assert owner.attempt == 2
    with pytest.raises(jobs.LeaseLost):
        jobs.report_progress(former, done=1, total=2)
    with pytest.raises(jobs.LeaseLost):
        jobs.finish_job(former, {"from": "the grave"})
    jobs.finish_job(owner, {"fine": True})
    assert Job.objects.get(pk=job.pk).result == {"fine": True}


def test_a_result_is_rolled_back_when_the_lease_was_lost_meanwhile(job: Job) -> None:
    former = take(job)
    run_out(job)
    take(job)

    def write_as_a_ghost() -> None:
        with transaction.atomic():
            Campaign.objects.update(name="written by a ghost")
            jobs.finish_job(former, {})

    with pytest.raises(jobs.LeaseLost):
        write_as_a_ghost()
    assert not Campaign.objects.filter(name="written by a ghost").exists()


def test_progress_keeps_the_lease(job: Job) -> None:
    owner = take(job)
    run_out(job)
    jobs.report_progress(owner, done=1, total=4, note="one of four")
    assert jobs.take_job(job.pk) is None
    assert Job.objects.get(pk=job.pk).fraction == 0.25


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_at_its_next_report(campaign: Campaign, job: Job) -> None:
    mia = make_user("mia")
    jobs.cancel_job(job, actor=mia)
    assert state(job) == "cancelled"
    assert jobs.take_job(job.pk) is None
    running = take(enqueue(Job.Kind.GRADE, campaign, wake=False))
    jobs.cancel_job(running, actor=mia)
    with pytest.raises(jobs.JobCancelled):
        jobs.report_progress(running, done=1, total=2)
    jobs.end_cancelled(running)
    assert state(running) == "cancelled"
    with pytest.raises(Conflict, match="already ended"):
        jobs.cancel_job(running, actor=mia)


def test_the_sweep_wakes_what_waits_and_what_fell_silent(campaign: Campaign, job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(sent_at=None)
    assert jobs.sweep_jobs() == [job]
    Job.objects.filter(pk=job.pk).update(sent_at=timezone.now())
    assert jobs.sweep_jobs() == []
    take(job)
    run_out(job)
    Job.objects.filter(pk=job.pk).update(sent_at=timezone.now() - datetime.timedelta(minutes=1))
    assert jobs.sweep_jobs() == [job]


def test_a_job_that_kills_its_workers_fails_in_the_end(job: Job) -> None:
    for _ in range(Job.MAX_ATTEMPTS):
        take(job)
        run_out(job)
    jobs.sweep_jobs()
    assert state(job) == "failed"
    assert "stopped 5 times" in Job.objects.get(pk=job.pk).error


def test_a_cancelled_job_whose_worker_died_ends_as_cancelled(job: Job) -> None:
    jobs.cancel_job(take(job), actor=make_user("mia"))
    run_out(job)
    jobs.sweep_jobs()
    assert state(job) == "cancelled"


def test_a_fault_in_a_job_that_was_to_be_cancelled_ends_it(job: Job) -> None:
    running = take(job)
    jobs.cancel_job(running, actor=make_user("mia"))
    jobs.release_job(running, "OSError: no space")
    assert state(job) == "cancelled"


def test_failed_work_can_be_tried_again(job: Job) -> None:
    mia = make_user("mia")
    with pytest.raises(Conflict):
        jobs.retry_job(job, actor=mia)
    running = take(job)
    jobs.fail_job(running, "no disk")
    running.refresh_from_db()
    again = jobs.retry_job(running, actor=mia)
    assert (again.kind, again.state) == (job.kind, "queued")


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_silent_for_long_keeps_its_lease(job: Job, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotator import tasks

    settings.JOB_LEASE_SECONDS = 1
    seen = []

    def think(job: Job) -> None:
        time.sleep(2.5)
        seen.append(jobs.take_job(job.pk))
        jobs.finish_job(job, {})

    monkeypatch.setitem(tasks.HANDLERS, Job.Kind.GRADE, think)
    assert run_here(job).attempt == 1
    assert seen == [None]


def test_an_unexpected_fault_is_tried_again_then_fails_with_its_words(
    job: Job, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from annotator import tasks

    def fail(_: Job) -> None:
        raise OSError("the disk is full")

    monkeypatch.setitem(tasks.HANDLERS, Job.Kind.GRADE, fail)
    monkeypatch.setattr("annotator.dispatch.time.sleep", lambda _: None)
    ended = run_here(job)
    assert (ended.state, ended.attempt, ended.error) == ("failed", 5, "OSError: the disk is full")


def test_a_job_delivered_twice_runs_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotator import tasks

    runs = []

    def count(job: Job) -> None:
        runs.append(job.pk)
        jobs.finish_job(job, {})

    monkeypatch.setitem(tasks.HANDLERS, Job.Kind.GRADE, count)
    for _ in range(2):
        app.tasks["annotator.tasks.run_job"].apply(args=(job.pk,), throw=True)
    assert runs == [job.pk]


def test_a_dead_broker_loses_nothing(
    campaign: Campaign, django_capture_on_commit_callbacks, monkeypatch, caplog
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(app, "send_task", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        job = enqueue(Job.Kind.GRADE, campaign)
    assert state(job) == "queued"
    assert "the broker cannot be reached" in caplog.text


def test_an_import_that_no_job_will_finish_is_ended(campaign: Campaign) -> None:
    run = ImportRun.objects.create(campaign=campaign, file_name="lost.jsonl", state="writing")
    ImportRun.objects.update(created_at=timezone.now() - datetime.timedelta(hours=1))
    app.loader.import_default_modules()
    app.tasks["annotator.tasks.reconcile"].apply(throw=True)
    run.refresh_from_db()
    assert run.state == "failed"


def test_silent_queues_are_those_without_pulse_or_running_job(campaign: Campaign, job: Job) -> None:
    now = timezone.now()
    assert silent_queues(now) == ["default", "gpu"]
    jobs.record_pulse("gpu")
    assert silent_queues(timezone.now()) == ["default"]
    take(job)
    assert silent_queues(timezone.now()) == []
    assert silent_queues(now + datetime.timedelta(hours=1)) == ["default", "gpu"]
