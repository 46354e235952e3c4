from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import Client

from annotator.actions.people import add_member
from annotator.views.accounts import ATTEMPTS
from tests.annotator.cast import Role, make_user
from tests.annotator.views.conftest import Cast

LOGIN = "/accounts/login/"
CHANGE = "/accounts/password/"


@pytest.fixture(autouse=True)
def no_earlier_attempts() -> None:
    cache.clear()


def test_it_logs_in_and_out(db: None) -> None:
    make_user("ada")
    client = Client()
    response = client.post(LOGIN, {"username": "ada", "password": "correct horse"})
    assert response.status_code == 302
    assert response["Location"] == "/"
    assert client.get("/").status_code == 200
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/")["Location"] == LOGIN
    assert client.get("/").status_code == 302


def test_it_sends_people_back_to_where_they_wanted_to_go_but_nowhere_else(db: None) -> None:
    make_user("ada")
    answers = {"username": "ada", "password": "correct horse"}
    assert Client().post(f"{LOGIN}?next=/c/algebra/", answers)["Location"] == "/c/algebra/"
    assert Client().post(f"{LOGIN}?next=https://example.org/", answers)["Location"] == "/"


def test_who_was_logged_out_over_a_form_comes_back_to_a_page_that_opens(cast: Cast) -> None:
    sent = Client().post("/c/algebra/status/", {"do": "pause"})
    assert sent["Location"] == f"{LOGIN}?next=/"
    assert Client().get("/c/algebra/members/?page=2")["Location"] == f"{LOGIN}?next=/c/algebra/members/%3Fpage%3D2"


def test_it_slows_down_guessing_for_one_name_only(db: None) -> None:
    make_user("ada")
    make_user("emmy")
    client = Client()
    for _ in range(ATTEMPTS):
        assert client.post(LOGIN, {"username": "ada", "password": "wrong"}).status_code == 200
    refused = client.post(LOGIN, {"username": "ADA", "password": "correct horse"})
    assert refused.status_code == 429
    assert "Too many attempts" in refused.content.decode()
    assert client.post(LOGIN, {"username": "emmy", "password": "correct horse"}).status_code == 302


def test_a_one_time_password_opens_only_the_page_that_replaces_it(cast: Cast) -> None:
    member, password = add_member(
        cast.campaign, actor=None, username="sofia", email="sofia@example.org", role=Role.LABELER
    )
    client = Client()
    client.post(LOGIN, {"username": "sofia", "password": password})
    for path in ("/", "/c/algebra/label/", "/campaigns/new/"):
        response = client.get(path)
        assert response.status_code == 302
        assert response["Location"] == CHANGE
    refused = client.post("/api/v1/campaigns/algebra/next/")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "own_password_needed"

    weak = client.post(CHANGE, {"old_password": password, "new_password1": "short", "new_password2": "short"})
    assert weak.status_code == 200
    assert "too short" in weak.content.decode()
    own = {"old_password": password, "new_password1": "a quiet river 7", "new_password2": "a quiet river 7"}
    assert client.post(CHANGE, own)["Location"] == "/"
    assert client.get("/").status_code == 200
    member.user.refresh_from_db()
    assert not member.user.must_change_password


def test_the_admin_has_no_second_login(db: None) -> None:
    response = Client().get("/admin/login/")
    assert response.status_code == 302
    assert response["Location"].startswith(LOGIN)


def test_the_admin_lists_and_changes_nothing(admin_client: Client, cast: Cast) -> None:
    for name in ("user", "campaign", "membership", "job", "importrun", "auditevent", "generation", "checkpoint"):
        assert admin_client.get(f"/admin/annotator/{name}/").status_code == 200
    assert admin_client.get("/admin/annotator/campaign/add/").status_code == 403
    assert admin_client.post(f"/admin/annotator/campaign/{cast.campaign.pk}/change/", {"name": "X"}).status_code == 403


def test_a_form_without_its_token_is_refused_in_words(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.members["manager"].user)
    response = client.post("/c/algebra/status/", {"do": "activate"})
    assert response.status_code == 403
    assert "Nothing was changed" in response.content.decode()


def test_unknown_addresses_get_a_page_with_a_way_out(db: None) -> None:
    response = Client().get("/nowhere/")
    assert response.status_code == 404
    assert "My campaigns" in response.content.decode()


def test_an_error_of_ours_gets_a_page_too(db: None, monkeypatch: pytest.MonkeyPatch, cast: Cast) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("annotator.views.learning.generation_rows", broken)
    client = cast.manager
    client.raise_request_exception = False
    response = client.get("/c/algebra/generations/")
    assert response.status_code == 500
    assert "Something broke on our side" in response.content.decode()
    assert "boom" not in response.content.decode()
