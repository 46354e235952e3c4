from __future__ import annotations

from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.models import Job
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def test_scoring_starts_with_pretraining_where_there_is_no_checkpoint(cast: Cast, url: Url) -> None:
    assert cast.manager.post(url("jobs/"), {"do": "score"})["Location"] == url()
    assert Job.objects.get().kind == Job.Kind.PRETRAIN


def test_the_same_work_is_not_started_twice(cast: Cast, url: Url) -> None:
    cast.manager.post(url("jobs/"), {"do": "score"})
    response = cast.manager.post(url("jobs/"), {"do": "score"})
    assert response.status_code == 409
    assert "already going to pretrain" in response.content.decode()
    assert Job.objects.count() == 1


def test_retraining_without_a_backbone_is_refused_in_words(cast: Cast, url: Url) -> None:
    response = cast.manager.post(url("jobs/"), {"do": "retrain"})
    assert response.status_code == 409
    assert "not ready yet" in response.content.decode()


def test_an_unknown_wish_is_refused(cast: Cast, url: Url) -> None:
    assert cast.manager.post(url("jobs/"), {"do": "everything"}).status_code == 400


def test_a_job_is_cancelled_once(cast: Cast, url: Url) -> None:
    cast.active()
    job = Job.objects.get(kind=Job.Kind.PRETRAIN)
    assert cast.manager.post(url(f"jobs/{job.pk}/cancel/"))["Location"] == url("jobs/")
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert cast.manager.post(url(f"jobs/{job.pk}/cancel/")).status_code == 409


def test_what_was_cancelled_is_tried_again_by_hand(cast: Cast, url: Url) -> None:
    cast.active()
    job = Job.objects.get(kind=Job.Kind.PRETRAIN)
    cast.manager.post(url(f"jobs/{job.pk}/cancel/"))
    retry = url(f"jobs/{job.pk}/retry/")
    for page in (url(), url("jobs/")):
        assert f'formaction="{retry}"' in cast.manager.get(page).content.decode()
    assert cast.manager.post(retry)["Location"] == url("jobs/")
    assert Job.objects.filter(kind=Job.Kind.PRETRAIN, state=Job.State.QUEUED).exists()
    assert cast.manager.post(retry).status_code == 409


def test_the_live_part_is_the_same_while_nothing_moves(cast: Cast, url: Url) -> None:
    """It holds no token of its own, so the page can tell that there is nothing to swap in."""
    cast.active()
    client = cast.manager
    assert client.get(url("jobs/live/")).content == client.get(url("jobs/live/")).content


def test_the_list_is_paged_and_costs_the_same_when_full(cast: Cast, url: Url) -> None:
    client = cast.manager

    def ended(count: int) -> None:
        Job.objects.bulk_create(
            Job(
                campaign=cast.campaign,
                kind=Job.Kind.SCORE,
                queue="gpu",
                state=Job.State.DONE,
                finished_at=timezone.now(),
                created_by=cast.members["manager"].user,
            )
            for _ in range(count)
        )

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(url("jobs/"))
        return len(queries)

    ended(2)
    few = cost()
    ended(60)
    assert cost() == few
    assert "51–62 of 62" in client.get(url("jobs/?page=2")).content.decode()
