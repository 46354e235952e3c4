"""The API that the labeling page and programs share: claim, rate, submit, skip, and clear refusals."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from annotator.actions.campaigns import activate_campaign
from annotator.actions.people import own_password_chosen
from annotator.models import Assignment, Campaign, GoldLabel, Labeling, QueueItem
from tests.annotator.cast import Role, fill_pool, make_campaign, make_member, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    campaign = make_campaign(audit_per_generation=0)
    fill_pool(campaign, train=3)
    return activate_campaign(campaign, actor=None)


def login(campaign: Campaign, username: str, role: Any = Role.LABELER) -> Client:
    client = Client()
    client.force_login(make_member(campaign, username, role).user)
    return client


def send(client: Client, method: str, path: str, body: Any = None) -> Any:
    return client.generic(method, path, json.dumps(body or {}), content_type="application/json")


def claim(client: Client, slug: str = "algebra") -> dict[str, Any]:
    item = send(client, "POST", f"/api/v1/campaigns/{slug}/next/").json()["item"]
    assert item is not None
    return item  # type: ignore[no-any-return]


def rate(client: Client, item: dict[str, Any], step: int, value: Any, **more: Any) -> Any:
    path = f"/api/v1/assignments/{item['assignment']}/ratings/{item['steps'][step]['completion']}/"
    return send(client, "PUT", path, {"client_id": str(uuid.uuid4()), "value": value, **more})


def submit(client: Client, item: dict[str, Any], finish_reason: str, **more: Any) -> Any:
    body = {"client_id": str(uuid.uuid4()), "finish_reason": finish_reason, **more}
    return send(client, "POST", f"/api/v1/assignments/{item['assignment']}/submit/", body)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_labeling_from_claim_to_submit(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert item["problem"]["reference_answer"] == "2"
    assert rate(client, item, 0, 1).status_code == 200
    assert rate(client, item, 1, -1, flagged=True).status_code == 200
    resumed = claim(client)
    assert [(step["value"], step["flagged"]) for step in resumed["steps"]] == [(1, False), (-1, True), (None, False)]
    assert submit(client, item, "found_error").json() == {"state": "submitted", "finish_reason": "found_error"}
    assert claim(client)["assignment"] != item["assignment"]


def test_all_ratings_may_come_with_the_submit(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    ratings = [{"client_id": str(uuid.uuid4()), "completion": step["completion"], "value": 1} for step in item["steps"]]
    assert submit(client, item, "solution", ratings=ratings).status_code == 200
    assert Labeling.objects.get().ratings.count() == 3


def test_the_item_tells_nothing_that_a_labeler_must_not_know(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    QueueItem.objects.update(score=0.123456, solution_score=0.654321, strategy="disagreement")
    GoldLabel.objects.create(campaign=campaign, completion_id=item["steps"][0]["completion"], value=-1)
    text = send(client, "POST", "/api/v1/campaigns/algebra/next/").content.decode()
    for secret in ("0.123456", "0.654321", "disagreement", "gold", "arm", "random", "checkpoint"):
        assert secret not in text


def test_the_reference_answer_can_be_hidden(campaign: Campaign) -> None:
    Campaign.objects.update(show_reference_answer=False)
    assert claim(login(campaign, "lea"))["problem"]["reference_answer"] is None


def test_an_empty_queue_comes_with_its_reason(campaign: Campaign) -> None:
    Campaign.objects.update(status="paused")
    answer = send(login(campaign, "lea"), "POST", "/api/v1/campaigns/algebra/next/").json()
    assert answer["item"] is None
    assert answer["empty"]["code"] == "paused"


def test_somebody_elses_assignment_does_not_exist(campaign: Campaign) -> None:
    item = claim(login(campaign, "lea"))
    for stranger in (login(campaign, "max"), login(campaign, "mia", Role.MANAGER)):
        assert code(rate(stranger, item, 0, 1)) == (404, "not_found")
        assert code(submit(stranger, item, "give_up", reason="mine now")) == (404, "not_found")
        assert send(stranger, "POST", f"/api/v1/assignments/{item['assignment']}/skip/").status_code == 404
        assert send(stranger, "POST", f"/api/v1/assignments/{item['assignment']}/lease/").status_code == 404
    assert not Labeling.objects.exists()
    assert Assignment.objects.get().state == "active"


def test_a_strangers_campaign_does_not_exist(campaign: Campaign) -> None:
    stranger = Client()
    stranger.force_login(make_user("eve"))
    for method, path in [
        ("POST", "/api/v1/campaigns/algebra/next/"),
        ("GET", "/api/v1/campaigns/algebra/progress/"),
        ("GET", "/api/v1/campaigns/algebra/datasets/"),
    ]:
        assert code(send(stranger, method, path)) == (404, "not_found")


def test_nobody_gets_in_without_login(campaign: Campaign) -> None:
    assert send(Client(), "POST", "/api/v1/campaigns/algebra/next/").status_code in (401, 403)


def test_a_browsers_write_needs_its_csrf_token(campaign: Campaign) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_member(campaign, "lea").user)
    assert send(client, "POST", "/api/v1/campaigns/algebra/next/").status_code == 403


@pytest.mark.parametrize("value", [2, "good", 1.5, [], {}])
def test_a_wrong_rating_value_is_a_400_that_names_the_field(campaign: Campaign, value: Any) -> None:
    client = login(campaign, "lea")
    response = rate(client, claim(client), 0, value)
    assert code(response) == (400, "invalid")
    assert "value" in response.json()["error"]["details"]


def test_protocol_refusals_have_their_own_codes(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert code(rate(client, item, 1, 1)) == (409, "step_skipped")
    assert code(submit(client, item, "solution")) == (400, "ratings_missing")
    assert code(submit(client, item, "tired")) == (400, "invalid")
    assert code(submit(client, item, "give_up")) == (400, "reason_missing")
    foreign = {"completion": 10**9, "client_id": str(uuid.uuid4()), "value": 1}
    assert code(submit(client, item, "solution", ratings=[foreign])) == (400, "unknown_completion")
    assert not Labeling.objects.exclude(ratings=None).exists()


def test_broken_json_is_a_400(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    response = client.post("/api/v1/campaigns/algebra/next/", "{", content_type="application/json")
    assert response.status_code in (200, 400)  # nothing is read from this body
    item = claim(client)
    response = client.post(f"/api/v1/assignments/{item['assignment']}/submit/", "{", content_type="application/json")
    assert code(response) == (400, "parse_error")


def test_leases_are_kept_and_skips_returned(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert "lease_until" in send(client, "POST", f"/api/v1/assignments/{item['assignment']}/lease/").json()
    assert send(client, "POST", f"/api/v1/assignments/{item['assignment']}/skip/").status_code == 204
    assert code(send(client, "POST", f"/api/v1/assignments/{item['assignment']}/lease/")) == (409, "not_active")


def test_researchers_do_not_label_and_labelers_do_not_export(campaign: Campaign) -> None:
    researcher, labeler = login(campaign, "rob", Role.RESEARCHER), login(campaign, "lea")
    assert code(send(researcher, "POST", "/api/v1/campaigns/algebra/next/")) == (403, "wrong_role")
    assert code(send(labeler, "GET", "/api/v1/campaigns/algebra/datasets/")) == (403, "wrong_role")


def test_a_token_opens_the_api_to_programs(campaign: Campaign) -> None:
    make_member(campaign, "lea")
    token = send(Client(), "POST", "/api/v1/token/", {"username": "lea", "password": "correct horse"}).json()["token"]
    program = Client(headers={"Authorization": f"Token {token}"})
    assert program.get("/api/v1/campaigns/").json() == [
        {"slug": "algebra", "name": "Algebra", "status": "active", "phase": 2, "role": "labeler"}
    ]
    assert claim(program)["steps"]


def test_a_one_time_password_buys_no_token(campaign: Campaign) -> None:
    lea = make_member(campaign, "lea").user
    lea.must_change_password = True
    lea.save()
    answer = send(Client(), "POST", "/api/v1/token/", {"username": "lea", "password": "correct horse"})
    assert code(answer) == (403, "own_password_needed")


def test_a_chosen_password_ends_what_was_opened_before(campaign: Campaign) -> None:
    lea = make_member(campaign, "lea").user
    token = send(Client(), "POST", "/api/v1/token/", {"username": "lea", "password": "correct horse"}).json()["token"]
    own_password_chosen(lea)
    assert Client(headers={"Authorization": f"Token {token}"}).get("/api/v1/campaigns/").status_code in (401, 403)


def test_guessing_passwords_is_slowed_down_whatever_address_is_claimed(campaign: Campaign, settings: Any) -> None:
    cache.clear()
    guesses = [
        Client(headers={"X-Forwarded-For": f"10.0.0.{number}"}).post("/api/v1/token/", {"username": "lea"}).status_code
        for number in range(25)
    ]
    cache.clear()
    assert 429 in guesses


def test_progress_counts(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    rate(client, item, 0, -1)
    submit(client, item, "found_error")
    assert client.get("/api/v1/campaigns/algebra/progress/").json() == {
        "status": "active",
        "generation": 0,
        "checkpoint": None,
        "items": 3,
        "items_done": 1,
        "labelings": 1,
        "solutions": 3,
    }
