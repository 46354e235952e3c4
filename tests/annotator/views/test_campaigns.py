from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.campaigns import pause_campaign
from annotator.actions.jobs import record_pulse
from annotator.models import Campaign, Job, QueueItem
from tests.annotator.cast import fill_pool
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]
SETTINGS = {
    "name": "Algebra, second part",
    "domain": "algebra",
    "labelings_wanted": 2,
    "lease_minutes": 20,
    "idle_minutes": 5,
    "correction_hours": 12,
    "scope": "whole",
    "target_steps": 2,
    "progress": "optional",
    "critiques": "required",
    "alternatives": "off",
    "generation_size": 100,
    "audit_per_generation": 10,
    "retrain_after": 40,
    "gate_policy": "better",
    "random_share": 25,
    "strategy_uncertainty": 100,
    "strategy_margin": 0,
    "strategy_disagreement": 0,
    "strategy_convincing_wrong_answer": 0,
    "per_problem": 2,
}

NEW = {
    **SETTINGS,
    "slug": "algebra-2",
    "phase": 2,
    "candidates_shown": 5,
    "continue_by": "draw",
    "backbone": "embedded",
}


# --- Create, settings ------------------------------------------------------------------------------------------------


def test_a_manager_creates_a_campaign_and_manages_it(cast: Cast) -> None:
    response = cast.manager.post("/campaigns/new/", NEW)
    assert response["Location"] == "/c/algebra-2/"
    campaign = Campaign.objects.get(slug="algebra-2")
    assert campaign.selection_policy == {"random_share": 0.25, "strategies": {"uncertainty": 1.0}, "per_problem": 2}
    assert campaign.memberships.get().user == cast.members["manager"].user


def test_a_short_name_that_cannot_stand_in_an_address_is_refused(cast: Cast) -> None:
    response = cast.manager.post("/campaigns/new/", {**NEW, "slug": "Algebra 2!"})
    assert response.status_code == 400
    assert "Use letters, digits, hyphens and underscores only." in response.content.decode()


def test_a_taken_name_is_refused_on_the_form(cast: Cast) -> None:
    response = cast.manager.post("/campaigns/new/", {**NEW, "slug": "geometry"})
    assert response.status_code in (400, 409)
    assert "already" in response.content.decode()


def test_others_than_managers_cannot_create(cast: Cast) -> None:
    assert cast.labeler.get("/campaigns/new/").status_code == 403
    assert cast.labeler.post("/campaigns/new/", {**SETTINGS, "slug": "mine"}).status_code == 403
    assert not Campaign.objects.filter(slug="mine").exists()


def test_settings_change_what_was_changed(cast: Cast, url: Url) -> None:
    assert cast.manager.post(url("settings/"), SETTINGS)["Location"] == url("settings/")
    campaign = Campaign.objects.get(slug="algebra")
    assert (campaign.name, campaign.labelings_wanted, campaign.gate_policy) == ("Algebra, second part", 2, "better")
    assert campaign.slug == "algebra"
    assert (campaign.progress, campaign.critiques, campaign.alternatives) == ("optional", "required", "off")
    assert (campaign.idle_minutes, campaign.correction_hours) == (5, 12)


def test_a_change_of_the_labelings_wanted_goes_through_the_queue(cast: Cast, url: Url) -> None:
    cast.manager.post(url("settings/"), SETTINGS)
    assert Job.objects.filter(campaign=cast.campaign, kind=Job.Kind.REWANT).count() == 1
    Job.objects.update(state=Job.State.DONE)
    cast.manager.post(url("settings/"), {**SETTINGS, "name": "Another name"})
    assert Job.objects.filter(campaign=cast.campaign, kind=Job.Kind.REWANT).count() == 1


def test_settings_ask_only_what_means_something_in_the_phase(cast: Cast, url: Url) -> None:
    judge = cast.manager.get(url("settings/")).content.decode()
    assert 'name="alternatives"' in judge
    assert 'name="always_grid"' not in judge
    Campaign.objects.update(phase=1)
    choose = cast.manager.get(url("settings/")).content.decode()
    assert 'name="always_grid"' in choose
    assert 'name="alternatives"' not in choose


def test_a_candidate_endpoint_is_offered_where_the_operator_has_one(cast: Cast, url: Url, settings: Any) -> None:
    settings.CANDIDATE_ENDPOINT_URL = ""
    assert "candidate_source" not in cast.manager.get(url("settings/")).content.decode()
    settings.CANDIDATE_ENDPOINT_URL = "http://127.0.0.1:9/v1"
    assert "candidate_source" in cast.manager.get(url("settings/")).content.decode()
    asked = {**SETTINGS, "candidate_source": "endpoint"}
    refused = cast.manager.post(url("settings/"), asked)
    assert "Name the model that is to write candidates." in refused.content.decode()
    assert cast.manager.post(url("settings/"), {**asked, "candidate_model": "tiny"}).status_code == 302
    assert Campaign.objects.get(slug="algebra").candidate_model == "tiny"


