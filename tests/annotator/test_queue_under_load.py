"""The queue under many hands, half of which die: nobody too many on a solution, no acknowledged rating lost or doubled,
nothing stranded. Real processes on the database, and real HTTP with a web worker killed under load."""

from __future__ import annotations

import datetime
import http.client
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, connections, transaction
from django.db.models import Count, Q, QuerySet
from django.utils import timezone

from annotator.actions.campaigns import activate_campaign
from annotator.actions.labeling import store_acts
from annotator.actions.queue import claim_next
from annotator.models import Assignment, Campaign, Labeling, Membership, QueueItem, RatingEvent
from annotator.queries.queue import why_empty
from bench.queue_server import Web, web
from tests.annotator.cast import fill_pool, make_campaign, make_member, path_of, rating
from tests.conftest import url_of_test_database

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.xdist_group("browser"),  # it takes the whole machine: not beside a browser, which is timed
]

K = 2
State = Assignment.State


def open_campaign(solutions: int) -> Campaign:
    campaign = make_campaign(audit_per_generation=0, labelings_wanted=K, generation_size=solutions)
    fill_pool(campaign, train=solutions)
    return activate_campaign(campaign, actor=None)


def leases_run_out(people: Iterable[Membership]) -> int:
    """Of those who do not come back. Returns how many solutions they had in hand."""
    now = timezone.now()
    left = Assignment.objects.filter(membership__in=list(people), state=State.ACTIVE, lease_until__gt=now)
    return left.update(lease_until=now - datetime.timedelta(seconds=1))


def assert_three_zeros(acknowledged: Sequence[str]) -> None:
    holders = Count(
        "assignments__membership", filter=Q(assignments__state__in=[State.ACTIVE, State.DONE]), distinct=True
    )
    done = Count("assignments", filter=Q(assignments__state=State.DONE))
    items = list(
        QueueItem.objects.annotate(holders=holders, done=done).values_list("taken", "wanted", "holders", "done")
    )
    assert [item for item in items if item[0] != item[2] or item[2] > K] == [], "over-assigned or miscounted"
    assert [item for item in items if item != (K, K, K, K)] == [], "stranded"
    judged = Labeling.objects.filter(state=Labeling.State.SUBMITTED).values("solution")
    judges = judged.annotate(rows=Count("pk"), people=Count("membership", distinct=True))
    assert [row for row in judges if (row["rows"], row["people"]) != (K, K)] == []

    assert len(acknowledged) == len(set(acknowledged))
    stored = [str(client_id) for client_id in RatingEvent.objects.values_list("client_id", flat=True)]
    assert len(stored) == len(set(stored)), "stored twice"
    assert set(acknowledged) <= set(stored), "acknowledged and lost"


# --- Processes -------------------------------------------------------------------------------------------------------

PROCESSES, LABELERS, SOLUTIONS = 8, 50, 2000


