from __future__ import annotations

import datetime
from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.queue import claim_next
from annotator.models import Assignment
from tests.annotator.cast import act, make_member, path_of, rate, rating
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def test_it_shows_who_holds_what_and_how_far_they_are(cast: Cast, url: Url) -> None:
    cast.active()
    claimed = cast.claim()
    first, second, _ = path_of(claimed)
    mishit = rating(second, -1)
    rate(claimed, rating(first, 1), mishit, act("undo", undoes=mishit.client_id))
    body = cast.manager.get(url("leases/")).content.decode()
    assert claimed.solution.problem.text in body
    assert "1 / 3" in body
    assert "labeler" in body


def test_nobody_holding_anything_is_said_so(cast: Cast, url: Url) -> None:
    assert "Nobody holds a solution now." in cast.manager.get(url("leases/")).content.decode()


def test_a_lease_that_ran_out_is_still_listed(cast: Cast, url: Url) -> None:
    cast.active()
    cast.claim()
    Assignment.objects.update(lease_until=timezone.now() - datetime.timedelta(minutes=3))
    assert "ran out" in cast.manager.get(url("leases/")).content.decode()


def test_a_manager_frees_a_lease_and_somebody_else_gets_it(cast: Cast, url: Url) -> None:
    cast.active(train=1, validation=0)
    claimed = cast.claim()
    other = make_member(cast.campaign, "ben")
    assert claim_next(other) is None
    assert cast.manager.post(url(f"leases/{claimed.pk}/free/"))["Location"] == url("leases/")
    assert claim_next(other) is not None
    assert cast.manager.post(url(f"leases/{claimed.pk}/free/")).status_code == 409


def test_it_costs_the_same_for_many_leases(cast: Cast, url: Url) -> None:
    cast.active(train=6, validation=0)
    client = cast.manager

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(url("leases/"))
        return len(queries)

    cast.claim()
    few = cost()
    for name in ("ben", "carla", "dora"):
        assert claim_next(make_member(cast.campaign, name)) is not None
    assert cost() == few <= 8
