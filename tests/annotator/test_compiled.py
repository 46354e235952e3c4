"""Queries that are turned into SQL once give what the querysets give that they were made from."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import connection
from django.db.models import BigIntegerField, CharField, DateTimeField, Exists, F, OuterRef, UUIDField
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.campaigns import activate_campaign
from annotator.actions.queue import claim_next
from annotator.compiled import Compiled
from annotator.models import Assignment, Completion, Membership, QueueItem, Solution, User
from tests.annotator.cast import fill_pool, make_campaign, make_member

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


@pytest.fixture
def held() -> Assignment:
    campaign = make_campaign(audit_per_generation=0)
    fill_pool(campaign)
    assignment = claim_next(make_member(activate_campaign(campaign, actor=None), "lea"))
    assert assignment is not None
    return Assignment.objects.get(pk=assignment.pk)


def test_instances_come_with_the_rows_around_them(held: Assignment) -> None:
    mine = Compiled(
        lambda pk, user: Assignment.objects.select_related("membership__user", "item").filter(
            pk=pk, membership__user=user
        ),
        UUIDField(),
        BigIntegerField(),
    )
    user = held.membership.user
    for _ in range(2):  # the second time the SQL is there already
        with CaptureQueriesContext(connection) as queries:
            found = mine.first(held.pk, user.pk)
            assert found == held
            assert (found.membership.user, found.item.solution_id) == (user, held.solution_id)
            assert (found.rules, found.lease_until) == (held.rules, held.lease_until)
            assert not found.get_deferred_fields()
        assert len(queries) == 1
    assert mine.first(uuid.uuid4(), user.pk) is None
    assert mine.first(held.pk, user.pk + 1) is None


def test_an_instance_can_be_saved(held: Assignment) -> None:
    found = Compiled(lambda pk: Assignment.objects.filter(pk=pk), UUIDField()).first(held.pk)
    found.state = Assignment.State.RELEASED
    found.save()
    held.refresh_from_db()
    assert held.state == Assignment.State.RELEASED


def test_rows_of_values_keep_their_types_and_order(held: Assignment) -> None:
    def rows(solution: Any) -> Any:
        followers = Completion.objects.filter(parent=OuterRef("pk"))
        ordered = Completion.objects.filter(solution=solution).order_by("-step_index")
        return ordered.values_list("step_index", "text", "parent", Exists(followers), F("solution__problem__text"))

    compiled = Compiled(rows, BigIntegerField())
    for solution in Solution.objects.order_by("-pk"):
        found = compiled.all(solution.pk)
        assert found == list(rows(solution))
        assert len(found) == solution.step_count


def test_json_dates_and_uuids_pass_through_the_fields(held: Assignment) -> None:
    QueueItem.objects.filter(pk=held.item_id).update(target_steps=[1, 2])
    later = Compiled(
        lambda pk, now: Assignment.objects.filter(pk=pk, lease_until__gt=now).values_list(
            "pk", "item__target_steps", "lease_until"
        ),
        UUIDField(),
        DateTimeField(),
    )
    assert later.all(held.pk, timezone.now()) == [(held.pk, [1, 2], held.lease_until)]
    assert later.all(held.pk, held.lease_until) == []


def test_what_is_given_is_a_value_and_never_sql(held: Assignment) -> None:
    by_name = Compiled(lambda name: User.objects.filter(username=name), CharField())
    for name in ("' OR 1=1 --", "%s", "%", '"', "lea'", "\\"):
        assert by_name.first(name) is None
    assert by_name.first("lea") == held.membership.user


@pytest.mark.django_db(transaction=True)
def test_threads_share_the_sql_and_not_the_connection(held: Assignment) -> None:
    roles = Compiled(
        lambda user: Membership.objects.filter(user=user).values_list("role", flat=True), BigIntegerField()
    )
    found: list[list[str]] = []

    def ask() -> None:
        found.append(roles.all(held.membership.user_id))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [["labeler"]] * 4
