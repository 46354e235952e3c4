"""The product once through, as three people in three browsers, with a real worker: import, label, retrain, promote,
next generation, download."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from annotator.actions.campaigns import create_campaign
from annotator.models import Assignment, Campaign, Checkpoint, Job, Membership
from prm_backend.formats import read_records
from prm_backend.synthetic import generate_rows
from tests.annotator.cast import make_user
from tests.services import Worker

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(300)]

# A solution is on the page and nothing of it is rated yet, or there is none.
READY = """!document.querySelector('#waiting').hidden || Boolean(document.querySelector('#steps')
    && !document.querySelector('#steps [aria-pressed=true]'))"""
PATIENCE = 90_000  # milliseconds, for what a worker does
KEY_OF = {"bad": "1", "neutral": "2", "good": "3"}
QUICK = {"PRETRAIN_STEPS": "40"}


def processbench_rows() -> list[dict[str, Any]]:
    """Generated solutions in ProcessBench's form, as a team would have them: problem, steps, first error."""
    rows = generate_rows(problems=70, solutions_per_problem=1, seed=11)
    return [
        {
            "id": row["id"],
            "generator": "generated",
            "problem": row["problem"],
            "steps": row["steps"],
            "final_answer_correct": row["final_answer_correct"],
            "label": next((index for index, rating in enumerate(row["ratings"]) if rating == -1), -1),
        }
        for row in rows
    ]


def right_ratings() -> dict[str, list[str]]:
    """What a careful labeler says, by problem text."""
    words = {-1: "bad", 0: "neutral", 1: "good"}
    return {
        row["problem"]: [words[rating] for rating in row["ratings"] if rating is not None]
        for row in generate_rows(problems=70, solutions_per_problem=1, seed=11)
    }


def log_in(page: Page, address: str, name: str, password: str) -> None:
    page.goto(f"{address}/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def choose_own_password(page: Page, one_time: str) -> None:
    page.get_by_label("Old password").fill(one_time)
    page.get_by_label("New password", exact=True).fill("purple monkey 17")
    page.get_by_label("New password confirmation").fill("purple monkey 17")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_text("Your password has been changed.")).to_be_visible()


def add_member(page: Page, name: str, role: str) -> str:
    page.get_by_label("User name").fill(name)
    page.get_by_label("E-mail").fill(f"{name}@example.org")
    page.get_by_label("Role").select_option(role)
    page.get_by_role("button", name="Add", exact=True).click()
    secret = page.locator(".secret code")
    expect(secret).to_be_visible()
    return secret.inner_text()


def label_everything(page: Page, said: dict[str, list[str]], *, most: int) -> None:
    """Label by keyboard alone, one solution after the other."""
    ratings = right_ratings()
    for _ in range(most):
        until(lambda: page.evaluate(READY) and (page.locator("#waiting").is_visible() or in_hand(page) is not None))
        if page.locator("#waiting").is_visible():
            return
        assignment = in_hand(page)
        assert assignment is not None
        problem = assignment.solution.problem.text
        for word in ratings[problem]:
            page.keyboard.press(KEY_OF[word])
        said[problem] = ratings[problem]
        page.keyboard.press("Enter")
        until(lambda pk=assignment.pk: Assignment.objects.get(pk=pk).state == Assignment.State.DONE)


def in_hand(page: Page) -> Assignment | None:
    """The active assignment whose problem stands on the page; another one may lie ready behind it."""
    shown = " ".join(page.locator(".surface:not(.is-ahead) .problem-text").first.inner_text().split())
    held = Assignment.objects.select_related("solution__problem").filter(state=Assignment.State.ACTIVE)
    return next((one for one in held if " ".join(one.solution.problem.text.split()) == shown), None)


def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def import_and_activate(page: Page, address: str, file: Path) -> dict[str, str]:
    """The manager's first morning; returns the one-time passwords of the people they brought in."""
    page.goto(f"{address}/c/loop/imports/")
    page.get_by_label("File").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("button", name="Undo this import")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("table")).to_contain_text("70")
    page.goto(f"{address}/c/loop/members/")
    passwords = {name: add_member(page, name, role) for name, role in (("lea", "labeler"), ("rob", "researcher"))}
    page.goto(f"{address}/c/loop/")
    page.get_by_role("button", name="Activate").click()
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    return passwords


