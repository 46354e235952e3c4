"""Candidates from an OpenAI-compatible endpoint: every dialect and every failure comes from a real HTTP server."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from prm_backend.errors import EndpointError
from prm_backend.sampling import MAX_RESPONSE_BYTES, EndpointSource, distinct
from tests.endpoint import ModelEndpoint, Request, serving

KEY = "sk-very-secret"


@pytest.fixture
def endpoint(model_endpoint: ModelEndpoint) -> ModelEndpoint:
    model_endpoint.answers = [f"Candidate {number}." for number in range(20)]
    return model_endpoint


def source(endpoint: ModelEndpoint, **more: Any) -> EndpointSource:
    return EndpointSource(**{"base_url": endpoint.url, "model": "tiny", "api_key": KEY, "total_seconds": 5.0, **more})


def steps_of(endpoint: ModelEndpoint, count: int = 3, **more: Any) -> list[str]:
    return source(endpoint, **more).next_steps("What is 1+1?", ["Think."], count=count, seed=7)


def refusal_of(endpoint: ModelEndpoint, **more: Any) -> EndpointError:
    with pytest.raises(EndpointError) as refused:
        steps_of(endpoint, **more)
    assert KEY not in f"{refused.value!s}{refused.value!r}{refused.value.detail}{refused.value.__cause__!r}"
    return refused.value


def test_one_request_brings_all_candidates(endpoint: ModelEndpoint) -> None:
    assert steps_of(endpoint) == ["Candidate 0.", "Candidate 1.", "Candidate 2."]
    [request] = endpoint.requests
    assert (request["model"], request["n"], request["seed"], request["temperature"]) == ("tiny", 3, 7, 1.0)
    assert request["messages"][0]["role"] == "system"
    assert "What is 1+1?" in request["messages"][1]["content"]
    assert "Step 1: Think." in request["messages"][1]["content"]
    assert endpoint.keys == [f"Bearer {KEY}"]


def test_without_a_key_no_authorization_is_sent(endpoint: ModelEndpoint) -> None:
    steps_of(endpoint, api_key="")
    assert endpoint.keys == [None]


def test_critiques_are_about_the_wrong_step(endpoint: ModelEndpoint) -> None:
    found = source(endpoint).critiques("What is 1+1?", ["Think."], "It is 3.", count=2, seed=1)
    assert found == ["Candidate 0.", "Candidate 1."]
    assert "It is 3." in endpoint.requests[0]["messages"][1]["content"]


def test_a_server_that_ignores_n_is_asked_for_each_candidate_with_a_seed_of_its_own(endpoint: ModelEndpoint) -> None:
    endpoint.ignores_n = True
    assert len(steps_of(endpoint)) == 3
    assert [request["n"] for request in endpoint.requests] == [3, 1, 1]
    assert sorted(request["seed"] for request in endpoint.requests) == [7, 8, 9]


def test_a_server_that_gives_every_choice_the_same_seed_is_asked_again(endpoint: ModelEndpoint) -> None:
    endpoint.answers = lambda request: [f"From seed {request['seed']}."] * request["n"]
    assert sorted(steps_of(endpoint)) == ["From seed 7.", "From seed 8.", "From seed 9."]


def test_a_server_that_refuses_n_is_asked_for_one(endpoint: ModelEndpoint) -> None:
    """As llama.cpp long did, naming no parameter."""

    def refuse_n(request: Request) -> None:
        several = request.get("n", 1) > 1
        endpoint.status = 400 if several else 200
        endpoint.body = b'{"error": {"message": "Only one completion choice is allowed"}}' if several else None

    endpoint.before, endpoint.ignores_n = refuse_n, True
    found = steps_of(endpoint)
    assert len(found) == 3
    assert all("seed" in request and "temperature" in request for request in endpoint.requests)


@pytest.mark.parametrize("named", ["seed", "stop", "temperature", "max_tokens"])
def test_a_parameter_that_the_server_names_is_left_out(endpoint: ModelEndpoint, named: str) -> None:
    def refuse(request: Request) -> None:
        endpoint.status = 400 if named in request else 200
        endpoint.body = json.dumps({"error": {"param": named}}).encode() if named in request else None

    endpoint.before = refuse
    assert len(steps_of(endpoint)) == 3
    refused, taken = endpoint.requests
    assert named in refused
    assert named not in taken
    assert taken["n"] == 3
    assert taken.get("max_completion_tokens") == (2048 if named == "max_tokens" else None)


def test_a_request_that_is_refused_however_simple_is_given_up(endpoint: ModelEndpoint) -> None:
    endpoint.status, endpoint.body = 400, b'{"error": {"message": "context length exceeded"}}'
    error = refusal_of(endpoint)
    assert error.permanent
    assert str(error) == "The model endpoint refuses the request (HTTP 400)."
    assert "context length exceeded" in error.detail
    assert len(endpoint.requests) == 3


def test_what_came_counts_where_the_rest_fails(endpoint: ModelEndpoint) -> None:
    endpoint.ignores_n = True

    def fail_later(_request: Request) -> None:
        endpoint.status = 200 if len(endpoint.requests) == 1 else 403

    endpoint.before = fail_later
    assert steps_of(endpoint) == ["Candidate 0."]


def test_what_came_counts_where_the_rest_is_late(endpoint: ModelEndpoint) -> None:
    endpoint.ignores_n = True
    endpoint.before = lambda _request: time.sleep(0 if len(endpoint.requests) == 1 else 10)
    assert steps_of(endpoint, total_seconds=0.5) == ["Candidate 0."]


def test_an_answer_cut_off_by_the_limit_on_tokens_is_no_candidate(endpoint: ModelEndpoint) -> None:
    endpoint.finish_reason = "length"
    endpoint.answers = ["A whole step.\n\nThe next one is cut", "Cut in the mid"]
    assert steps_of(endpoint, count=2) == ["A whole step."]
    assert source(endpoint).critiques("p", [], "s", count=2, seed=1) == []


def test_doubles_and_empty_answers_go() -> None:
    assert distinct(["a  b", "", "a b", "c", "d"], 2) == ["a  b", "c"]


def test_content_that_is_no_text_is_no_candidate(endpoint: ModelEndpoint) -> None:
    endpoint.body = json.dumps({"choices": [{"message": {"content": None}}, {"message": {"content": "Yes."}}]}).encode()
    assert steps_of(endpoint) == ["Yes."]


def test_a_notebook_with_an_event_loop_may_call_it(endpoint: ModelEndpoint) -> None:
    async def cell() -> list[str]:
        return steps_of(endpoint)

    with ThreadPoolExecutor(1) as notebook:  # this thread may have a loop already: the browser tests' driver has one
        assert len(notebook.submit(lambda: asyncio.run(cell())).result()) == 3


# --- Failures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "says", "permanent", "requests"),
    [
        (401, "does not accept its key", True, 1),
        (403, "does not accept its key", True, 1),
        (404, "knows no such model", True, 1),
        (418, "refuses the request", True, 1),
        (429, "is busy", False, 3),
        (500, "is out of order", False, 3),
        (503, "is out of order", False, 3),
    ],
)
def test_what_may_pass_is_tried_again_and_the_rest_is_not(
    endpoint: ModelEndpoint, status: int, says: str, permanent: bool, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prm_backend.sampling.BACKOFF_SECONDS", 0.01)
    endpoint.status, endpoint.body = status, f'{{"error": "wrong key {KEY}"}}'.encode()
    error = refusal_of(endpoint)
    assert says in str(error)
    assert f"(HTTP {status})" in str(error)
    assert error.permanent is permanent
    assert len(endpoint.requests) == requests


def test_a_busy_server_is_asked_again_when_it_says(endpoint: ModelEndpoint) -> None:
    endpoint.headers = {"Retry-After": "1"}

    def recover(_request: Request) -> None:
        endpoint.status = 429 if len(endpoint.requests) == 1 else 200

    endpoint.before = recover
    started = time.monotonic()
    assert len(steps_of(endpoint)) == 3
    assert time.monotonic() - started >= 1


@pytest.mark.parametrize("later", ["60", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_server_that_is_busy_for_too_long_is_not_waited_for(endpoint: ModelEndpoint, later: str) -> None:
    endpoint.status, endpoint.headers = 429, {"Retry-After": later}
    started = time.monotonic()
    assert "is busy" in str(refusal_of(endpoint))
    assert time.monotonic() - started < 2
    assert len(endpoint.requests) == 1


def test_a_senseless_retry_after_is_ignored(endpoint: ModelEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prm_backend.sampling.BACKOFF_SECONDS", 0.01)
    endpoint.status, endpoint.headers = 503, {"Retry-After": "soon-ish"}
    refusal_of(endpoint)
    assert len(endpoint.requests) == 3


def test_a_slow_server_ends_in_time(endpoint: ModelEndpoint) -> None:
    endpoint.before = lambda _request: time.sleep(10)
    started = time.monotonic()
    error = refusal_of(endpoint, total_seconds=0.5)
    assert time.monotonic() - started < 2
    assert str(error) == "The model endpoint did not answer within 0.5 s."
    assert not error.permanent


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_a_server_that_trickles_ends_in_time(endpoint: ModelEndpoint, head: bytes) -> None:
    """Each byte comes within any read timeout; the whole never comes."""

    def trickle(handler: Any, _request: Request) -> None:
        handler.wfile.write(head)
        while True:
            handler.wfile.write(b"x")
            time.sleep(0.05)

    endpoint.raw = trickle
    started = time.monotonic()
    assert "did not answer within" in str(refusal_of(endpoint, total_seconds=0.5))
    assert time.monotonic() - started < 2


def test_a_dead_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prm_backend.sampling.BACKOFF_SECONDS", 0.01)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refusal_of(ModelEndpoint(port=unused.getsockname()[1]))
    assert str(error) == "The model endpoint cannot be reached."
    assert not error.permanent


def test_a_connection_that_breaks_is_tried_again(endpoint: ModelEndpoint) -> None:
    def hang_up(handler: Any, _request: Request) -> None:
        endpoint.raw = None
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")

    endpoint.raw = hang_up
    assert len(steps_of(endpoint)) == 3
    assert len(endpoint.requests) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"<html>Welcome to nginx</html>",
        b"[]",
        b"{}",
        b'{"choices": 3}',
        b'{"choices": [3]}',
        b'{"choices": [{"message": "text"}]}',
        b'{"choices": null}',
        b"\xff\xfe",
        b"[" * 100_000,
        gzip.compress(b'{"choices": []}', mtime=0),
    ],
    ids=lambda body: repr(body[:20]),
)
def test_an_answer_of_another_kind_is_refused(endpoint: ModelEndpoint, body: bytes) -> None:
    endpoint.body = body
    error = refusal_of(endpoint)
    assert error.permanent
    assert str(error) == "The model endpoint does not answer as an OpenAI-compatible server does."


def test_the_content_type_does_not_matter_where_the_content_is_right(endpoint: ModelEndpoint) -> None:
    endpoint.headers = {"Content-Type": "text/html"}
    assert len(steps_of(endpoint)) == 3


def test_an_endless_answer_is_not_read_to_its_end(endpoint: ModelEndpoint) -> None:
    sent = 0

    def flood(handler: Any, _request: Request) -> None:
        nonlocal sent
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while sent < 20 * MAX_RESPONSE_BYTES:
            sent += handler.wfile.write(b" " * (1 << 20))

    endpoint.raw = flood
    assert str(refusal_of(endpoint)) == "The model endpoint's answer is far too long."
    assert sent < 5 * MAX_RESPONSE_BYTES


def test_a_redirect_carries_the_key_nowhere(endpoint: ModelEndpoint) -> None:
    with serving(answers=["Stolen."]) as elsewhere:
        endpoint.status, endpoint.headers, endpoint.body = 307, {"Location": f"{elsewhere.url}/chat/completions"}, b""
        error = refusal_of(endpoint)
        assert elsewhere.requests == []
    assert error.permanent
    assert str(error) == "The model endpoint points to another address, which is not followed (HTTP 307)."


@pytest.mark.parametrize(
    "address",
    [
        "",
        "localhost:8000/v1",
        "ftp://host/v1",
        "http://",
        "http://[::1",
        "http://me:pw@host/v1",
        "http://host:port/v1",
        "http://host/v1?key=1",
        "http://host/v1#top",
        "http://host/v1 ",
        "http://host/" + "v" * 100_000,
    ],
)
def test_an_address_that_cannot_be_used(address: str) -> None:
    with pytest.raises(EndpointError, match="address of the model endpoint"):
        EndpointSource(address, "tiny")


@pytest.mark.parametrize("key", ["sk secret", "sk\nsecret", "sk-ключ", "sk\x00"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(EndpointError) as refused:
        EndpointSource("http://host/v1", "tiny", api_key=key)
    assert key not in str(refused.value)


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(EndpointSource("http://host/v1", "tiny", api_key=KEY))
