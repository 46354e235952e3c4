"""The phase 2 protocol: what may be said about a solution, in which order, and what an end needs."""

from __future__ import annotations

import datetime
import uuid

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.actions.campaigns import activate_campaign
from annotator.actions.generations import open_generation
from annotator.actions.labeling import RatingAct, SubmitAct, rate_completion, submit_labeling
from annotator.actions.queue import claim_next, skip_assignment
from annotator.errors import Conflict, Invalid, Refusal
from annotator.models import Assignment, Completion, Labeling, QueueItem, Rating, RatingEvent
from prm_backend.types import FinishReason
from tests.annotator.cast import (
    ending,
    fill_pool,
    label,
    make_campaign,
    make_member,
    path_of,
    rating,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def assignment() -> Assignment:
    campaign = make_campaign(audit_per_generation=0)
    fill_pool(campaign, train=2)
    campaign = activate_campaign(campaign, actor=None)
    claimed = claim_next(make_member(campaign, "lea"))
    assert claimed is not None
    return claimed


def values(labeling: Labeling) -> list[int | None]:
    return list(labeling.ratings.order_by("step_index").values_list("value", flat=True))


def test_each_rating_is_stored_and_logged(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    rate_completion(assignment, rating(first, 1))
    labeling = rate_completion(assignment, rating(second, 0, flagged=True))
    assert values(labeling) == [1, 0]
    assert [(event.value, event.flagged) for event in labeling.events.all()] == [(1, False), (0, True)]
    assert [row.flagged for row in labeling.ratings.all()] == [None, True]


def test_a_repeated_rating_changes_nothing(assignment: Assignment) -> None:
    act = rating(path_of(assignment)[0], 1)
    rate_completion(assignment, act)
    rate_completion(assignment, rating(path_of(assignment)[0], 0))
    labeling = rate_completion(assignment, act)
    assert values(labeling) == [0]
    assert labeling.events.count() == 2


def test_a_step_cannot_be_skipped(assignment: Assignment) -> None:
    with pytest.raises(Conflict, match="Step 1 comes before step 2") as refusal:
        rate_completion(assignment, rating(path_of(assignment)[1], 1))
    assert refusal.value.code == "step_skipped"
    assert not Rating.objects.exists()


def test_steps_after_the_first_error_stay_unrated(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    rate_completion(assignment, rating(first, -1))
    with pytest.raises(Conflict) as refusal:
        rate_completion(assignment, rating(second, 1))
    assert refusal.value.code == "after_first_error"


def test_correcting_an_earlier_step_to_bad_cuts_what_follows_and_lifting_it_reopens_the_rest(
    assignment: Assignment,
) -> None:
    first, second, third = path_of(assignment)
    for step in (first, second, third):
        rate_completion(assignment, rating(step, 1))
    assert values(rate_completion(assignment, rating(first, -1))) == [-1]
    assert values(rate_completion(assignment, rating(first, 0))) == [0]
    assert values(rate_completion(assignment, rating(second, 1))) == [0, 1]
    assert [event.previous_value for event in RatingEvent.objects.all()] == [None, None, None, 1, -1, None]


def test_a_rating_can_be_taken_back(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    rate_completion(assignment, rating(first, 1))
    rate_completion(assignment, rating(second, -1))
    assert values(rate_completion(assignment, rating(second, None))) == [1]


def test_a_completion_of_another_solution_is_refused(assignment: Assignment) -> None:
    foreign = Completion.objects.exclude(solution=assignment.solution).first()
    assert foreign is not None
    with pytest.raises(Invalid) as refusal:
        rate_completion(assignment, rating(foreign, 1))
    assert refusal.value.code == "unknown_completion"
    assert not RatingEvent.objects.exists()


def test_a_value_outside_the_scale_is_refused(assignment: Assignment) -> None:
    with pytest.raises(Invalid, match="A rating is -1, 0, 1 or none, not 2"):
        rate_completion(assignment, rating(path_of(assignment)[0], 2))


def test_an_error_found_ends_the_labeling(assignment: Assignment) -> None:
    labeling = label(assignment, [1, -1])
    assert (labeling.state, labeling.finish_reason) == ("submitted", "found_error")
    assignment.refresh_from_db()
    assert assignment.state == "done"


@pytest.mark.parametrize(
    ("rated", "reason", "code"),
    [
        ([1, 1], FinishReason.SOLUTION, "ratings_missing"),
        ([], FinishReason.FOUND_ERROR, "ratings_missing"),
        ([1, 1, 1], FinishReason.FOUND_ERROR, "wrong_finish_reason"),
        ([1, -1], FinishReason.SOLUTION, "wrong_finish_reason"),
        ([1], FinishReason.GIVE_UP, "reason_missing"),
        ([], FinishReason.BAD_PROBLEM, "reason_missing"),
    ],
)
def test_an_end_that_does_not_fit_the_ratings_is_refused_and_changes_nothing(
    assignment: Assignment, rated: list[int], reason: FinishReason, code: str
) -> None:
    acts = [rating(step, value) for step, value in zip(path_of(assignment), rated, strict=False)]
    with pytest.raises(Refusal) as refusal:
        submit_labeling(assignment, ending(reason), acts)
    assert refusal.value.code == code
    assert not Labeling.objects.exists()


def test_a_repeated_submit_returns_the_same_labeling(assignment: Assignment) -> None:
    acts = [rating(step, 1) for step in path_of(assignment)]
    end = ending(FinishReason.SOLUTION)
    first = submit_labeling(assignment, end, acts)
    assert submit_labeling(assignment, end, acts) == first
    assert RatingEvent.objects.count() == 3


def test_a_second_submit_under_another_id_is_refused(assignment: Assignment) -> None:
    label(assignment, [1, 1, 1])
    with pytest.raises(Conflict) as refusal:
        label(assignment, [1, -1])
    assert refusal.value.code == "already_submitted"


def test_giving_up_returns_the_solution_to_others_and_a_bad_problem_does_not(assignment: Assignment) -> None:
    submit_labeling(assignment, ending(FinishReason.GIVE_UP, reason="too hard"))
    assert QueueItem.objects.get(pk=assignment.item_id).taken == 0
    other = claim_next(make_member(assignment.campaign, "max"))
    assert other is not None
    submit_labeling(other, ending(FinishReason.BAD_PROBLEM, reason="the figure is missing"))
    assert QueueItem.objects.get(pk=other.item_id).taken == 1


def test_nothing_can_be_said_of_a_solution_that_was_given_back(assignment: Assignment) -> None:
    skip_assignment(assignment)
    with pytest.raises(Conflict) as refusal:
        rate_completion(assignment, rating(path_of(assignment)[0], 1))
    assert refusal.value.code == "returned"


def expire(assignment: Assignment) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


def test_a_late_submit_counts_while_nobody_else_has_the_solution(assignment: Assignment) -> None:
    expire(assignment)
    passed_on = claim_next(make_member(assignment.campaign, "max"))
    assert passed_on is not None
    assert passed_on.item_id == assignment.item_id
    skip_assignment(passed_on)
    assert label(assignment, [-1]).state == "submitted"
    assert QueueItem.objects.get(pk=assignment.item_id).taken == 1


def test_a_late_submit_is_kept_as_surplus_once_somebody_else_has_the_solution(assignment: Assignment) -> None:
    expire(assignment)
    for name in ("max", "noa"):
        assert claim_next(make_member(assignment.campaign, name)) is not None
    labeling = label(assignment, [-1])
    assert labeling.state == "surplus"
    item = QueueItem.objects.get(pk=assignment.item_id)
    assert item.taken == item.wanted == 1


def test_a_late_submit_counts_after_its_generation_closed_if_nobody_else_is_asked(assignment: Assignment) -> None:
    expire(assignment)
    passed_on = claim_next(make_member(assignment.campaign, "max"))
    assert passed_on is not None
    skip_assignment(passed_on)
    open_generation(assignment.campaign, [], checkpoint=None)
    assert label(assignment, [-1]).state == "submitted"
    item = QueueItem.objects.get(pk=assignment.item_id)
    assert (item.taken, item.retired) == (1, False)


def test_a_late_submit_arrives_while_its_labeler_holds_another_solution(assignment: Assignment) -> None:
    expire(assignment)
    passed_on = claim_next(make_member(assignment.campaign, "max"))
    assert passed_on is not None
    other = claim_next(assignment.membership)
    assert other is not None
    assert other.pk != assignment.pk
    skip_assignment(passed_on)
    assert label(assignment, [-1]).state == "submitted"
    assert label(other, [1, -1]).state == "submitted"


def test_a_rating_repeated_after_the_submit_is_still_acknowledged(assignment: Assignment) -> None:
    act = rating(path_of(assignment)[0], -1)
    rate_completion(assignment, act)
    labeling = submit_labeling(assignment, ending(FinishReason.FOUND_ERROR))
    assert rate_completion(assignment, act) == labeling


def test_a_submit_may_repeat_itself_and_what_was_overtaken_stays_overtaken(assignment: Assignment) -> None:
    first, *_ = path_of(assignment)
    older, newer = rating(first, 1), rating(first, -1)
    rate_completion(assignment, newer)
    labeling = submit_labeling(assignment, ending(FinishReason.FOUND_ERROR), [older, older, newer, newer])
    assert values(labeling) == [-1]


def test_times_are_bounded_by_the_server(assignment: Assignment) -> None:
    labeling = label(assignment, [-1], wall_ms=10**9, active_ms=10**9)
    assert labeling.active_ms <= labeling.wall_ms < 60_000


def test_the_record_keeps_generation_guideline_and_what_the_prm_said(assignment: Assignment) -> None:
    QueueItem.objects.filter(pk=assignment.item_id).update(solution_score=0.25)
    labeling = label(assignment, [-1])
    assert labeling.guideline is not None
    assert (labeling.generation_number, labeling.guideline.version, labeling.verifier_score) == (0, 1, 0.25)


step_acts = st.lists(st.tuples(st.integers(0, 2), st.sampled_from([-1, 0, 1, None])), max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=step_acts)
def test_whatever_is_pressed_the_ratings_are_a_judged_beginning_that_ends_at_the_first_error(
    assignment: Assignment, acts: list[tuple[int, int | None]]
) -> None:
    Labeling.objects.filter(assignment=assignment).update(assignment=None)
    path = path_of(assignment)
    for step, value in acts:
        try:
            rate_completion(assignment, RatingAct(uuid.uuid4(), path[step].pk, value))
        except Conflict:
            continue
    labeling = Labeling.objects.filter(assignment=assignment).first()
    stored = list(labeling.ratings.order_by("step_index")) if labeling else []
    assert [row.step_index for row in stored] == list(range(len(stored)))
    assert all(row.value in (-1, 0, 1) for row in stored)
    assert all(row.value != -1 for row in stored[:-1])
    one_by_one = [row.value for row in stored]

    Labeling.objects.filter(assignment=assignment).update(assignment=None)
    complete = bool(one_by_one) and (one_by_one[-1] == -1 or len(one_by_one) == 3)
    if complete:
        reason = FinishReason.FOUND_ERROR if one_by_one[-1] == -1 else FinishReason.SOLUTION
        replayed = [RatingAct(uuid.uuid4(), path[index].pk, value) for index, value in enumerate(one_by_one)]
        at_once = submit_labeling(assignment, SubmitAct(uuid.uuid4(), reason), replayed)
        assert values(at_once) == one_by_one
        Assignment.objects.filter(pk=assignment.pk).update(state="active")
        Labeling.objects.filter(pk=at_once.pk).update(assignment=None)
