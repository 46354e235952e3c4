"""Candidates fetched by real worker processes from a real HTTP server: they come, or a sentence says why not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from annotator.actions.candidates import request_candidates
from annotator.celery_app import app
from annotator.models import CandidateRequest, Solution
from tests.annotator.cast import import_rows, make_campaign
from tests.endpoint import ModelEndpoint
from tests.services import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def endpoint(model_endpoint: ModelEndpoint) -> ModelEndpoint:
    model_endpoint.answers = ["Add them.", "Count."]
    return model_endpoint


@pytest.fixture
def solution() -> Solution:
    campaign = make_campaign(phase=1, candidate_source="endpoint", candidate_model="tiny", candidates_shown=2)
    import_rows(campaign, [{"problem": "What is 1 plus 1?", "ground_truth_answer": "2"}])
    return campaign.solutions.get()


def ask(solution: Solution) -> CandidateRequest:
    request = request_candidates(solution, None, CandidateRequest.Kind.STEPS)
    assert request is not None
    return request


def until(condition: Callable[[], Any], worker: Worker, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, worker.log
        time.sleep(0.05)


def ended(request: CandidateRequest) -> bool:
    request.refresh_from_db()
    return request.state not in CandidateRequest.UNFINISHED


def texts(solution: Solution) -> list[str]:
    return list(solution.completions.order_by("completion_index").values_list("text", flat=True))


def test_candidates_come_while_nobody_waits_in_the_web_request(
    solution: Solution, endpoint: ModelEndpoint, celery_worker: Callable[..., Worker]
) -> None:
    worker = celery_worker("default", CANDIDATE_ENDPOINT_URL=endpoint.url, CANDIDATE_ENDPOINT_KEY="sk-secret")
    released = threading.Event()
    endpoint.before = lambda _request: released.wait(60)
    request = ask(solution)
    until(lambda: endpoint.requests, worker)
    assert not ended(request)
    released.set()
    until(lambda: ended(request), worker)
    assert (request.state, texts(solution)) == ("done", ["Add them.", "Count."])
    assert endpoint.keys == ["Bearer sk-secret"]
    assert "sk-secret" not in worker.log


def test_a_dead_endpoint_ends_in_a_sentence_and_the_worker_goes_on(
    solution: Solution, celery_worker: Callable[..., Worker]
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        worker = celery_worker("default", CANDIDATE_ENDPOINT_URL=address)
        request = ask(solution)
        until(lambda: ended(request), worker, seconds=20)
    assert (request.state, request.error) == ("failed", "The model endpoint cannot be reached.")
    assert "Traceback" not in worker.log


def test_a_silent_endpoint_holds_the_worker_no_longer_than_the_limit(
    solution: Solution, endpoint: ModelEndpoint, celery_worker: Callable[..., Worker]
) -> None:
    released = threading.Event()
    endpoint.before = lambda _request: released.wait(60)
    worker = celery_worker("default", CANDIDATE_ENDPOINT_URL=endpoint.url, CANDIDATE_TIMEOUT_SECONDS="1")
    request = ask(solution)
    until(lambda: ended(request), worker, seconds=20)
    released.set()
    assert (request.state, request.error) == ("failed", "The model endpoint did not answer within 1 s.")


def test_a_killed_workers_request_is_finished_by_another_without_doubles(
    solution: Solution, endpoint: ModelEndpoint, celery_worker: Callable[..., Worker]
) -> None:
    released = threading.Event()
    endpoint.before = lambda _request: released.wait(60)
    environment = {"CANDIDATE_ENDPOINT_URL": endpoint.url, "CANDIDATE_TIMEOUT_SECONDS": "1.5"}
    first = celery_worker("default", **environment)
    request = ask(solution)
    until(lambda: endpoint.requests, first)
    first.kill()
    released.set()
    assert not ended(request)
    # Sent long ago, as far as the clock of `reconcile` goes; the lease is left to run out by itself.
    CandidateRequest.objects.update(sent_at=None)

    second = celery_worker("default", **environment)

    def reconciled() -> bool:
        app.send_task("annotator.tasks.reconcile", queue="default")
        time.sleep(0.5)
        return ended(request)

    until(reconciled, second)
    assert (request.state, request.attempt) == ("done", 2)
    assert texts(solution) == ["Add them.", "Count."]
