"""Claiming: nobody gets what others hold, nobody loses what they hold, and what is left lying comes back."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.conf import settings
from django.db import connection, connections
from django.utils import timezone

from annotator.actions.campaigns import activate_campaign, pause_campaign, publish_guideline
from annotator.actions.generations import open_generation, plan_stream
from annotator.actions.labeling import submit_labeling
from annotator.actions.people import set_member_state
from annotator.actions.queue import claim_next, free_lease, renew_lease, return_assignment, rewant
from annotator.errors import Conflict
from annotator.models import Assignment, Campaign, Membership, QueueItem
from annotator.queries.queue import why_empty
from tests.annotator.cast import (
    Role,
    ending,
    fill_pool,
    import_rows,
    label,
    make_campaign,
    make_member,
    make_user,
    path_of,
    problem_texts,
    rate,
    rating,
    simple_row,
)
from tests.conftest import url_of_test_database

pytestmark = pytest.mark.django_db


def open_campaign(*, train: int = 3, **fields: object) -> Campaign:
    campaign = make_campaign(audit_per_generation=0, **fields)
    fill_pool(campaign, train=train)
    return activate_campaign(campaign, actor=None)


def claim(membership: Membership) -> Assignment:
    assignment = claim_next(membership)
    assert assignment is not None
    return assignment


def expire(assignment: Assignment) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


def test_two_people_get_different_solutions() -> None:
    campaign = open_campaign()
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    assert claim(lea).solution_id != claim(max_).solution_id


def test_asking_again_gives_the_same_solution_with_a_fresh_lease() -> None:
    lea = make_member(open_campaign(), "lea")
    first = claim(lea)
    expire(first)
    again = claim(lea)
    assert again.pk == first.pk
    assert not again.is_expired


def test_what_is_finished_or_skipped_is_not_offered_again() -> None:
    lea = make_member(open_campaign(), "lea")
    finished = claim(lea)
    label(finished, [1, 1, 1])
    skipped = claim(lea)
    return_assignment(skipped, "skip")
    last = claim(lea)
    assert len({finished.solution_id, skipped.solution_id, last.solution_id}) == 3
    label(last, [-1])
    assert claim_next(lea) is None


def test_a_skipped_solution_goes_to_somebody_else() -> None:
    campaign = open_campaign(train=1)
    skipped = claim(make_member(campaign, "lea"))
    return_assignment(skipped, "skip")
    assert claim(make_member(campaign, "max")).solution_id == skipped.solution_id


def test_skipping_twice_gives_the_permit_back_once() -> None:
    assignment = claim(make_member(open_campaign(labelings_wanted=2), "lea"))
    return_assignment(assignment, "skip")
    with pytest.raises(Conflict):
        return_assignment(assignment, "skip")
    assert QueueItem.objects.get(pk=assignment.item_id).taken == 0


def test_an_expired_lease_passes_on_at_somebody_elses_claim() -> None:
    campaign = open_campaign(train=1)
    left = claim(make_member(campaign, "lea"))
    max_ = make_member(campaign, "max")
    assert claim_next(max_) is None
    expire(left)
    assert claim(max_).solution_id == left.solution_id
    with pytest.raises(Conflict):
        renew_lease(left)


def test_a_run_out_lease_with_ratings_is_resumed_while_it_is_free() -> None:
    campaign = open_campaign(train=2)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    started = claim(lea)
    rate(started, rating(path_of(started)[0], 1))
    expire(started)
    return_assignment(claim(max_), "skip")  # max's claim ended lea's lease
    started.refresh_from_db()
    assert started.state == "expired"
    assert claim(lea).pk == started.pk


def test_k_labelers_share_a_solution_and_no_more() -> None:
    campaign = open_campaign(train=1, labelings_wanted=2)
    people = [make_member(campaign, name) for name in ("lea", "max", "noa")]
    assert [claim_next(person) is not None for person in people] == [True, True, False]


def test_the_database_itself_refuses_one_labeler_too_many() -> None:
    from django.db import IntegrityError, transaction

    item = claim(make_member(open_campaign(train=1), "lea")).item
    with pytest.raises(IntegrityError), transaction.atomic():
        QueueItem.objects.filter(pk=item.pk).update(taken=2)


def test_paused_people_and_campaigns_get_nothing() -> None:
    campaign = open_campaign()
    lea = make_member(campaign, "lea")
    manager = make_user("mia")
    set_member_state(lea, actor=manager, state=Membership.State.PAUSED, reason="Please read the guideline again.")
    assert claim_next(lea) is None
    assert why_empty(lea).message == "Please read the guideline again."
    set_member_state(lea, actor=manager, state=Membership.State.ACTIVE)
    lea.campaign = pause_campaign(campaign, actor=manager)
    assert claim_next(lea) is None
    assert why_empty(lea).code == "paused"


def test_researchers_do_not_label() -> None:
    assert claim_next(make_member(open_campaign(), "rob", Role.RESEARCHER)) is None


def test_an_empty_queue_says_why() -> None:
    campaign = open_campaign(train=1)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    held = claim(lea)
    assert (why_empty(max_).code, why_empty(max_).until) == ("held", held.lease_until)
    label(held, [-1])
    campaign.jobs.all().delete()
    assert why_empty(max_).code == "all_done"


def test_a_claim_costs_the_same_few_statements_however_much_was_done(django_assert_max_num_queries) -> None:
    lea = make_member(open_campaign(train=12), "lea")
    for _ in range(10):
        label(claim(lea), [-1])
    with django_assert_max_num_queries(8):  # two of them open and close the transaction
        claim(lea)


# --- Order and lanes -------------------------------------------------------------------------------------------------


def test_one_problems_solutions_are_spread_over_labelers() -> None:
    campaign = make_campaign(audit_per_generation=0)
    texts = problem_texts("train", 2)
    import_rows(campaign, [simple_row(text, [f"{number}."]) for text in texts for number in range(3)])
    campaign = activate_campaign(campaign, actor=None)
    lea = make_member(campaign, "lea")
    served = []
    for _ in range(6):
        assignment = claim(lea)
        served.append(assignment.problem_id)
        label(assignment, [-1])
    assert len(set(served[:2])) == 2, "another problem comes first, while there is one"
    assert claim_next(lea) is None


def test_a_claim_goes_on_behind_what_the_labeler_has_had() -> None:
    campaign = open_campaign(train=4, labelings_wanted=2)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    first = [label(claim(lea), [-1]).solution_id for _ in range(4)]
    second = [label(claim(max_), [-1]).solution_id for _ in range(4)]
    assert first == second, "both go through the queue in its order"
    assert (claim_next(lea), claim_next(max_)) == (None, None)


def test_what_comes_back_is_served_before_the_rest() -> None:
    campaign = open_campaign(train=4)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    skipped = claim(lea)
    claim(max_)
    return_assignment(skipped, "skip")
    assert claim(make_member(campaign, "noa")).solution_id == skipped.solution_id


def test_what_was_put_off_comes_back_after_other_work_unless_somebody_else_took_it() -> None:
    campaign = open_campaign(train=2)
    lea = make_member(campaign, "lea")
    later = claim(lea)
    return_assignment(later, "postpone")
    other = claim(lea)
    assert other.pk != later.pk
    label(other, [-1])
    assert claim(lea).pk == later.pk
    return_assignment(later, "postpone")
    assert claim(make_member(campaign, "max")).solution_id == later.solution_id
    assert claim_next(lea) is None


def test_the_solution_ahead_is_the_persons_own_until_they_leave_it() -> None:
    campaign = open_campaign(train=2)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    current = claim(lea)
    ahead = claim_next(lea, ahead=True)
    assert ahead is not None
    assert claim_next(max_) is None
    label(current, [-1])
    assert claim(lea).pk == ahead.pk
    expire(ahead)
    assert claim(max_).solution_id == ahead.solution_id


def test_a_lease_that_ran_out_stays_its_labelers_while_nobody_else_asks() -> None:
    lea = make_member(open_campaign(), "lea")
    left = claim(lea)
    expire(left)
    assert label(left, [-1]).state == "submitted"


def test_a_manager_frees_a_lease() -> None:
    campaign = open_campaign(train=1)
    lea, mia = make_member(campaign, "lea"), make_member(campaign, "mia", Role.MANAGER)
    held = claim(lea)
    free_lease(held, actor=mia.user)
    with pytest.raises(Conflict):
        free_lease(held, actor=mia.user)
    assert claim(make_member(campaign, "max")).solution_id == held.solution_id
    assert claim_next(lea) is None


def test_more_labelings_wanted_open_finished_solutions_again_and_fewer_close_them() -> None:
    campaign = open_campaign(train=3)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    done = label(claim(lea), [-1]).solution_id
    Campaign.objects.update(labelings_wanted=2)
    campaign.refresh_from_db()
    assert rewant(campaign) == 3
    served = [label(claim(max_), [-1]).solution_id for _ in range(3)]
    assert served[-1] == done, "what opens again stands behind the rest, where everybody comes by"
    Campaign.objects.update(labelings_wanted=1)
    campaign.refresh_from_db()
    rewant(campaign)
    items = QueueItem.objects.order_by("rank").values_list("taken", "wanted")
    assert sorted(items) == [(1, 1), (1, 1), (2, 2)], "nobody's work is taken away"


def test_fewer_labelings_wanted_close_an_item_as_its_holders_leave() -> None:
    campaign = open_campaign(train=1, labelings_wanted=2)
    lea, max_ = make_member(campaign, "lea"), make_member(campaign, "max")
    label(claim(lea), [-1])
    held = claim(max_)
    Campaign.objects.update(labelings_wanted=1)
    campaign.refresh_from_db()
    rewant(campaign)
    held.campaign.refresh_from_db()
    return_assignment(held, "skip")
    assert claim_next(make_member(campaign, "noa")) is None


def test_a_return_that_comes_again_does_not_give_back_what_was_taken_up_since() -> None:
    lea = make_member(open_campaign(), "lea")
    held, client_id = claim(lea), uuid.uuid4()
    return_assignment(held, "release", client_id=client_id)
    again = claim(lea)
    assert again.pk == held.pk
    return_assignment(again, "release", client_id=client_id)
    held.refresh_from_db()
    assert held.state == "active"


def test_nothing_is_kept_reserved_while_work_is_paused() -> None:
    campaign = open_campaign()
    lea = make_member(campaign, "lea")
    held = claim(lea)
    set_member_state(lea, actor=make_user("boss"), state=Membership.State.PAUSED, reason="let us talk")
    held.membership.refresh_from_db()
    with pytest.raises(Conflict) as refusal:
        renew_lease(held)
    assert refusal.value.code == "paused"


def test_what_waits_for_a_reviewer_waits_through_a_new_round() -> None:
    campaign = open_campaign(train=2, generation_size=1)
    for name in ("lea", "max"):
        submit_labeling(claim(make_member(campaign, name)), ending("give_up", reason="too hard"))
    waiting = QueueItem.objects.get(lane="review")
    open_generation(campaign, plan_stream(campaign, QueueItem.Arm.RANDOM, campaign.generation_size), checkpoint=None)
    waiting.refresh_from_db()
    assert (waiting.lane, waiting.retired) == ("review", False)
    assert QueueItem.objects.filter(solution=waiting.solution_id).count() == 1


def test_nobody_is_asked_before_they_have_read_a_changed_guideline() -> None:
    campaign = open_campaign()
    lea = make_member(campaign, "lea")
    publish_guideline(campaign, actor=make_user("boss"), text="Be kind.")
    lea.campaign.refresh_from_db()
    assert claim_next(lea) is None
    assert why_empty(lea).code == "guideline"


CLAIM_EVERYTHING = """
import django; django.setup()
import sys
from annotator.actions.queue import claim_next
from annotator.actions.labeling import Labeling
from annotator.models import Membership
from tests.annotator.cast import label
people = list(Membership.objects.filter(pk__in=[int(pk) for pk in sys.argv[1:]]).select_related("campaign", "user"))
while people:
    for person in list(people):
        assignment = claim_next(person)
        if assignment is None:
            people.remove(person)
            continue
        print(assignment.solution_id, flush=True)
        label(assignment, [-1])
"""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_two_processes_empty_a_pool_of_500_without_serving_anything_twice() -> None:
    campaign = open_campaign(train=500, generation_size=500)
    people = [make_member(campaign, f"labeler{number}") for number in range(8)]
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "annotator.settings",
        "DATABASE_URL": url_of_test_database(connection.settings_dict),
        "DATA_DIR": str(settings.DATA_DIR),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_EVERYTHING, *(str(person.pk) for person in part)],
            env=environment,
            cwd=settings.ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for part in (people[:4], people[4:])
    ]
    outputs = [process.communicate(timeout=280)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert all(outputs), "both processes took part"
    served = [solution for output in outputs for solution in output]
    assert len(served) == len(set(served)) == 500
    assert not QueueItem.objects.exclude(taken=1).exists()


@pytest.mark.django_db(transaction=True)
def test_two_tabs_asking_at_the_same_moment_get_the_same_solution() -> None:
    lea = make_member(open_campaign(train=20), "lea")

    def ask(_: int) -> object:
        try:
            return claim(lea).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert sum(QueueItem.objects.values_list("taken", flat=True)) == 1
