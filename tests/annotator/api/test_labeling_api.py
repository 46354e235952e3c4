"""The API that the labeling page and programs share: claim, rate, submit, skip, and clear refusals."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from annotator.actions.campaigns import activate_campaign, publish_guideline
from annotator.actions.people import own_password_chosen
from annotator.models import Assignment, Campaign, GoldLabel, Labeling, Membership, QueueItem, RatingEvent
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


def claim(client: Client, slug: str = "algebra", **more: Any) -> dict[str, Any]:
    item = send(client, "POST", f"/api/v1/campaigns/{slug}/next/", more).json()["item"]
    assert item is not None
    return item  # type: ignore[no-any-return]


def act(kind: str, **more: Any) -> dict[str, Any]:
    return {"client_id": str(uuid.uuid4()), "kind": kind, **more}


def rating(item: dict[str, Any], step: int, value: Any, **more: Any) -> dict[str, Any]:
    return act("rate", completion=item["completions"][step]["id"], value=value, **more)


def say(client: Client, item: dict[str, Any], *acts: dict[str, Any]) -> Any:
    return send(client, "POST", f"/api/v1/assignments/{item['assignment']}/acts/", {"acts": list(acts)})


def submit(client: Client, item: dict[str, Any], finish_reason: str, **more: Any) -> Any:
    body = {"client_id": str(uuid.uuid4()), "finish_reason": finish_reason, **more}
    return send(client, "POST", f"/api/v1/assignments/{item['assignment']}/submit/", body)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_a_labeling_from_claim_to_submit(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert item["problem"]["reference_answer"] == "2"
    acts = [rating(item, 0, 1), rating(item, 1, -1, flagged=True)]
    assert [say(client, item, each).json()["state"] for each in acts] == ["draft", "draft"]
    resumed = claim(client)
    assert resumed["assignment"] == item["assignment"]
    assert resumed["acts"] == [{"flagged": False, "active_ms": 0, "wall_ms": 0, **each} for each in acts]
    ended = submit(client, item, "found_error").json()
    assert ended == {"state": "submitted", "finish_reason": "found_error", "revision": 1}
    assert claim(client)["assignment"] != item["assignment"]


def test_all_acts_may_come_with_the_submit(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert submit(client, item, "solution", acts=[rating(item, step, 1) for step in range(3)]).status_code == 200
    assert Labeling.objects.get().ratings.count() == 3


def test_after_a_submit_the_one_that_lay_ahead_is_the_current_one_and_another_is_fetched(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item, ahead = claim(client), claim(client, ahead=True)
    assert submit(client, item, "found_error", acts=[rating(item, 0, -1)]).status_code == 200
    third = claim(client, ahead=True)
    assert third["assignment"] not in (item["assignment"], ahead["assignment"])
    assert claim(client)["assignment"] == ahead["assignment"]
    assert claim(client, ahead=True)["assignment"] == third["assignment"]


def test_the_next_solution_is_fetched_ahead_and_becomes_the_current_one(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    ahead = claim(client, ahead=True)
    assert ahead["assignment"] != item["assignment"]
    assert ahead["ahead"] is True
    assert claim(client, ahead=True)["assignment"] == ahead["assignment"]
    assert claim(client)["assignment"] == item["assignment"]
    assert submit(client, item, "found_error", acts=[rating(item, 0, -1)]).status_code == 200
    current = claim(client)
    assert (current["assignment"], current["ahead"]) == (ahead["assignment"], False)


def test_a_finished_solution_can_be_looked_at_and_corrected(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    submit(client, item, "solution", acts=[rating(item, step, 1) for step in range(3)])
    seen = client.get(f"/api/v1/assignments/{item['assignment']}/").json()
    assert (seen["state"], seen["revision"], len(seen["acts"])) == ("done", 1, 3)
    corrected = submit(client, item, "found_error", acts=[rating(item, 1, -1)])
    assert corrected.json() == {"state": "submitted", "finish_reason": "found_error", "revision": 2}


@pytest.mark.parametrize(("how", "comes_back"), [("release", 0), ("postpone", 2), ("skip", None)])
def test_a_solution_given_back_returns_when_it_should(campaign: Campaign, how: str, comes_back: int | None) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert send(client, "POST", f"/api/v1/assignments/{item['assignment']}/return/", {"how": how}).status_code == 204
    served: list[str] = []
    while following := send(client, "POST", "/api/v1/campaigns/algebra/next/").json()["item"]:
        served.append(following["assignment"])
        submit(client, following, "found_error", acts=[rating(following, 0, -1)])
    assert (served.index(item["assignment"]) if item["assignment"] in served else None) == comes_back


def test_a_changed_guideline_is_acknowledged_before_the_next_solution(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    publish_guideline(campaign, actor=make_user("boss"), text="Be kind.")
    answer = send(client, "POST", "/api/v1/campaigns/algebra/next/").json()
    assert (answer["item"], answer["empty"]["code"]) == (None, "guideline")
    path = "/api/v1/campaigns/algebra/guideline/"
    assert code(send(client, "POST", path, {"version": 1})) == (409, "old_version")
    assert send(client, "POST", path, {"version": 2}).status_code == 204
    item = claim(client)
    submit(client, item, "found_error", acts=[rating(item, 0, -1)])
    guideline = Labeling.objects.get().guideline
    assert guideline is not None
    assert guideline.version == 2


def test_a_persons_keys_are_kept(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    assert send(client, "PUT", "/api/v1/me/keys/", {"keys": {"bad": ["j"], "good": ["l"]}}).status_code == 204
    assert code(send(client, "PUT", "/api/v1/me/keys/", {"keys": {"bad": ["j"], "good": ["J"]}})) == (400, "key_taken")
    assert code(send(client, "PUT", "/api/v1/me/keys/", {"keys": {"dance": ["j"]}})) == (400, "unknown_act")
    assert Membership.objects.get(user__username="lea").user.keys == {"bad": ["j"], "good": ["l"]}


def test_the_item_tells_nothing_that_a_labeler_must_not_know(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    QueueItem.objects.update(score=0.123456, solution_score=0.654321, strategy="disagreement")
    GoldLabel.objects.create(campaign=campaign, completion_id=item["completions"][0]["id"], value=-1)
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
        assert code(say(stranger, item, rating(item, 0, 1))) == (404, "not_found")
        assert stranger.get(f"/api/v1/assignments/{item['assignment']}/").status_code == 404
        assert code(submit(stranger, item, "give_up", reason="mine now")) == (404, "not_found")
        assert (
            send(stranger, "POST", f"/api/v1/assignments/{item['assignment']}/return/", {"how": "skip"}).status_code
            == 404
        )
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


@pytest.mark.parametrize("value", [4, -2, "good", 1.5, [], {}])
def test_a_wrong_value_is_a_400_that_names_the_field(campaign: Campaign, value: Any) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    response = say(client, item, rating(item, 0, value))
    assert code(response) == (400, "invalid")
    assert "value" in json.dumps(response.json()["error"]["details"])


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({"kind": "rate", "value": 1}, "completion"),
        ({"kind": "rate", "completion": 1}, "value"),
        ({"kind": "undo"}, "undoes"),
        ({"kind": "critique", "value": 1}, "critique"),
        ({"kind": "dance"}, "kind"),
        ({"kind": "rate", "completion": 1, "value": 1, "client_id": "mine"}, "client_id"),
        ({"kind": "write", "text": "a\0b"}, "text"),
        ({"kind": "own_critique", "text": "x" * 20_001}, "text"),
        ({"kind": "rate", "completion": 1, "value": 1, "active_ms": -1}, "active_ms"),
    ],
)
def test_an_act_that_lacks_something_is_a_400_that_names_it(
    campaign: Campaign, broken: dict[str, Any], field: str
) -> None:
    client = login(campaign, "lea")
    response = say(client, claim(client), {"client_id": str(uuid.uuid4()), **broken})
    assert code(response) == (400, "invalid")
    assert field in json.dumps(response.json()["error"]["details"])
    assert not Labeling.objects.exists()


def test_what_a_kind_does_not_need_is_left_out(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    foreign = rating(item, 0, 1, critique=987_654, undoes=str(uuid.uuid4()), text="x")
    undo = act("undo", undoes=foreign["client_id"], completion=999_999, value=1)
    assert say(client, item, foreign, undo).status_code == 200
    stored = list(RatingEvent.objects.order_by("id").values_list("kind", "critique", "completion", "text"))
    assert stored == [("rate", None, item["completions"][0]["id"], ""), ("undo", None, None, "")]
    assert code(say(client, item, act("rate", completion=10**40, value=1))) == (400, "invalid")


def test_a_hostile_body_is_a_400(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    path = f"/api/v1/assignments/{claim(client)['assignment']}/acts/"
    deep = '{"acts":' + "[" * 100_000 + "]" * 100_000 + "}"
    assert code(client.post(path, deep, content_type="application/json")) == (400, "parse_error")
    large = json.dumps({"acts": [], "more": "x" * (4 * 1024 * 1024)})
    assert code(client.post(path, large, content_type="application/json")) == (400, "parse_error")


def test_protocol_refusals_have_their_own_codes_and_change_nothing(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    foreign = act("rate", completion=10**9, value=1)
    assert code(say(client, item, rating(item, 1, 1))) == (409, "step_skipped")
    assert code(say(client, item, rating(item, 0, 2))) == (400, "bad_rating")
    assert code(say(client, item, rating(item, 0, 1), foreign)) == (400, "unknown_completion")
    assert code(say(client, item, act("progress", value=1))) == (409, "follow_up_off")
    assert code(say(client, item, act("write", text="mine"))) == (409, "not_needed")
    assert code(say(client, item, act("undo", undoes=str(uuid.uuid4())))) == (409, "not_last")
    assert code(submit(client, item, "solution")) == (400, "ratings_missing")
    assert code(submit(client, item, "tired")) == (400, "invalid")
    assert code(submit(client, item, "give_up")) == (400, "reason_missing")
    assert code(submit(client, item, "solution", acts=[foreign])) == (400, "unknown_completion")
    assert code(submit(client, item, "")) == (400, "ratings_missing")
    assert code(submit(client, item, "solution", acts=[rating(item, 0, -1)])) == (400, "wrong_finish_reason")
    assert not Labeling.objects.exists()
    assert not RatingEvent.objects.exists()


def test_broken_json_is_a_400(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    response = client.post(f"/api/v1/assignments/{item['assignment']}/submit/", "{", content_type="application/json")
    assert code(response) == (400, "parse_error")


def test_leases_are_kept_until_the_solution_is_given_back(campaign: Campaign) -> None:
    client = login(campaign, "lea")
    item = claim(client)
    assert "lease_until" in send(client, "POST", f"/api/v1/assignments/{item['assignment']}/lease/").json()
    back = f"/api/v1/assignments/{item['assignment']}/return/"
    assert code(send(client, "POST", back, {"how": "throw"})) == (400, "invalid")
    assert send(client, "POST", back, {"how": "skip"}).status_code == 204
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
    assert claim(program)["completions"]


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
    submit(client, item, "found_error", acts=[rating(item, 0, -1)])
    assert client.get("/api/v1/campaigns/algebra/progress/").json() == {
        "status": "active",
        "generation": 0,
        "checkpoint": None,
        "items": 3,
        "items_done": 1,
        "labelings": 1,
        "solutions": 3,
    }
