"""Candidate steps and critiques from a model behind an OpenAI-compatible endpoint: vLLM, SGLang, llama.cpp, OpenAI.

The dialects differ, and this module bends to them: some servers ignore `n` or refuse it, some know no `seed` or no
`stop`, some want `max_completion_tokens`; a server that names the parameter it refuses is asked again without it. What
comes back is a stranger's text: bounded in size and time, cleaned, and cut to one step (see `prm_backend.steptext`).
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from prm_backend.errors import EndpointError
from prm_backend.steptext import one_critique, one_step

CONNECT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 8 << 20
MAX_TRIES = 3
BACKOFF_SECONDS = 0.5
PARALLEL_REQUESTS = 4

STEP_INSTRUCTION = """\
You solve a problem together with somebody, one step at a time. Each step is one single idea that can be checked in \
half a minute, in a few sentences at most, with mathematics in LaTeX. Write the next step and nothing else: no \
heading, no number, no steps after it. Where your step completes the solution, end it with an empty line, a line \
"# Answer", another empty line, and the final answer alone."""

CRITIQUE_INSTRUCTION = """\
You are shown a problem, the steps of a solution, and one further step that is wrong. Say in one to three sentences \
what is wrong with that last step, with mathematics in LaTeX. Do not solve the problem, and write nothing else."""


class CandidateSource(Protocol):
    """Where candidates come from. Both give at most `count` distinct texts, perhaps none. Raise `EndpointError`."""

    def next_steps(self, problem: str, steps: Sequence[str], *, count: int, seed: int) -> list[str]:
        """Candidates for the step after `steps`; one that ends the solution closes with "# Answer" and the answer."""

    def critiques(self, problem: str, steps: Sequence[str], wrong_step: str, *, count: int, seed: int) -> list[str]:
        """What is wrong with `wrong_step`, which follows `steps`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of the model; `cut` where it ran into the limit on tokens."""

    text: str
    cut: bool


@dataclass(frozen=True, slots=True)
class EndpointSource:
    """A model at `base_url` (up to and including /v1). A call ends within `total_seconds`, retries and all, and gives
    what has come by then. Redirects are not followed: they would carry the key to another host. Raises `EndpointError`
    at once where the address or the key cannot be used."""

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    temperature: float = 1.0
    max_tokens: int = 2048
    total_seconds: float = 60.0

    def __post_init__(self) -> None:
        if problem := problem_of_address(self.base_url):
            raise EndpointError(problem, permanent=True)
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise EndpointError(
                "The key of the model endpoint holds characters that no key has, such as a space.", permanent=True
            )

    def next_steps(self, problem: str, steps: Sequence[str], *, count: int, seed: int) -> list[str]:
        number = len(steps) + 1
        task = f"{_situation(problem, steps)}\n\nWrite step {number}."
        choices = self._sample(STEP_INSTRUCTION, task, count=count, seed=seed, stop=[f"\nStep {number + 1}:"])
        return distinct((one_step(choice.text, number=number, cut=choice.cut) for choice in choices), count)

    def critiques(self, problem: str, steps: Sequence[str], wrong_step: str, *, count: int, seed: int) -> list[str]:
        task = f"{_situation(problem, steps)}\n\nThe wrong step:\n{wrong_step}\n\nWhat is wrong with it?"
        choices = self._sample(CRITIQUE_INSTRUCTION, task, count=count, seed=seed)
        return distinct((one_critique(choice.text) for choice in choices if not choice.cut), count)

    def complete(
        self, messages: Sequence[Mapping[str, str]], *, count: int, seed: int, stop: Sequence[str] = ()
    ) -> list[Choice]:
        """Up to `count` answers to a chat, as the model gave them; equal ones stay. Raises `EndpointError`."""
        payload = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": self.max_tokens,
            "n": count,
            "seed": seed,
            "temperature": self.temperature,
        }
        if stop:
            payload["stop"] = list(stop)
        # A thread of its own, because the caller's may run an event loop already (a notebook, a browser test).
        with ThreadPoolExecutor(max_workers=1) as pool:
            choices = pool.submit(asyncio.run, self._gather(payload)).result()
        return choices[-count:]  # where equal ones were asked for again, the new ones count

    def _sample(self, instruction: str, task: str, *, count: int, seed: int, stop: Sequence[str] = ()) -> list[Choice]:
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": task}]
        return self.complete(messages, count=count, seed=seed, stop=stop)

    async def _gather(self, payload: dict[str, Any]) -> list[Choice]:
        """Ask for all at once; ask again, side by side, for those that did not come. Some servers ignore `n`, and old
        ones give every choice the same seed. asyncio's timeout bounds also a server that trickles."""
        deadline = time.monotonic() + self.total_seconds
        count, choices = payload["n"], list[Choice]()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        client = httpx2.AsyncClient(
            headers=headers,
            timeout=httpx2.Timeout(self.total_seconds, connect=CONNECT_SECONDS, pool=None),
            limits=httpx2.Limits(max_connections=PARALLEL_REQUESTS),
            follow_redirects=False,
        )

        async def ask_one(asked: dict[str, Any], place: int) -> None:
            changed = {"n": 1, "seed": payload["seed"] + place}
            again = asked | {key: value for key, value in changed.items() if key in asked}
            found, _ = await self._ask(client, again, deadline)
            choices.extend(found)

        try:
            async with asyncio.timeout(self.total_seconds), client:
                found, asked = await self._ask(client, payload, deadline)
                choices.extend(found)
                known = len({choice.text for choice in found})
                missing = count - known if known <= 1 else count - len(found)
                more = (ask_one(asked, place) for place in range(count - missing, count))
                # What came counts, also where the rest failed.
                await asyncio.gather(*more, return_exceptions=True)
        except TimeoutError:
            if not choices:
                message = f"The model endpoint did not answer within {self.total_seconds:g} s."
                raise EndpointError(message, permanent=False) from None
        return choices

    async def _ask(
        self, client: httpx2.AsyncClient, payload: dict[str, Any], deadline: float
    ) -> tuple[list[Choice], dict[str, Any]]:
        """The choices, and the request as the server took it. What may pass (busy, broken, unreachable) is tried again
        while there is time."""
        tries = 0
        while True:
            try:
                status, headers, body = await self._post(client, payload)
                simpler = simpler_request(payload, body) if status in (400, 422) else None
                if simpler is None:
                    return _choices(status, headers, body, hide=self.api_key), payload
                payload = simpler
            except EndpointError as error:
                tries += 1
                wait = BACKOFF_SECONDS * 2 ** (tries - 1) if error.retry_after_s is None else error.retry_after_s
                if error.permanent or tries == MAX_TRIES or time.monotonic() + wait >= deadline:
                    raise
                await asyncio.sleep(wait)

    async def _post(self, client: httpx2.AsyncClient, payload: dict[str, Any]) -> tuple[int, httpx2.Headers, bytes]:
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        body = bytearray()
        try:
            async with client.stream("POST", url, json=payload) as response:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise EndpointError("The model endpoint's answer is far too long.", permanent=True)
                return response.status_code, response.headers, bytes(body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise EndpointError(
                "The model endpoint cannot be reached.", permanent=False, detail=redacted(str(error), self.api_key)
            ) from error
        except httpx2.TransportError as error:
            raise EndpointError(
                "The connection to the model endpoint broke.",
                permanent=False,
                detail=redacted(str(error), self.api_key),
            ) from error


def problem_of_address(url: str) -> str:
    """What is wrong with an endpoint's address, as a sentence; "" where nothing is. The address itself is not repeated:
    it may hold a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        httpx2.URL(url)
    except (ValueError, httpx2.InvalidURL):
        return "The address of the model endpoint is malformed."
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "The address of the model endpoint has to start with http:// or https:// and a host."
    if parts.username or parts.password:
        return "The address of the model endpoint holds a name or a password; the key has a place of its own."
    if parts.query or parts.fragment or any(character.isspace() for character in url):
        return "The address of the model endpoint ends after the path, usually with /v1."
    return ""


def simpler_request(payload: dict[str, Any], body: bytes) -> dict[str, Any] | None:
    """The request without what the server refused; None where nothing is left to leave out. OpenAI names the parameter
    in `error.param`. Where none is named, `n` goes first (llama.cpp long knew one choice only), then all that may go.
    """
    try:
        named = json.loads(body)["error"]["param"]
    except (ValueError, RecursionError, KeyError, TypeError):
        named = None
    if named == "max_tokens" and "max_tokens" in payload:
        rest = {key: value for key, value in payload.items() if key != "max_tokens"}
        return {**rest, "max_completion_tokens": payload["max_tokens"]}
    optional = {"n", "seed", "stop", "temperature"} & payload.keys()
    if named is not None and named not in optional:
        return None
    left_out = {named} if named in optional else {"n"} if payload.get("n", 1) > 1 else optional
    return {key: value for key, value in payload.items() if key not in left_out} if left_out else None


def distinct(texts: Iterable[str], count: int) -> list[str]:
    """The first `count` texts that are neither empty nor, but for white space, there already."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(" ".join(text.split()), text)
    first.pop("", None)
    return list(first.values())[:count]


def redacted(text: str, secret: str) -> str:
    return (text.replace(secret, "…") if secret else text)[:500]


def _situation(problem: str, steps: Sequence[str]) -> str:
    so_far = "\n\n".join(f"Step {number}: {step}" for number, step in enumerate(steps, start=1))
    return f"The problem:\n{problem}\n\nThe steps so far:\n{so_far or '(none)'}"


def _choices(status: int, headers: httpx2.Headers, body: bytes, *, hide: str) -> list[Choice]:
    if status != 200:
        raise _refusal(status, headers, redacted(body[:2000].decode(errors="replace"), hide))
    try:
        return [_choice(choice) for choice in json.loads(body)["choices"]]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise EndpointError(
            "The model endpoint does not answer as an OpenAI-compatible server does.",
            permanent=True,
            detail=redacted(body[:2000].decode(errors="replace"), hide),
        ) from None


def _choice(choice: dict[str, Any]) -> Choice:
    content = choice["message"].get("content")
    return Choice(content if isinstance(content, str) else "", cut=choice.get("finish_reason") == "length")


_STATUS_WORDS = {
    401: "does not accept its key",
    403: "does not accept its key",
    404: "knows no such model, or has no chat completions at its address",
    408: "is too slow",
    429: "is busy",
}


def _refusal(status: int, headers: httpx2.Headers, detail: str) -> EndpointError:
    if 300 <= status < 400:
        words = "points to another address, which is not followed"
    else:
        words = _STATUS_WORDS.get(status, "is out of order" if status >= 500 else "refuses the request")
    permanent = status < 500 and status not in (408, 429)
    return EndpointError(
        f"The model endpoint {words} (HTTP {status}).",
        permanent=permanent,
        detail=detail,
        retry_after_s=_retry_after(headers.get("Retry-After", "")),
    )


def _retry_after(value: str) -> float | None:
    """Seconds to wait (RFC 9110 §10.2.3: a number or a date), None where nothing sensible is said."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None