def test_from_a_file_to_a_dataset(
    live_server: LiveServer,
    new_page: Callable[..., Page],
    celery_worker: Callable[..., Worker],
    tmp_path: Path,
) -> None:
    file = tmp_path / "solutions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in processbench_rows()))
    create_campaign(
        actor=make_user("mia"),
        slug="loop",
        name="The loop",
        generation_size=24,
        audit_per_generation=6,
        retrain_after=1000,
    )
    worker = celery_worker("default", "gpu", **QUICK)
    address = live_server.url

    manager = new_page()
    log_in(manager, address, "mia", "correct horse")
    passwords = import_and_activate(manager, address, file)

    labeler = new_page()
    log_in(labeler, address, "lea", passwords["lea"])
    choose_own_password(labeler, passwords["lea"])
    labeler.goto(f"{address}/c/loop/label/")
    labeler.get_by_role("button", name="Skip the tutorial").click()
    labeler.wait_for_url(f"{address}/c/loop/label/")
    said: dict[str, list[str]] = {}
    label_everything(labeler, said, most=30)
    assert len(said) == 30
    assert "bad" in {word for words in said.values() for word in words}

    # The worker has its first checkpoint ready; now it retrains on what was said, and the gate lets the candidate pass.
    until(lambda: Campaign.objects.get(slug="loop").checkpoint is not None, seconds=PATIENCE / 1000)
    until(lambda: not Job.objects.filter(state__in=Job.UNFINISHED).exists(), seconds=PATIENCE / 1000)
    manager.goto(f"{address}/c/loop/")
    manager.get_by_role("button", name="Retrain now").click()
    until(lambda: Checkpoint.objects.filter(kind="heads").exists(), seconds=PATIENCE / 1000)
    candidate = Checkpoint.objects.get(kind="heads")
    assert candidate.state == "promoted", (candidate.gate, worker.log)
    until(lambda: candidate.selected_generations.exists(), seconds=PATIENCE / 1000)

    # The manager sees the gate's words and why each item of the new generation is there.
    manager.goto(f"{address}/c/loop/checkpoints/{candidate.number}/")
    expect(manager.locator("main")).to_contain_text("surprisal", ignore_case=True)
    latest = candidate.selected_generations.get()
    manager.goto(f"{address}/c/loop/generations/{latest.number}/")
    reasons = manager.locator("td.why").all_inner_texts()
    assert len(reasons) == latest.queue_items.count() > 0
    assert any("random" in reason for reason in reasons)
    assert any("active" in reason and f"checkpoint {candidate.number}" in reason for reason in reasons)

    # The researcher takes the dataset; it parses as PRM800K and says what the labeler said.
    researcher = new_page()
    log_in(researcher, address, "rob", passwords["rob"])
    choose_own_password(researcher, passwords["rob"])
    researcher.goto(f"{address}/c/loop/datasets/")
    researcher.get_by_role("button", name="Write a new version").click()
    researcher.get_by_role("link", name="1", exact=True).click(timeout=PATIENCE)
    with researcher.expect_download() as download:
        researcher.get_by_role("link", name="Download PRM800K").click()
    target = tmp_path / "dataset.jsonl"
    download.value.save_as(target)
    exported = {record.problem: record for record in read_records(target, format="prm800k")}
    assert exported.keys() == said.keys()
    value_of = {"bad": -1, "neutral": 0, "good": 1}
    for problem, words in said.items():
        labeling = exported[problem].labeling
        assert labeling is not None
        assert [step.completions[0].rating for step in labeling.steps if step.completions] == [
            value_of[w] for w in words
        ]
        assert labeling.finish_reason == ("found_error" if words[-1] == "bad" else "solution")
    assert {record.labeling.labeler for record in exported.values() if record.labeling} == {
        str(Membership.objects.get(user__username="lea").uuid)
    }
