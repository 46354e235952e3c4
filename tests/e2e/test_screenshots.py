"""The pictures of docs/images, from a campaign that the real loop went through (`make screenshots`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from annotator.actions.jobs import record_pulse
from annotator.models import Campaign, Membership, QueueItem, User
from annotator.simulation import Simulation

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(900)]

FOR_THE_DOCS = "SCREENSHOTS" in os.environ
DESKTOP = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


@pytest.fixture
def demo(settings: Any) -> Campaign:
    """The demo after some generations. The figures are what the model reached, small as it is."""
    settings.PRETRAIN_STEPS = 700 if FOR_THE_DOCS else 20
    call_command("create_demo", problems=1500 if FOR_THE_DOCS else 60, solutions=2)
    Campaign.objects.update(simulated=True, generation_size=60, audit_per_generation=15)
    campaign = Campaign.objects.get()
    labelings = 120 if FOR_THE_DOCS else 30
    assert list(Simulation(campaign).play(labelings))
    Campaign.objects.update(simulated=False, name="Demo: word problems")
    Membership.objects.update(tutorial_done_at=timezone.now())
    serve_the_longest_first()
    for queue in ("default", "gpu"):  # as with the workers that `make run` starts
        record_pulse(queue)
    return Campaign.objects.get()


def serve_the_longest_first() -> None:
    open_items = QueueItem.objects.filter(retired=False, taken=0).order_by("-solution__step_count", "pk")
    for rank, item in enumerate(open_items):
        QueueItem.objects.filter(pk=item.pk).update(rank=rank, place=rank)


def log_in(page: Page, address: str, name: str) -> None:
    user = User.objects.get(username=name)
    user.set_password("correct horse")
    user.save()
    page.goto(f"{address}/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{address}/**")


def half_label(page: Page, address: str) -> None:
    """A solution in the middle of being judged."""
    page.goto(f"{address}/c/demo/label/")
    expect(page.locator("#steps li").first).to_be_visible()
    page.keyboard.press("3")
    page.keyboard.press("3")
    expect(page.locator("#saved")).to_have_attribute("data-state", "saved")


def test_the_pages_in_pictures(
    live_server: LiveServer, new_page: Callable[..., Page], demo: Campaign, snapshot: Callable[[Page, str], Path]
) -> None:
    address = live_server.url
    for name, options in (
        ("labeling", DESKTOP),
        ("labeling-dark", {**DESKTOP, "color_scheme": "dark"}),
        ("labeling-phone", PHONE),
    ):
        page = new_page(**options)
        log_in(page, address, "labeler")
        half_label(page, address)
        assert snapshot(page, name).stat().st_size > 10_000

    manager = new_page(**DESKTOP)
    log_in(manager, address, "manager")
    last = demo.generations.order_by("-number")[0].number
    checkpoint = demo.checkpoint.number if demo.checkpoint else 0
    for name, path in (
        ("campaign", ""),
        ("generation", f"generations/{last}/"),
        ("checkpoint", f"checkpoints/{checkpoint}/"),
    ):
        manager.goto(f"{address}/c/demo/{path}")
        expect(manager.locator("h1").first).to_be_visible()
        assert snapshot(manager, name).stat().st_size > 10_000
