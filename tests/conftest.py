"""Fixtures for all tests: broker, workers, browser, and the marks that follow from using them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.db import connection

from tests import services
from tests.endpoint import ModelEndpoint, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HEAVY = ("worker", "browser")
DATABASE_FIXTURES = {"db", "transactional_db", "live_server", "django_db_setup"}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Every test that touches the database is one for PostgreSQL too; nobody has to remember to say so.

    Of the tests that run at once (`make test` runs two), at most one starts families of processes and at most one
    drives the browser: they measure time, and two cores hold no more. Other files stay whole, for their fixtures' sake.
    """
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if item.get_closest_marker("django_db") or fixtures & DATABASE_FIXTURES:
            item.add_marker("postgres")
        if "celery_worker" in fixtures:
            item.add_marker("worker")
        if fixtures & {"page", "new_page"}:
            item.add_marker("browser")
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(next(filter(item.get_closest_marker, HEAVY), str(item.path))))
    yield
    items.sort(key=lambda item: group_of(item) not in HEAVY)  # what takes longest starts first


def group_of(item: pytest.Item) -> str:
    marker = item.get_closest_marker("xdist_group")
    assert marker is not None
    return str(marker.args[0])


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    with services.valkey() as url:
        yield url


@pytest.fixture
def broker(valkey_url: str) -> Iterator[str]:
    """A real, empty broker in place of the in-memory one; yields its URL."""
    from kombu import pools
    from redis import Redis

    from annotator.celery_app import app

    def use(url: str) -> None:
        app.conf.broker_url = url
        pools.reset()
        app._pool = None
        app.amqp._producer_pool = None

    with Redis(unix_socket_path=valkey_url.removeprefix("redis+socket://")) as client:
        client.flushall()
    use(valkey_url)
    yield valkey_url
    use(settings.CELERY_BROKER_URL)


@pytest.fixture
def celery_worker(transactional_db: None, broker: str, tmp_path: Path) -> Iterator[Callable[..., services.Worker]]:
    """Call it to start a real worker on the test's database and broker: `celery_worker("default", "gpu")`."""
    database = connection.settings_dict
    environment = {
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
        "DATA_DIR": str(settings.DATA_DIR),
        "DATABASE_URL": url_of_test_database(database),
        "BROKER_URL": broker,
    }
    with ExitStack() as stack:

        def start(*queues: str, **more: str) -> services.Worker:
            chosen = queues or ("default", "gpu")
            return stack.enter_context(
                services.celery_worker(queues=chosen, environment={**environment, **more}, folder=tmp_path)
            )

        yield start


@pytest.fixture
def model_endpoint() -> Iterator[ModelEndpoint]:
    """A stand-in for the model that writes candidates; set its `answers`, and CANDIDATE_ENDPOINT_URL to its `url`."""
    with serving() as endpoint:
        yield endpoint


def url_of_test_database(database: dict[str, Any]) -> str:
    """The URL of the database that the tests of this process use."""
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    return f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database['NAME']}"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    names = [os.environ["CHROMIUM"]] if "CHROMIUM" in os.environ else ["chromium", "chromium-browser", "google-chrome"]
    executable = next((path for name in names if (path := shutil.which(name))), None)
    if executable is None:
        pytest.fail("The browser tests need Chromium: `make test` installs it, or set CHROMIUM.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=executable, headless=True, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def console_errors() -> list[str]:
    """What the browser complained about: script errors, failed requests, breaches of the content security policy. A
    test that means to provoke one takes it out of the list; what is left fails the test."""
    return []


@pytest.fixture
def new_page(browser: Browser, console_errors: list[str]) -> Iterator[Callable[..., Page]]:
    """Call it for a page of a person's own (own cookies); arguments are those of Playwright's `new_context`."""
    contexts: list[BrowserContext] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            console_errors.append(f"{message.text} ({message.location.get('url')})")

    def open_page(**options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: console_errors.append(str(error)))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not console_errors, "the browser complained:\n" + "\n".join(console_errors)


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.fixture
def snapshot(tmp_path: Path) -> Callable[[Page, str], Path]:
    """Save a picture of a page, in the folder SCREENSHOTS where that is set (`make screenshots`)."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)

    def save(page: Page, name: str) -> Path:
        file = folder / f"{name}.png"
        page.screenshot(path=file)
        return file

    return save
