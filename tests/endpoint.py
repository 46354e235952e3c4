"""A stand-in for a model behind an OpenAI-compatible endpoint, on a port of its own, in a thread of the test's process.

with serving() as endpoint:
    endpoint.answers = ["First candidate.", "Second candidate."]      # or a function of the request
    settings.CANDIDATE_ENDPOINT_URL = endpoint.url

python -m tests.endpoint 8080 "First candidate." "Second candidate."  serves them until Ctrl-C
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass
class ModelEndpoint:
    """What the endpoint answers, and what it was asked. Change any of it between requests."""

    port: int = 0
    answers: Sequence[str] | Callable[[Request], Sequence[str]] = ()
    """Texts of the choices: as many of them as `n` asks for, or one where `ignores_n`, a next one at each request."""
    ignores_n: bool = False
    finish_reason: str = "stop"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """Sent as it is, in place of choices."""
    before: Callable[[Request], None] = lambda request: None
    """Called before each answer; may sleep, or change what the answer will be."""
    raw: Callable[[Any, Request], None] | None = None
    """Takes the handler, in place of any answer: for what no proper server does."""
    requests: list[Request] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    """The Authorization header of each request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def choices(self, request: Request) -> list[Request]:
        texts = list(self.answers(request) if callable(self.answers) else self.answers)
        if self.ignores_n:
            texts = texts[(len(self.requests) - 1) % len(texts) :][:1]
        return [
            {"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish_reason}
            for place, text in enumerate(texts[: request.get("n", 1)])
        ]


class Handler(BaseHTTPRequestHandler):
    endpoint: ModelEndpoint

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint = self.endpoint
        endpoint.requests.append(request)
        endpoint.keys.append(self.headers.get("Authorization"))
        endpoint.before(request)
        if endpoint.raw is not None:
            endpoint.raw(self, request)
            return
        body = endpoint.body
        if self.path != "/v1/chat/completions":
            self.send_error(404)
            return
        if body is None:
            body = json.dumps({"object": "chat.completion", "choices": endpoint.choices(request)}).encode()
        self.send_response(endpoint.status)
        for name, value in {"Content-Type": "application/json", **endpoint.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.endpoint.requests.append({"GET": self.path})
        self.send_error(405)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the tests look at `requests`."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone away is no news."""


@contextlib.contextmanager
def serving(port: int = 0, **behaviour: Any) -> Iterator[ModelEndpoint]:
    endpoint = ModelEndpoint(**behaviour)
    handler = type("HandlerOfOne", (Handler,), {"endpoint": endpoint})
    server = Server(("127.0.0.1", port), handler)
    endpoint.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    with serving(int(sys.argv[1]), answers=sys.argv[2:]) as running, contextlib.suppress(KeyboardInterrupt):
        print(running.url, flush=True)
        while True:
            time.sleep(3600)
