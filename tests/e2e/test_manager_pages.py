"""The pages of managers and researchers in a real browser: no complaint of the browser's, and bars that move."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from playwright.sync_api import expect

from annotator.actions import datasets
from annotator.actions.campaigns import activate_campaign, publish_guideline
from annotator.actions.queue import claim_next
from annotator.models import Job, Labeling, Membership, QueueItem
from tests.annotator.cast import Role, import_rows, label, make_campaign, make_member, problem_texts, simple_row

if TYPE_CHECKING:
    from playwright.sync_api import Page

STEPS = [r"Let $\vec{v} = 1$.", r"So $\frac{1}{2} \cdot 4 = \boxed{2}$."]


@pytest.fixture
def manager(transactional_db: None) -> Membership:
    campaign = make_campaign()
    labeler = make_member(campaign, "ada")
    texts = problem_texts("train", 3) + problem_texts("validation", 1)
    import_rows(campaign, [simple_row(f"{text} Give $x^2$.", STEPS) for text in texts])
    activate_campaign(campaign, actor=None)
    labeler.campaign.refresh_from_db()
    for values in ([1, 1], [-1]):
        assignment = claim_next(labeler)
        assert assignment is not None
        label(assignment, values, comment="Is $x^2$ meant?")
    claim_next(labeler)
    publish_guideline(campaign, actor=labeler.user, text="Be exact.")
    datasets.publish(datasets.write_draft(campaign), actor=None)
    return make_member(campaign, "mia", Role.MANAGER)


@pytest.fixture
def signed_in(page: Page, manager: Membership, live_server: Any) -> Page:
    sign_in(page, manager, live_server.url)
    return page


def sign_in(page: Page, member: Membership, url: str) -> None:
    client = Client()
    client.force_login(member.user)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}])


def test_every_page_renders_without_a_complaint(signed_in: Page, live_server: Any) -> None:
    """The `page` fixture fails on script errors, failed requests and breaches of the content security policy."""
    item = QueueItem.objects.earliest("rank").pk
    run = Job.objects.get(kind=Job.Kind.IMPORT).params["import_run"]
    pages = ["", "settings/", "guideline/", "guideline/?edit", "members/", "imports/", f"imports/{run}/", "jobs/"]
    pages += ["generations/", "generations/0/", f"items/{item}/", "checkpoints/", "datasets/", "datasets/1/"]
    said = Labeling.objects.latest("pk").pk
    pages += ["reports/", "leases/", "history/", f"labelings/{said}/", "guideline/?since=1&version=2"]
    for path in pages:
        signed_in.goto(f"{live_server.url}/c/algebra/{path}")
        expect(signed_in.locator("main h1, main article").first).to_be_visible()
        assert signed_in.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    signed_in.goto(f"{live_server.url}/c/algebra/items/{item}/")
    expect(signed_in.locator(".step-text .katex")).to_have_count(2)


def test_progress_moves_by_itself_and_leaves_the_focus_alone(signed_in: Page, live_server: Any) -> None:
    job = Job.objects.get(kind=Job.Kind.PRETRAIN)
    Job.objects.exclude(pk=job.pk).delete()
    Job.objects.filter(pk=job.pk).update(state="running", total=10, done=2, note="epoch 1")
    signed_in.goto(f"{live_server.url}/c/algebra/jobs/")
    expect(signed_in.locator(".job progress")).to_have_attribute("value", "0.200")
    signed_in.focus(f"#cancel-{job.pk}")
    Job.objects.filter(pk=job.pk).update(done=7, note="epoch 2")
    expect(signed_in.locator(".job progress")).to_have_attribute("value", "0.700")
    expect(signed_in.locator(f"#cancel-{job.pk}")).to_be_focused()
    signed_in.keyboard.press("Enter")
    expect(signed_in.locator(".job")).to_contain_text("stopping at the next safe point")


def test_a_report_is_answered_and_the_answer_arrives(
    signed_in: Page, new_page: Callable[..., Page], live_server: Any
) -> None:
    signed_in.goto(f"{live_server.url}/c/algebra/")
    signed_in.get_by_role("link", name="2 reports to look at").click()
    first = signed_in.locator(".report").first
    expect(first.locator(".report-problem .katex").first).to_be_visible()
    first.get_by_label("Answer to ada").fill("Yes, it is.")
    first.get_by_role("button", name="Close").click()
    expect(signed_in.get_by_role("status")).to_contain_text("the labeler is told")
    expect(signed_in.locator(".report")).to_have_count(1)
    labeler = new_page()
    sign_in(labeler, Membership.objects.get(user__username="ada"), live_server.url)
    labeler.goto(live_server.url)
    messages = labeler.get_by_role("region", name="New messages")
    expect(messages).to_contain_text("Yes, it is.")
    messages.get_by_role("button", name="Mark as read").click()
    expect(messages).to_have_count(0)
    labeler.get_by_text("1 earlier message").click()
    expect(labeler.get_by_text("Yes, it is.")).to_be_visible()


def test_settings_ask_what_the_choices_above_mean(signed_in: Page, live_server: Any) -> None:
    signed_in.goto(f"{live_server.url}/campaigns/new/")
    expect(signed_in.get_by_label("What went wrong")).to_be_visible()
    expect(signed_in.get_by_label("Steps asked of a solution")).to_be_hidden()
    signed_in.get_by_label("only the steps that selection marked").check()
    expect(signed_in.get_by_label("Steps asked of a solution")).to_be_visible()
    expect(signed_in.get_by_label("What went wrong")).to_be_hidden()
    signed_in.get_by_label("1: choose among candidate steps").check()
    expect(signed_in.get_by_label("only the steps that selection marked")).to_be_hidden()
    expect(signed_in.get_by_label("Candidates at a step, at most")).to_be_visible()


def test_a_dataset_is_downloaded(signed_in: Page, live_server: Any) -> None:
    signed_in.goto(f"{live_server.url}/c/algebra/datasets/1/")
    with signed_in.expect_download() as download:
        signed_in.click("text=Download PRM800K")
    assert download.value.suggested_filename == "algebra-v1.prm800k.jsonl"
