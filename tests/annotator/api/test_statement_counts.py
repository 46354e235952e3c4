"""What a claim and a submit ask of the database: a handful of statements, however long the solution is and however much
has been done. Session, user and access check come with every request and are not counted, nor is the transaction."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.campaigns import activate_campaign
from annotator.models import Assignment, Campaign, CritiqueRating, QueueItem, Rating, RatingEvent
from tests.annotator.api.test_labeling_api import act, claim, login, rating, say, send, submit
from tests.annotator.cast import import_rows, make_campaign, problem_texts, simple_row

pytestmark = pytest.mark.django_db

MOST_OF_A_CLAIM = 5
MOST_OF_A_SUBMIT = 9
TRANSACTION = ("SAVEPOINT", "RELEASE SAVEPOINT")
STEPS = pytest.mark.parametrize("steps", [1, 8, 100, 300])


@contextmanager
def at_most(limit: int, *, in_transaction: bool = False) -> Iterator[None]:
    """One request, whose first three statements find out who asks for what. With `in_transaction` what it reads after
    its transaction, to show the solution, is not counted."""
    with CaptureQueriesContext(connection) as captured:
        yield
    said = [query["sql"] for query in captured]
    assert [f'FROM "{table}"' in sql for table, sql in zip(("django_session", "annotator_user"), said, strict=False)]
    assert any(f'FROM "{table}"' in said[2] for table in ("annotator_membership", "annotator_assignment")), said[2]
    counted = said[3:]
    if in_transaction:
        begin, end = (next(i for i, sql in enumerate(counted) if sql.startswith(word)) for word in TRANSACTION[:2])
        counted = counted[begin:end]
    counted = [sql for sql in counted if not sql.startswith(TRANSACTION)]
    assert 0 < len(counted) <= limit, f"{len(counted)} statements:\n" + "\n".join(counted)


def open_campaign(steps: int, *, solutions: int = 3, **fields: Any) -> Campaign:
    campaign = make_campaign(audit_per_generation=0, **fields)
    texts = [f"Step {number}." for number in range(steps)]
    more: dict[str, Any] = {}
    if "critiques" in fields:
        more = {
            "alternatives": [["Other.", "Another."]] * steps,
            "critiques": [["It is wrong.", "It is long."]] * steps,
        }
    import_rows(campaign, [simple_row(text, texts, **more) for text in problem_texts("train", solutions)])
    return activate_campaign(campaign, actor=None)


def path(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [completion for completion in item["completions"] if completion["index"] == 0]


def ratings(item: dict[str, Any], last: int = 1) -> list[dict[str, Any]]:
    steps = path(item)
    values = [1] * (len(steps) - 1) + [last]
    return [act("rate", completion=step["id"], value=value) for step, value in zip(steps, values, strict=True)]


def run_out() -> None:
    Assignment.objects.update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


# --- Claims ----------------------------------------------------------------------------------------------------------


@STEPS
def test_a_claim(steps: int) -> None:
    client = login(open_campaign(steps), "lea")
    with at_most(MOST_OF_A_CLAIM):
        item = claim(client)
    assert len(item["completions"]) == steps
    with at_most(MOST_OF_A_CLAIM):
        ahead = claim(client, ahead=True)
    assert ahead["assignment"] != item["assignment"]
    assert submit(client, item, "found_error", acts=[rating(item, 0, -1)]).status_code == 200
    with at_most(MOST_OF_A_CLAIM, in_transaction=True):  # it also brings to hand what lay ahead
        third = claim(client, ahead=True)
    assert third["assignment"] not in (item["assignment"], ahead["assignment"])


@STEPS
def test_a_claim_of_what_one_holds_already(steps: int) -> None:
    client = login(open_campaign(steps), "lea")
    item = claim(client)
    assert say(client, item, *ratings(item)).status_code == 200
    with at_most(MOST_OF_A_CLAIM):
        again = claim(client)
    assert len(again["acts"]) == steps


@STEPS
def test_a_claim_that_takes_a_run_out_lease_over(steps: int) -> None:
    campaign = open_campaign(steps, solutions=1)
    left = claim(login(campaign, "lea"))
    run_out()
    client = login(campaign, "max")
    with at_most(MOST_OF_A_CLAIM):
        taken = claim(client)
    assert taken["completions"][0]["id"] == left["completions"][0]["id"]


# These are rare, and the solution that they find is read by further statements.


def test_a_claim_that_goes_on_with_what_was_given_back() -> None:
    client = login(open_campaign(8), "lea")
    item = claim(client)
    assert say(client, item, *ratings(item)).status_code == 200
    send(client, "POST", f"/api/v1/assignments/{item['assignment']}/return/", {"how": "release"})
    with at_most(MOST_OF_A_CLAIM, in_transaction=True):
        assert claim(client)["assignment"] == item["assignment"]


def test_a_claim_that_finds_what_the_labeler_has_passed_by() -> None:
    campaign = open_campaign(8, solutions=2)
    client = login(campaign, "lea")
    front = QueueItem.objects.order_by("place")[0]
    QueueItem.objects.filter(pk=front.pk).update(wanted=0)
    submit(client, item := claim(client), "solution", acts=ratings(item))
    QueueItem.objects.filter(pk=front.pk).update(wanted=1)
    with at_most(MOST_OF_A_CLAIM, in_transaction=True):
        claim(client)
    assert Assignment.objects.filter(item=front).exists()


def test_a_claim_of_what_was_put_off() -> None:
    client = login(open_campaign(8, solutions=1), "lea")
    item = claim(client)
    send(client, "POST", f"/api/v1/assignments/{item['assignment']}/return/", {"how": "postpone"})
    with at_most(MOST_OF_A_CLAIM, in_transaction=True):
        assert claim(client)["assignment"] == item["assignment"]


def test_what_was_finished_makes_no_claim_dearer() -> None:
    campaign = open_campaign(1, solutions=40, labelings_wanted=2)
    client = login(campaign, "lea")
    for _ in range(39):
        submit(client, item := claim(client), "solution", acts=ratings(item))
    with at_most(MOST_OF_A_CLAIM):
        claim(client)


# --- Submits ---------------------------------------------------------------------------------------------------------


@STEPS
def test_a_submit_with_all_its_acts(steps: int) -> None:
    client = login(open_campaign(steps), "lea")
    item = claim(client)
    with at_most(MOST_OF_A_SUBMIT):
        assert submit(client, item, "solution", acts=ratings(item)).status_code == 200
    assert Rating.objects.count() == steps
    assert RatingEvent.objects.count() == steps + 1


@STEPS
def test_a_submit_after_each_savedwas_saved(steps: int) -> None:
    client = login(open_campaign(steps), "lea")
    item = claim(client)
    acts = ratings(item)
    assert say(client, item, acts[0]).status_code == 200
    for saved in acts[1:3]:
        with at_most(MOST_OF_A_SUBMIT):
            assert say(client, item, saved).status_code == 200
    if acts[3:]:
        assert say(client, item, *acts[3:]).status_code == 200
    with at_most(MOST_OF_A_SUBMIT):
        assert submit(client, item, "solution").status_code == 200
    assert Rating.objects.count() == steps


@STEPS
def test_a_submit_with_follow_ups(steps: int) -> None:
    everything = dict.fromkeys(["progress", "critiques", "alternatives"], "required")
    client = login(open_campaign(steps, **everything), "lea")
    with at_most(MOST_OF_A_CLAIM + 1):  # what is said of the mistakes is read too
        item = claim(client)
    wrong = path(item)[-1]
    beside = [row for row in item["completions"] if row["step"] == wrong["step"] and row["index"] > 0]
    said = [row for row in item["critiques"] if row["completion"] == wrong["id"]]
    acts = [
        *ratings(item, last=-1),
        act("progress", value=2),
        *(act("critique", critique=row["id"], value=1) for row in said),
        *(act("rate", completion=row["id"], value=0) for row in beside),
    ]
    with at_most(MOST_OF_A_SUBMIT):
        assert submit(client, item, "found_error", acts=acts).status_code == 200
    assert Rating.objects.count() == steps + 2
    assert CritiqueRating.objects.count() == 2


Ending = tuple[str, dict[str, Any]]


@STEPS
@pytest.mark.parametrize(
    "ending",
    [
        ("give_up", {"reason": "I do not know this field."}),
        ("bad_problem", {"reason": "It asks for nothing."}),
        ("solution", {"comment": "Neat.", "answer_report": "It is 3."}),
    ],
)
def test_a_submit_that_reports_something(steps: int, ending: Ending) -> None:
    client = login(open_campaign(steps), "lea")
    item = claim(client)
    reason, words = ending
    acts = ratings(item)
    acts[0]["flagged"] = True
    with at_most(MOST_OF_A_SUBMIT):
        assert submit(client, item, reason, acts=acts, **words).status_code == 200


@STEPS
def test_a_submit_that_comes_again(steps: int) -> None:
    client = login(open_campaign(steps), "lea")
    item = claim(client)
    same = {"client_id": str(uuid.uuid4()), "acts": ratings(item)}
    send_it: Callable[[], Any] = lambda: submit(client, item, "solution", **same)  # noqa: E731  the same request twice
    assert send_it().status_code == 200
    with at_most(MOST_OF_A_SUBMIT):
        assert send_it().json()["revision"] == 1
