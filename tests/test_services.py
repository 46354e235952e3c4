"""The fixtures that others build on do what they say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from django.db import connection
from django.urls import reverse

from annotator.celery_app import app
from annotator.models import User
from tests.services import Worker

if TYPE_CHECKING:
    from playwright.sync_api import Page


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_worker_is_a_process_of_its_own_on_the_database_of_the_test(celery_worker: Callable[..., Worker]) -> None:
    worker = celery_worker("default")
    app.send_task("annotator.tasks.pulse", ["default"], queue="default")
    app.send_task("no.such.task", queue="default")
    wait_for(lambda: "no.such.task" in worker.log)
    assert "Traceback" not in worker.log.partition("no.such.task")[0]
    family = [psutil.Process(worker.child.pid), *psutil.Process(worker.child.pid).children(recursive=True)]
    assert len(family) > 1
    worker.kill()
    wait_for(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family))


@pytest.mark.django_db
def test_the_database_is_the_one_that_was_asked_for() -> None:
    wanted = "postgresql" if os.environ.get("DATABASE_URL", "").startswith("postgres") else "sqlite"
    assert connection.vendor == wanted
    assert not User.objects.exists()


def test_the_browser_reports_what_breaks_the_security_policy(
    page: Page, console_errors: list[str], live_server: object
) -> None:
    page.goto(f"{live_server}{reverse('login')}")
    page.evaluate("document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {top: 0}'}))")
    wait_for(lambda: page.wait_for_timeout(50) or console_errors)
    assert "Content Security Policy" in console_errors.pop()


def test_two_people_have_cookies_of_their_own(new_page: Callable[..., Page], live_server: object) -> None:
    first, second = new_page(), new_page()
    first.goto(f"{live_server}{reverse('login')}")
    first.context.add_cookies([{"name": "mine", "value": "1", "url": str(live_server)}])
    second.goto(f"{live_server}{reverse('login')}")
    assert "mine" not in {cookie["name"] for cookie in second.context.cookies()}


def test_a_picture_is_kept_where_it_was_asked_for(page: Page, snapshot: Callable[[Page, str], Path]) -> None:
    page.set_content("<h1>hello</h1>")
    assert snapshot(page, "hello").read_bytes().startswith(b"\x89PNG")
