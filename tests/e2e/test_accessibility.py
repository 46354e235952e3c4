"""No page breaks a rule of axe-core: each one for each role, light and dark, on a desk and on a phone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import expect

from annotator.actions import datasets
from annotator.actions.campaigns import activate_campaign, publish_guideline
from annotator.actions.labeling import submit_labeling
from annotator.actions.learning import register_checkpoint
from annotator.actions.people import send_message
from annotator.actions.queue import claim_next
from annotator.models import Assignment, Campaign, Checkpoint, Job, Labeling, Membership, QueueItem, User
from prm_backend.types import FinishReason
from tests.annotator.cast import (
    Role,
    ending,
    import_rows,
    label,
    make_campaign,
    make_member,
    make_user,
    path_of,
    problem_texts,
    rate,
    rating,
    simple_row,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = Path(settings.ROOT) / "node_modules" / "axe-core" / "axe.min.js"
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
STEPS = [r"Let $\vec{v} = 1$.", r"So $\frac{1}{2} \cdot 4 = \boxed{2}$."]
RUN = """async (rules) => {
  const options = rules ? { runOnly: { type: "rule", values: rules } } : {};
  const { violations } = await axe.run(document, { resultTypes: ["violations"], ...options });
  return violations.flatMap(({ id, help, nodes }) => nodes.map(({ html, failureSummary }) =>
    `${id}: ${help}\\n      ${html.slice(0, 200)}\\n      ${failureSummary.replaceAll("\\n", " ")}`));
}"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def campaign(transactional_db: None) -> Campaign:
    """A campaign in which everything has happened that a page can show."""
    campaign = make_campaign(alternatives="optional", progress="optional", critiques="optional")
    ada, ben, mia = (
        make_member(campaign, name, role)
        for name, role in (("ada", Role.LABELER), ("ben", Role.LABELER), ("mia", Role.MANAGER))
    )
    make_member(campaign, "rita", Role.RESEARCHER)
    make_user("nobody")
    texts = problem_texts("train", 9) + problem_texts("validation", 2)
    alternatives = [["Let $v = 2$.", "Let $v = 3$."], []]
    import_rows(campaign, [simple_row(f"{text} Give $x^2$.", STEPS, alternatives=alternatives) for text in texts])
    activate_campaign(campaign, actor=None)
    register_checkpoint(campaign, kind=Checkpoint.Kind.BACKBONE, number=0, folder="checkpoints/0", metadata={})
    for member, values, comment in ((ada, [1, 1], "Is this right?"), (ada, [-1], ""), (ben, [1, 0], "")):
        label(claim(member), values, comment=comment, answer_report="It is 3." if comment else "")
    Labeling.objects.update(active_ms=60_000)
    unsure = claim(ada)
    submit_labeling(unsure, ending(FinishReason.SOLUTION), [rating(step, 1, flagged=True) for step in path_of(unsure)])
    submit_labeling(claim(ben), ending(FinishReason.GIVE_UP, reason="Too hard."))
    submit_labeling(claim(ben), ending(FinishReason.BAD_PROBLEM, reason="It asks nothing."))
    held = claim(ada)
    rate(held, rating(path_of(held)[0], 1))
    send_message(campaign, actor=mia.user, text="Well done.")
    datasets.publish(datasets.write_draft(campaign), actor=None)
    publish_guideline(campaign, actor=mia.user, text="# Be exact\n\n- One.\n- Two.")
    Membership.objects.filter(user__username="ben").update(guideline=Campaign.objects.get().guideline)
    return campaign


def claim(member: Membership) -> Assignment:
    member.campaign.refresh_from_db()
    assignment = claim_next(member)
    assert assignment is not None
    return assignment


@pytest.fixture
def visit(new_page: Callable[..., Page], live_server: Any, campaign: Campaign) -> Callable[[str], Page]:
    """A browser in which that person has logged in; nobody, for "". Its content policy lets axe in."""

    def enter(name: str) -> Page:
        page = new_page(base_url=live_server.url, bypass_csp=True, viewport=DESK, reduced_motion="reduce")
        if name:
            client = Client()
            client.force_login(User.objects.get(username=name))
            session = client.cookies["sessionid"].value
            page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
        return page

    return enter


def complaints(page: Page, what: str) -> list[str]:
    """What axe finds on the page as it stands, all that unfolds unfolded: every rule on a desk and on a phone, contrast
    in the dark as well."""
    page.add_script_tag(path=AXE)
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    found = []
    for name, viewport, scheme, rules in (
        ("light", DESK, "light", None),
        ("dark", DESK, "dark", ["color-contrast"]),
        ("phone", PHONE, "light", None),
    ):
        page.set_viewport_size(viewport)  # type: ignore[arg-type]  # a TypedDict of Playwright's
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # a literal of Playwright's
        found += [f"{what} ({name}): {complaint}" for complaint in page.evaluate(RUN, rules)]
    page.set_viewport_size(DESK)  # type: ignore[arg-type]  # the same
    page.emulate_media(color_scheme="light")
    return found


