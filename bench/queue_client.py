"""Labelers at work, over HTTP as their browsers speak it: kept-open connections, cookies, CSRF header; no think time.

    python -m bench.queue_client < plan.json > result.json

The plan is the fields of `Plan`. An item is `next` and one `submit` with all ratings, or (`path` "page") `next`, one
request for each rating, and `submit`, as the labeling page does it. One event loop and hand-made requests: a
measurement on two cores must not measure its own client. A process of its own, so that its CPU time is known.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Plan:
    """`labelers` have a name, a session and a CSRF token each. They stop after `seconds`, or after `items` each; with
    `in_turn` only one of them works at any time."""

    host: str
    port: int
    slug: str
    labelers: list[dict[str, str]]
    seconds: float = 3600
    items: int = 1_000_000
    path: str = "submit"
    in_turn: bool = False


@dataclass
class Result:
    """`done` has a row for each finished item: labeler, then milliseconds of next, of submit, and of each save."""

    done: list[list[float]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    ratings: int = 0
    seconds: float = 0
    cpu_seconds: float = 0


class Browser:
    """One labeler's connection. A connection that the server closed is opened again and the request repeated, as a
    browser does; every request of the labeling page may be repeated."""

    def __init__(self, plan: Plan, labeler: dict[str, str], result: Result) -> None:
        origin = f"http://{plan.host}:{plan.port}"
        self.plan, self.result = plan, result
        self.head = (
            f"Host: {plan.host}:{plan.port}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Stepmark bench\r\n"
            f"Accept: application/json\r\nAccept-Language: en-GB,en;q=0.9\r\nContent-Type: application/json\r\n"
            f"Origin: {origin}\r\nReferer: {origin}/c/{plan.slug}/label/\r\nSec-Fetch-Site: same-origin\r\n"
            f"Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\nX-CSRFToken: {labeler['csrf']}\r\n"
            f"Cookie: csrftoken={labeler['csrf']}; sessionid={labeler['session']}\r\n"
        )
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: dict[str, Any]) -> tuple[dict[str, Any], float]:
        """The answer's JSON and how long it took in ms. Raises `Refused` for anything but a 200."""
        content = json.dumps(body).encode()
        request = (
            f"POST /api/v1/{path} HTTP/1.1\r\n{self.head}Content-Length: {len(content)}\r\n\r\n".encode() + content
        )
        started = time.perf_counter()
        try:
            status, answer = await asyncio.wait_for(self.exchange(request), ANSWER_SECONDS)
        except (OSError, EOFError):
            self.result.reconnects += 1
            self.close()
            status, answer = await asyncio.wait_for(self.exchange(request), ANSWER_SECONDS)
        elapsed = 1000 * (time.perf_counter() - started)
        self.result.statuses[status] += 1
        if status != 200:
            raise Refused(status, answer)
        return json.loads(answer), elapsed

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.plan.host, self.plan.port)
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        status, length = int(head[9:12]), head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        answer = await self.reader.readexactly(int(length or 0))
        if b"connection: close" in head:
            self.close()
        return status, answer

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Refused(Exception):
    def __init__(self, status: int, answer: bytes) -> None:
        try:
            code = json.loads(answer)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            code = "no JSON"
        super().__init__(f"{status} {code}")


async def do_item(browser: Browser, plan: Plan) -> list[float] | None:
    """Label one solution. Returns the times of next, submit and the saves; None when the queue is empty."""
    answer, next_ms = await browser.post(f"campaigns/{plan.slug}/next/", {"ahead": False})
    if answer["item"] is None:
        browser.result.refusals[f"empty: {answer['empty']['code']}"] += 1
        return None
    place = f"assignments/{answer['item']['assignment']}"
    path = [completion for completion in answer["item"]["completions"] if completion["index"] == 0]
    acts = [rate(completion["id"]) for completion in sorted(path, key=lambda completion: completion["step"])]
    saves = []
    if plan.path == "page":
        saves = [(await browser.post(f"{place}/acts/", {"acts": [act]}))[1] for act in acts]
    _, submit_ms = await browser.post(
        f"{place}/submit/",
        {
            "client_id": str(uuid.uuid4()),
            "finish_reason": "solution",
            "wall_ms": 9000,
            "active_ms": 9000,
            "acts": [] if saves else acts,
        },
    )
    browser.result.ratings += len(acts)
    return [next_ms, submit_ms, *saves]


def rate(completion: int) -> dict[str, Any]:
    return {
        "client_id": str(uuid.uuid4()),
        "kind": "rate",
        "completion": completion,
        "value": 1,
        "flagged": False,
        "active_ms": 1000,
        "wall_ms": 1000,
    }


async def work(number: int, browser: Browser, plan: Plan, deadline: float, turn: asyncio.Lock) -> None:
    done = 0
    while done < plan.items and time.perf_counter() < deadline:
        try:
            if plan.in_turn:
                async with turn:
                    times = await do_item(browser, plan)
            else:
                times = await do_item(browser, plan)
        except Refused as refused:
            browser.result.refusals[str(refused)] += 1
            continue
        if times is None:
            break
        browser.result.done.append([number, *times])
        done += 1
    browser.close()


async def run(plan: Plan) -> Result:
    result = Result()
    started, cpu, turn = time.perf_counter(), os.times(), asyncio.Lock()
    browsers = [Browser(plan, labeler, result) for labeler in plan.labelers]
    deadline = started + plan.seconds
    await asyncio.gather(*(work(number, browser, plan, deadline, turn) for number, browser in enumerate(browsers)))
    result.seconds = time.perf_counter() - started
    result.cpu_seconds = os.times().user + os.times().system - cpu.user - cpu.system
    return result


if __name__ == "__main__":
    json.dump(vars(asyncio.run(run(Plan(**json.load(sys.stdin))))), sys.stdout)