def test_eight_processes_of_fifty_labelers_of_whom_half_are_killed(tmp_path: Path) -> None:
    campaign = open_campaign(SOLUTIONS)
    people = [make_member(campaign, f"labeler{number}") for number in range(PROCESSES * LABELERS)]
    parts = [people[start : start + LABELERS] for start in range(0, len(people), LABELERS)]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
        "DATABASE_URL": url_of_test_database(connection.settings_dict),
        "DATA_DIR": str(settings.DATA_DIR),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.annotator.labelers_at_work", str(tmp_path / f"notes{number}")]
            + [str(person.pk) for person in part],
            env=environment,
            cwd=settings.ROOT,
        )
        for number, part in enumerate(parts)
    ]
    left_behind = 0
    try:
        for number in random.sample(range(PROCESSES), PROCESSES // 2):
            wait_for_submits(random.randint(50, 250))
            processes[number].send_signal(signal.SIGKILL)
            processes[number].wait()
            left_behind += leases_run_out(parts[number])
        assert sorted(process.wait(timeout=200) for process in processes) == [-signal.SIGKILL] * 4 + [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert left_behind, "those who were killed had something in hand"
    assert_three_zeros([line for file in tmp_path.glob("notes*") for line in file.read_text().split()])


def wait_for_submits(count: int) -> None:
    """Until so many more labelings have been submitted."""
    submitted = Labeling.objects.filter(state=Labeling.State.SUBMITTED)
    target, deadline = submitted.count() + count, time.monotonic() + 60
    while submitted.count() < target:
        assert time.monotonic() < deadline, "nobody submits anything"
        time.sleep(0.05)


# --- Two at the same moment ------------------------------------------------------------------------------------------


def test_a_first_act_that_is_sent_again_while_it_is_being_stored_is_stored_once() -> None:
    """As after the death of a web worker, or from a second tab."""
    assignment = claim_next(make_member(open_campaign(1), "lea"))
    assert assignment is not None
    act = rating(path_of(assignment)[0], 1)

    def again() -> None:
        try:
            store_acts(Assignment.objects.select_related("membership", "campaign", "item").get(pk=assignment.pk), [act])
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with transaction.atomic():
            store_acts(assignment, [act])
            waiting = other.submit(again)
            time.sleep(0.5)  # it has come as far as it can
        waiting.result(timeout=GIVE_UP_SECONDS)
    assert RatingEvent.objects.count() == Labeling.objects.count() == 1


def test_the_last_lease_may_end_while_an_empty_queue_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = open_campaign(1)
    assert all(claim_next(make_member(campaign, name)) for name in ("lea", "max"))
    noa = make_member(campaign, "noa")
    counted = QuerySet.count

    def count_and_end(rows: Any) -> int:
        number = counted(rows)
        Assignment.objects.update(state=State.SKIPPED)
        return number

    monkeypatch.setattr(QuerySet, "count", count_and_end)
    assert why_empty(noa).message


# --- HTTP ------------------------------------------------------------------------------------------------------------

CLIENTS, HTTP_SOLUTIONS, WORKERS_KILLED = 16, 120, 3
GIVE_UP_SECONDS = 60


class Died(Exception):
    """This client was killed."""


@dataclass
class Client:
    """A labeler's browser. What gets no answer is sent again as it was, client ids included, until it gets one; a
    client that is killed sends its last request and hears no answer."""

    web: Web
    person: Membership
    dies_after: int | None
    acknowledged: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    repeats: int = 0
    requests: int = 0
    line: http.client.HTTPConnection | None = None

    def __post_init__(self) -> None:
        csrf = secrets.token_hex(16)
        self.headers = {
            "Content-Type": "application/json",
            "X-CSRFToken": csrf,
            "Cookie": f"csrftoken={csrf}; sessionid={session_of(self.person)}",
        }

    def work(self, finished: threading.Event) -> None:
        try:
            while not finished.is_set():
                answer = self.post("campaigns/algebra/next/", {"ahead": random.random() < 0.2})
                if answer["item"]:
                    self.label(answer["item"])
                else:
                    time.sleep(0.1)
        except Died:
            pass
        finally:
            self.hang_up()

    def label(self, item: dict[str, Any]) -> None:
        acts = [
            {"client_id": str(uuid.uuid4()), "kind": "rate", "completion": row["id"], "value": value}
            for row, value in zip(item["completions"], [1, 0, -1], strict=True)
        ]
        place = f"assignments/{item['assignment']}"
        for act in acts[:2]:
            self.post(f"{place}/acts/", {"acts": [act]})
            self.acknowledged.append(act["client_id"])
        submit = {"client_id": str(uuid.uuid4()), "finish_reason": "found_error", "acts": acts[2:]}
        self.post(f"{place}/submit/", submit)
        self.acknowledged += [acts[2]["client_id"], submit["client_id"]]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        content, deadline = json.dumps(body), time.monotonic() + GIVE_UP_SECONDS
        self.requests += 1
        while True:
            try:
                status, answer = self.exchange(f"/api/v1/{path}", content)
                break
            except (OSError, http.client.HTTPException):
                assert time.monotonic() < deadline, "the server does not come back"
                self.hang_up()
                self.repeats += 1
                time.sleep(0.1)
        self.statuses.add(status)
        found: dict[str, Any] = json.loads(answer)
        assert status == 200, found
        return found

    def exchange(self, path: str, content: str) -> tuple[int, bytes]:
        self.line = self.line or http.client.HTTPConnection(self.web.host, self.web.port, timeout=20)
        self.line.request("POST", path, content, self.headers)
        if self.requests == self.dies_after:
            self.hang_up()
            raise Died
        response = self.line.getresponse()
        return response.status, response.read()

    def hang_up(self) -> None:
        if self.line is not None:
            self.line.close()
        self.line = None


def session_of(person: Membership) -> str:
    session = SessionStore()
    session[SESSION_KEY] = str(person.user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = person.user.get_session_auth_hash()
    session.save()
    assert session.session_key is not None
    return session.session_key


def test_web_workers_are_killed_under_load_and_so_are_half_of_the_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATICFILES_STORAGE", "django.contrib.staticfiles.storage.StaticFilesStorage")
    monkeypatch.setenv("SECRET_KEY", settings.SECRET_KEY)  # the sessions are made here
    campaign = open_campaign(HTTP_SOLUTIONS)
    people = [make_member(campaign, f"labeler{number}") for number in range(CLIENTS)]
    finished, killed = threading.Event(), 0
    with web(tmp_path, url_of_test_database(connection.settings_dict)) as server:
        clients = [
            Client(server, person, random.randint(5, 25) if number % 2 else None)
            for number, person in enumerate(people)
        ]
        threads = [threading.Thread(target=client.work, args=[finished], daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        try:
            for _ in range(WORKERS_KILLED):
                wait_for_submits(30)
                busiest_worker(server.pid).kill()
                killed += 1
            for thread in threads[1::2]:
                thread.join(GIVE_UP_SECONDS)
            left_behind = wait_until_all_is_done(leavers=people[1::2])
        finally:
            finished.set()
            for thread in threads:
                thread.join(GIVE_UP_SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    assert killed == WORKERS_KILLED
    assert left_behind, "those who were killed had something in hand"
    assert sum(client.repeats for client in clients) >= WORKERS_KILLED, "somebody was waiting for those workers"
    assert set().union(*(client.statuses for client in clients)) == {200}
    assert_three_zeros([act for client in clients for act in client.acknowledged])


def busiest_worker(server: int) -> psutil.Process:
    """The one on which most clients hang: a worker that has just been started may have none."""
    return max(psutil.Process(server).children(), key=lambda worker: len(worker.net_connections(kind="tcp")))


def wait_until_all_is_done(*, leavers: Sequence[Membership]) -> int:
    """Time passes: the leases of those who left run out, also of what their last request has got them since. Returns
    how many leases that were."""
    deadline, left_behind = time.monotonic() + 2 * GIVE_UP_SECONDS, 0
    while QueueItem.objects.exclude(taken=K).exists() or Assignment.objects.filter(state=State.ACTIVE).exists():
        assert time.monotonic() < deadline, f"stranded: {what_is_left()}"
        left_behind += leases_run_out(leavers)
        time.sleep(0.1)
    return left_behind


def what_is_left() -> list[tuple[object, ...]]:
    left = Assignment.objects.filter(state=State.ACTIVE)
    items = QueueItem.objects.exclude(taken=K)
    return [*items.values_list("pk", "lane", "taken"), *left.values_list("membership__user__username", "lease_until")]