def complaints_of(page: Page, paths: list[str]) -> list[str]:
    found: list[str] = []
    for path in paths:
        page.goto(path)
        expect(page.locator("main")).to_be_visible()
        found += complaints(page, path)
    return found


def test_pages_for_everybody(visit: Callable[[str], Page], console_errors: list[str]) -> None:
    found = complaints_of(visit(""), ["/accounts/login/", "/no/such/page/"])
    found += complaints_of(visit("nobody"), ["/", "/accounts/password/", "/campaigns/new/"])
    assert not found, "\n".join(found)
    # A missing page and a refused one are what was asked for.
    console_errors[:] = [error for error in console_errors if "404" not in error and "403" not in error]


def test_pages_of_labelers(visit: Callable[[str], Page]) -> None:
    said = Labeling.objects.filter(membership__user__username="ada", state="submitted").earliest("pk")
    found = complaints_of(
        visit("ada"),
        [
            "/",
            "/c/algebra/history/",
            f"/c/algebra/labelings/{said.pk}/",
            "/c/algebra/guideline/",
            "/c/algebra/guideline/?since=1&version=2",
        ],
    )
    assert not found, "\n".join(found)


def test_pages_of_managers_about_labeling(visit: Callable[[str], Page]) -> None:
    said = Labeling.objects.filter(membership__user__username="ada", state="submitted").earliest("pk")
    item = QueueItem.objects.get(assignments=said.assignment).pk
    paths = ["", f"items/{item}/", f"labelings/{said.pk}/", "reports/", "reports/?kind=comment", "leases/", "members/"]
    page = visit("mia")
    found = complaints_of(page, ["/", *(f"/c/algebra/{path}" for path in paths)])
    Job.objects.filter(kind=Job.Kind.PRETRAIN).update(state="failed", error="too few solutions")
    found += complaints_of(page, ["/c/algebra/"])
    assert not found, "\n".join(found)


def test_pages_of_managers_about_the_campaign(visit: Callable[[str], Page]) -> None:
    run = Job.objects.get(kind=Job.Kind.IMPORT).params["import_run"]
    paths = ["settings/", "guideline/?edit", "generations/", "generations/0/", "checkpoints/", "checkpoints/0/"]
    paths += ["imports/", f"imports/{run}/", "jobs/"]
    found = complaints_of(visit("mia"), ["/campaigns/new/", *(f"/c/algebra/{path}" for path in paths)])
    assert not found, "\n".join(found)


def test_a_form_with_mistakes(visit: Callable[[str], Page], console_errors: list[str]) -> None:
    page = visit("mia")
    page.goto("/c/algebra/settings/")
    page.get_by_label("Random arm").fill("40")
    page.get_by_label("Margin").fill("30")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert")).to_be_visible()
    found = complaints(page, "settings with mistakes")
    assert not found, "\n".join(found)
    console_errors[:] = [error for error in console_errors if "400" not in error]


def test_pages_of_researchers(visit: Callable[[str], Page], console_errors: list[str]) -> None:
    found = complaints_of(
        visit("rita"), ["/", "/c/algebra/datasets/", "/c/algebra/datasets/1/", "/c/algebra/settings/"]
    )
    assert not found, "\n".join(found)
    console_errors[:] = [error for error in console_errors if "403" not in error]  # settings are refused, in words


def test_the_labeling_page(visit: Callable[[str], Page]) -> None:
    """While a solution is judged, with its follow-ups, its sheets, and when there is nothing to do."""
    page = visit("ben")
    page.goto("/c/algebra/label/")
    expect(page.locator("#steps .step.is-current")).to_be_visible()
    found = complaints(page, "label")
    page.keyboard.press("1")
    expect(page.locator("#steps .rate[aria-pressed=true]").first).to_be_visible()
    found += complaints(page, "label, follow-ups")
    for key, dialog in (("?", "#dialog-keys"), ("g", "#dialog-guideline")):
        page.keyboard.press(key)
        expect(page.locator(dialog)).to_be_visible()
        found += complaints(page, f"label, {dialog}")
        page.keyboard.press("Escape")
    QueueItem.objects.update(retired=True)
    Assignment.objects.filter(state=Assignment.State.ACTIVE).update(state=Assignment.State.SKIPPED)
    page.goto("/c/algebra/label/")
    expect(page.locator("#waiting")).to_be_visible()
    found += complaints(page, "label, nothing to do")
    assert not found, "\n".join(found)


def test_the_labeling_page_before_the_first_solution(visit: Callable[[str], Page]) -> None:
    """What changed in the guideline; the tutorial; a manager's preview."""
    page = visit("ada")
    page.goto("/c/algebra/label/")
    expect(page.locator("main")).to_be_visible()
    found = complaints(page, "label, changed guideline")
    page.goto("/c/algebra/label/tutorial/")
    expect(page.locator("#steps .step.is-current")).to_be_visible()
    found += complaints(page, "tutorial")
    manager = visit("mia")
    manager.goto("/c/algebra/label/preview/")
    expect(manager.locator("#steps .step.is-current")).to_be_visible()
    found += complaints(manager, "preview")
    assert not found, "\n".join(found)
