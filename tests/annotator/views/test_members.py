from __future__ import annotations

import re
from collections.abc import Callable

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotator.models import Labeling, Membership, Message, User
from tests.annotator.cast import Role, make_member
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]
SOFIA = {"username": "sofia", "email": "sofia@example.org", "role": "labeler"}


def test_somebody_new_gets_a_password_that_is_shown_once_and_works(cast: Cast, url: Url) -> None:
    response = cast.manager.post(url("members/"), SOFIA)
    assert response.status_code == 200
    assert response["Cache-Control"] == "no-store"
    found = re.search(r'class="secret"><code>([^<]+)', response.content.decode())
    assert found
    password = found[1]
    assert password not in cast.manager.get(url("members/")).content.decode()
    assert Client().login(username="sofia", password=password)


def test_somebody_known_joins_without_a_new_password(cast: Cast, url: Url) -> None:
    response = cast.manager.post(
        url("members/"), {"username": "stranger", "email": "stranger@example.org", "role": "researcher"}
    )
    assert "already had an account" in response.content.decode()
    assert Membership.objects.get(campaign=cast.campaign, user__username="stranger").role == Role.RESEARCHER


def test_what_does_not_fit_is_said_on_the_form(cast: Cast, url: Url) -> None:
    for change, complaint, status in (
        ({"email": "nonsense"}, "valid email", 400),
        ({"role": "emperor"}, "not one of the available choices", 400),
        ({"username": "labeler", "email": "labeler@example.org"}, "already belongs to this campaign", 409),
        ({"username": "sofia", "email": "labeler@example.org"}, "already uses the name", 409),
        ({"username": "no spaces please"}, "valid username", 400),
    ):
        response = cast.manager.post(url("members/"), {**SOFIA, **change})
        assert response.status_code == status
        assert complaint in response.content.decode()
    assert not User.objects.filter(username="sofia").exists()


def test_a_member_is_paused_with_a_reason_and_let_go_on(cast: Cast, url: Url) -> None:
    labeler = cast.members["labeler"]
    path = url(f"members/{labeler.pk}/state/")
    assert cast.manager.post(path, {"state": "paused", "reason": "Read the guideline again."}).status_code == 302
    labeler.refresh_from_db()
    assert (labeler.state, labeler.pause_reason) == ("paused", "Read the guideline again.")
    assert "Read the guideline again." in cast.labeler.get(url("label/")).content.decode()
    cast.manager.post(path, {"state": "active"})
    labeler.refresh_from_db()
    assert labeler.state == "active"
    assert cast.manager.post(path, {"state": "gone"}).status_code == 400


def test_managers_do_not_lock_themselves_out(cast: Cast, url: Url) -> None:
    response = cast.manager.post(url(f"members/{cast.members['manager'].pk}/state/"), {"state": "paused"})
    assert response.status_code == 409


def test_members_of_other_campaigns_are_out_of_reach(cast: Cast, url: Url) -> None:
    pk = cast.members["stranger"].pk
    assert cast.manager.post(url(f"members/{pk}/state/"), {"state": "paused"}).status_code == 404
    assert cast.manager.post(url(f"members/{pk}/password/")).status_code == 404


def test_a_one_time_password_is_renewed_only_while_it_is_one(cast: Cast, url: Url) -> None:
    cast.manager.post(url("members/"), SOFIA)
    sofia = Membership.objects.get(user__username="sofia")
    assert 'class="secret"' in cast.manager.post(url(f"members/{sofia.pk}/password/")).content.decode()
    refused = cast.manager.post(url(f"members/{cast.members['labeler'].pk}/password/"))
    assert refused.status_code == 409
    assert "only they can change it" in refused.content.decode()


def test_the_list_costs_the_same_for_many_members(cast: Cast, url: Url) -> None:
    client = cast.manager

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(url("members/"))
        return len(queries)

    few = cost()
    for number in range(6):
        make_member(cast.campaign, f"person-{number}")
    assert cost() == few


def test_everybody_has_the_figures_that_they_see_themselves(cast: Cast, url: Url) -> None:
    cast.active()
    said = cast.label_next(1, 1, 1)
    Labeling.objects.filter(pk=said.pk).update(active_ms=93_000)
    for body in (cast.manager.get(url("members/")).content.decode(), cast.labeler.get("/").content.decode()):
        assert "1 min 33 s" in body
        assert "31 s" in body


def test_a_message_goes_to_one_labeler_or_to_all(cast: Cast, url: Url) -> None:
    labeler = cast.members["labeler"]
    posted = cast.manager.post(url("members/messages/"), {"to": labeler.pk, "text": "Well done."})
    assert posted["Location"] == url("members/")
    assert Message.objects.get().membership == labeler
    cast.manager.post(url("members/messages/"), {"to": "", "text": "Friday is off."})
    assert Message.objects.filter(membership=None).count() == 1
    body = cast.labeler.get("/").content.decode()
    assert "Well done." in body
    assert "Friday is off." in body


def test_an_empty_message_or_one_to_a_stranger_is_refused(cast: Cast, url: Url) -> None:
    empty = cast.manager.post(url("members/messages/"), {"to": "", "text": "  "})
    assert empty.status_code == 400
    assert "This field is required" in empty.content.decode()
    stranger = cast.members["stranger"].pk
    assert cast.manager.post(url("members/messages/"), {"to": stranger, "text": "Hello."}).status_code == 400
    assert not Message.objects.exists()
