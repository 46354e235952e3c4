from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.campaigns import pause_campaign
from annotator.actions.jobs import record_pulse
from annotator.actions.people import set_member_state
from annotator.models import Campaign, Guideline, Job, Membership
from tests.annotator.cast import Role, fill_pool, make_campaign
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]
SETTINGS = {
    "name": "Algebra, second part",
    "domain": "algebra",
    "labelings_wanted": 2,
    "lease_minutes": 20,
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


# --- Home ------------------------------------------------------------------------------------------------------------


def test_home_says_what_to_do_next_in_each_role(cast: Cast) -> None:
    cast.active()
    assert 'href="/c/algebra/label/"' in cast.labeler.get("/").content.decode()
    assert 'href="/c/algebra/datasets/"' in cast.researcher.get("/").content.decode()
    assert "Overview" in cast.manager.get("/").content.decode()


def test_home_tells_a_paused_labeler_why(cast: Cast) -> None:
    cast.active()
    manager = cast.members["manager"].user
    set_member_state(cast.members["labeler"], actor=manager, state=Membership.State.PAUSED, reason="Let us talk first.")
    body = cast.labeler.get("/").content.decode()
    assert "Let us talk first." in body
    assert 'href="/c/algebra/label/"' not in body


def test_home_of_somebody_without_campaigns_says_how_to_get_in(cast: Cast) -> None:
    Membership.objects.all().delete()
    assert "adds you by your user name, labeler" in cast.labeler.get("/").content.decode()


def test_home_costs_the_same_for_many_campaigns(cast: Cast) -> None:
    def cost() -> int:
        client = cast.labeler
        with CaptureQueriesContext(connection) as queries:
            client.get("/")
        return len(queries)

    few = cost()
    for number in range(5):
        Membership.objects.create(
            campaign=make_campaign(f"more-{number}"), user=cast.members["labeler"].user, role=Role.LABELER
        )
    assert cost() == few


# --- Create, settings ------------------------------------------------------------------------------------------------


def test_a_manager_creates_a_campaign_and_manages_it(cast: Cast) -> None:
    response = cast.manager.post("/campaigns/new/", {**SETTINGS, "slug": "algebra-2", "backbone": "embedded"})
    assert response["Location"] == "/c/algebra-2/"
    campaign = Campaign.objects.get(slug="algebra-2")
    assert campaign.selection_policy == {"random_share": 0.25, "strategies": {"uncertainty": 1.0}, "per_problem": 2}
    assert campaign.memberships.get().user == cast.members["manager"].user


def test_a_short_name_that_cannot_stand_in_an_address_is_refused(cast: Cast) -> None:
    response = cast.manager.post("/campaigns/new/", {**SETTINGS, "slug": "Algebra 2!", "backbone": "embedded"})
    assert response.status_code == 400
    assert "Use letters, digits, hyphens and underscores only." in response.content.decode()


def test_a_taken_name_is_refused_on_the_form(cast: Cast) -> None:
    response = cast.manager.post("/campaigns/new/", {**SETTINGS, "slug": "geometry", "backbone": "embedded"})
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
    Campaign.objects.filter(slug="algebra").update(phase=1)
    response = cast.manager.post(url("status/"), {"do": "activate"})
    assert response.status_code == 409
    assert "Phase 1 labelings can be imported and exported" in response.content.decode()
    assert "Nothing was changed" in response.content.decode()


# --- Guideline -------------------------------------------------------------------------------------------------------


def test_a_change_of_the_guideline_is_a_new_version(cast: Cast, url: Url) -> None:
    assert cast.manager.post(url("guideline/"), {"text": "# Be *kind*\r\n\r\nand exact."})["Location"] == url(
        "guideline/"
    )
    assert Guideline.objects.filter(campaign=cast.campaign).count() == 2
    body = cast.labeler.get(url("guideline/")).content.decode()
    assert "<h1>Be <em>kind</em></h1>" in body
    assert "How to rate a step" in cast.labeler.get(url("guideline/?version=1")).content.decode()


def test_a_guideline_cannot_smuggle_html_or_links(cast: Cast, url: Url) -> None:
    text = "<script>alert(1)</script> [click](javascript:alert(1)) ![x](http://example.org/x.png) <b>bold</b>"
    cast.manager.post(url("guideline/"), {"text": text})
    body = cast.labeler.get(url("guideline/")).content.decode().partition("<article")[2].partition("</article>")[0]
    assert "&lt;script&gt;" in body
    for tag in ("<script", "<a ", "<img", "<b>"):
        assert tag not in body


def test_an_empty_guideline_is_refused(cast: Cast, url: Url) -> None:
    response = cast.manager.post(url("guideline/"), {"text": "  "})
    assert response.status_code == 400
    assert "This field is required" in response.content.decode()


def test_the_navigation_shows_what_the_role_can_open(cast: Cast, url: Url) -> None:
    pause_campaign(cast.campaign, actor=cast.members["manager"].user)
    of_labeler = cast.labeler.get(url("guideline/")).content.decode()
    assert url("label/") in of_labeler
    assert url("members/") not in of_labeler
    assert url("members/") in cast.manager.get(url("guideline/")).content.decode()