def test_a_phase_1_campaign_is_created_with_its_own_settings(cast: Cast) -> None:
    cast.manager.post("/campaigns/new/", {**NEW, "phase": 1, "always_grid": "on", "scope": "targeted"})
    campaign = Campaign.objects.get(slug="algebra-2")
    assert (campaign.phase, campaign.candidates_shown, campaign.always_grid) == (1, 5, True)
    assert campaign.continue_by == "draw"
    assert campaign.scope == "whole"


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("strategy_margin", 30, "add up to 130"),
        ("labelings_wanted", 0, "greater than or equal to 1"),
        ("random_share", 101, "less than or equal to 100"),
        ("strategy_uncertainty", 0, "Give at least one strategy a share"),
        ("gate_policy", "whatever", "not one of the available choices"),
    ],
)
def test_settings_name_what_is_wrong_and_keep_the_rest(
    cast: Cast, url: Url, field: str, value: object, complaint: str
) -> None:
    response = cast.manager.post(url("settings/"), {**SETTINGS, field: value})
    assert response.status_code == 400
    assert complaint in response.content.decode()
    assert Campaign.objects.get(slug="algebra").name == "Algebra"


# --- Overview --------------------------------------------------------------------------------------------------------


def test_the_overview_sends_others_to_their_own_page(cast: Cast, url: Url) -> None:
    assert cast.labeler.get(url())["Location"] == url("label/")
    assert cast.researcher.get(url())["Location"] == url("datasets/")


def test_the_overview_of_a_draft_lists_what_is_left_to_do(cast: Cast, url: Url) -> None:
    body = cast.manager.get(url()).content.decode()
    for step in ("Import solutions", "Add labelers", "Activate"):
        assert step in body


def test_the_overview_answers_how_far_and_links_to_the_rows(cast: Cast, url: Url) -> None:
    cast.active(train=4, validation=2)
    cast.label_next(1, 1, 1)
    cast.label_next(1, -1)
    body = cast.manager.get(url()).content.decode()
    assert f'<a href="{url("generations/")}">2</a>' in body
    assert "2 of 6" in body
    assert "5 judged steps" in body
    assert "2 today" in body


def test_the_overview_costs_the_same_for_a_larger_pool(cast: Cast, url: Url) -> None:
    cast.active(train=12, validation=4)
    client = cast.manager

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url()).status_code == 200
        return len(queries)

    cast.label_next(1, 1, 1)
    few = cost()
    for _ in range(6):
        cast.label_next(1, 0, -1)
    assert cost() == few <= 30


def test_the_overview_says_what_waits_for_a_manager(cast: Cast, url: Url) -> None:
    cast.active()
    quiet = cast.manager.get(url()).content.decode()
    assert "to look at" not in quiet
    cast.label_next(1, 1, 1, comment="Nice one.")
    waiting = QueueItem.objects.filter(taken=0).earliest("pk")
    QueueItem.objects.filter(pk=waiting.pk).update(lane=QueueItem.Lane.REVIEW)
    cast.claim()
    body = cast.manager.get(url()).content.decode()
    assert f'<a href="{url("reports/")}">1 report to look at</a>' in body
    assert "1 item waits for a reviewer" in body
    assert f'<a href="{url("leases/")}">1 solution is with a labeler</a>' in body


def test_the_overview_says_when_no_worker_runs_what_waits_and_how_to_start_one(cast: Cast, url: Url) -> None:
    cast.active()
    body = cast.manager.get(url()).content.decode()
    assert "No worker is running." in body
    assert "celery -A annotator.celery_app worker -Q gpu" in body
    assert "People can go on labeling" in body
    for queue in ("default", "gpu"):
        record_pulse(queue)
    assert "No worker" not in cast.manager.get(url()).content.decode()


def test_the_live_part_shows_jobs_moving_and_is_no_whole_page(cast: Cast, url: Url) -> None:
    cast.active()
    Job.objects.update(state=Job.State.RUNNING, done=30, total=120, note="epoch 3", started_at=timezone.now())
    body = cast.manager.get(url("live/")).content.decode()
    assert "<html" not in body
    assert "epoch 3" in body
    assert 'value="0.250"' in body
    assert 'data-live-seconds="2"' in body


def test_a_failed_job_is_named_with_its_error(cast: Cast, url: Url) -> None:
    cast.active()
    Job.objects.filter(kind=Job.Kind.PRETRAIN).update(
        state=Job.State.FAILED, error="too few <solutions>", finished_at=timezone.now()
    )
    body = cast.manager.get(url()).content.decode()
    assert "To pretrain the embedded model failed" in body
    assert "too few &lt;solutions&gt;" in body


def test_activate_pause_finish(cast: Cast, url: Url) -> None:
    fill_pool(cast.campaign)
    for do, status in (("activate", "active"), ("pause", "paused"), ("activate", "active"), ("finish", "finished")):
        assert cast.manager.post(url("status/"), {"do": do})["Location"] == url()
        assert Campaign.objects.get(slug="algebra").status == status
    assert cast.manager.post(url("status/"), {"do": "explode"}).status_code == 400


def test_what_cannot_be_activated_is_refused_in_words(cast: Cast, url: Url) -> None:
    empty = cast.manager.post(url("status/"), {"do": "activate"})
    assert empty.status_code == 409
    assert "import solutions first" in empty.content.decode()
    assert "Nothing was changed" in empty.content.decode()


def test_the_navigation_shows_what_the_role_can_open(cast: Cast, url: Url) -> None:
    pause_campaign(cast.campaign, actor=cast.members["manager"].user)
    of_labeler = cast.labeler.get(url("guideline/")).content.decode()
    assert url("label/") in of_labeler
    assert url("members/") not in of_labeler
    assert url("members/") in cast.manager.get(url("guideline/")).content.decode()
