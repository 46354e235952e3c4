"""A labeler in front of the labeling page: what they press, what they see, and what the server has heard of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from django.test import Client
from playwright.sync_api import BrowserContext, Locator, Page, expect

from annotator.models import Assignment, Labeling, Membership, Rating
from tests.annotator.cast import said_of, values_of

PATIENCE = 15.0


def sign_in(context: BrowserContext, member: Membership, url: str) -> None:
    client = Client()
    client.force_login(member.user)
    context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}])


@dataclass
class Labeler:
    page: Page
    member: Membership
    url: str

    def open(self, query: str = "") -> Labeler:
        """Come to the page, with a solution on it."""
        sign_in(self.page.context, self.member, self.url)
        return self.visit(query).ready()

    def visit(self, query: str = "") -> Labeler:
        """Come to the page, with whatever is on it."""
        self.page.goto(f"{self.url}/c/{self.member.campaign.slug}/label/{query}")
        return self

    def ready(self) -> Labeler:
        expect(self.page.locator("#bar")).to_be_visible()
        return self

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    # --- What they see -----------------------------------------------------------------------------------------------

    @property
    def problem(self) -> str:
        return self.page.inner_text("#problem-text")

    @property
    def shown(self) -> list[int | None]:
        """The ratings of the steps, as the page shows them."""
        values: list[int | None] = self.page.evaluate(
            """() => [...document.querySelectorAll("#steps > .step")].map((step) => {
                 const chosen = step.querySelector(".rate[aria-pressed=true]");
                 return chosen ? Number(chosen.dataset.value) : null;
               })"""
        )
        return values

    @property
    def current(self) -> str:
        """The number of the step that the next key is for."""
        return self.page.inner_text("#steps > .step.is-current .step-number")

    @property
    def heard(self) -> str:
        """The last that a screen reader has said."""
        return self.page.inner_text("#announce")

    @property
    def submit(self) -> str:
        return self.page.inner_text("#submit")

    def see(self, selector: str) -> Locator:
        found = self.page.locator(selector)
        expect(found).to_be_visible()
        return found

    def next_after(self, problem: str) -> str:
        """Wait until another problem than this one is on the page."""
        expect(self.page.locator("#problem-text")).not_to_have_text(problem)
        return self.problem

    def saved(self) -> None:
        """Wait until the server has answered to everything."""
        expect(self.page.locator("#saved")).to_have_attribute("data-state", "saved")

    def laid_out_ahead(self) -> None:
        """Wait until the next solution lies ready behind this one."""
        expect(self.page.locator(".surface.is-ahead")).to_have_count(1)

    # --- What the server has -----------------------------------------------------------------------------------------

    def assignment(self, problem: str | None = None) -> Assignment:
        """That of a problem, or of the problem on the page."""
        text = self.problem if problem is None else problem
        return Assignment.objects.get(membership=self.member, problem__text=text)

    def eventually(self, condition: Callable[[], Any]) -> None:
        """Wait for the server; what the page asks of the test meanwhile is answered."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, "it never came to be"
            self.page.wait_for_timeout(20)

    def drafted(self, values: list[int], problem: str | None = None) -> None:
        """Wait until the stored acts amount to these ratings of the steps."""
        assignment = self.assignment(problem)
        self.saved()
        assert values_of(assignment) == values

    def submitted(self, problem: str) -> Labeling:
        """Wait until the labeling of this problem has been submitted."""
        assignment = self.assignment(problem)
        done = Labeling.objects.filter(assignment=assignment).exclude(state=Labeling.State.DRAFT)
        self.eventually(done.exists)
        return done.get()

    def said(self) -> Any:
        return said_of(self.assignment())


def ratings_of(labeling: Labeling) -> list[int | None]:
    """The rows that a submitted labeling has left, in the order of the steps."""
    rows = Rating.objects.filter(labeling=labeling).order_by("step_index", "position")
    return list(rows.values_list("value", flat=True))
