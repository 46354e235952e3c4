"""A page on which the labeling page's modules run alone: under the site's content security policy, without a database,
before an API that the test plays."""

from __future__ import annotations

import mimetypes
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.conf import settings

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

ORIGIN = "http://localhost:8999"  # never reached: every request is answered by the test
STATIC = Path(settings.ROOT) / "static"


class ModuleSite:
    """Answers a browser context's requests: static files, one page, and what `api` says about the rest."""

    def __init__(self, context: BrowserContext, body: str = "") -> None:
        self.body = body
        self.pages = 0
        context.route(f"{ORIGIN}/**", self._answer)

    def open(self, page: Page, script: str = "") -> Page:
        """Load the page, then run the script in it."""
        page.goto(f"{ORIGIN}/")
        if script:
            page.evaluate(script)
        return page

    def api(self, route: Route, path: str) -> None:
        route.fulfill(status=404, json={"error": {"code": "not_found", "message": "Nothing here."}})

    def headers(self) -> dict[str, str]:
        """Further headers of the page itself."""
        return {}

    def _answer(self, route: Route) -> None:
        path = urlsplit(route.request.url).path
        if path.startswith("/static/"):
            file = STATIC / path.removeprefix("/static/")
            kind = mimetypes.guess_type(file.name)[0]
            route.fulfill(body=file.read_bytes(), content_type=kind) if file.is_file() else route.fulfill(status=404)
        elif path.startswith("/api/v1/"):
            self.api(route, path.removeprefix("/api/v1/"))
        else:
            self.pages += 1
            html = f'<!doctype html><html lang="en"><title>Modules</title><body>{self.body}'
            policy = "; ".join(
                f"{name} {' '.join(values)}"
                for name, values in settings.CONTENT_SECURITY_POLICY["DIRECTIVES"].items()
                if isinstance(values, list | tuple)
            )
            route.fulfill(
                body=html,
                headers={
                    "Content-Type": "text/html; charset=utf-8",
                    "Content-Security-Policy": policy,
                    **self.headers(),
                },
            )


def until(page: Page, condition: str | Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait until a JavaScript expression, or something on the test's side, holds. (Playwright's own way needs `eval`,
    which the policy forbids.)"""
    deadline = time.monotonic() + seconds
    while not (page.evaluate(condition) if isinstance(condition, str) else condition()):
        assert time.monotonic() < deadline, f"still not: {condition}"
        page.wait_for_timeout(20)
