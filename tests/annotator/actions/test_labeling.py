"""The phase 2 protocol: what may be said about a solution, in which order, and what an end needs."""

from __future__ import annotations

import datetime
import uuid

import pytest
from django.utils import timezone

from annotator.actions.campaigns import activate_campaign
from annotator.actions.generations import open_generation
from annotator.actions.labeling import SubmitAct, submit_labeling, withdraw_labeling
from annotator.actions.queue import claim_next, return_assignment
from annotator.errors import Conflict, Invalid, Refusal
from annotator.models import Assignment, Campaign, Completion, Labeling, QueueItem, Rating, RatingEvent, Report
from prm_backend.types import FinishReason
from tests.annotator.cast import (
    Role,
    act,
    ending,
    fill_pool,
    import_rows,
    label,
    make_campaign,
    make_member,
    path_of,
    problem_texts,
    rate,
    rating,
    simple_row,
    values_of,
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


def test_each_act_is_stored_and_ratings_are_written_at_the_end(assignment: Assignment) -> None:
    first, second, third = path_of(assignment)
    rate(assignment, rating(first, 1))
    labeling = rate(assignment, rating(second, 0, flagged=True))
    assert values_of(assignment) == [1, 0]
    assert [(event.value, event.flagged) for event in labeling.events.all()] == [(1, False), (0, True)]
    assert not Rating.objects.exists()
    labeling = submit_labeling(assignment, ending("found_error"), [rating(third, -1)])
    assert [(row.value, row.flagged) for row in labeling.ratings.all()] == [(1, None), (0, True), (-1, None)]


def test_a_repeated_rating_changes_nothing(assignment: Assignment) -> None:
    first = rating(path_of(assignment)[0], 1)
    rate(assignment, first)
    rate(assignment, rating(path_of(assignment)[0], 0))
    labeling = rate(assignment, first, first)
    assert values_of(assignment) == [0]
    assert labeling.events.count() == 2


def test_a_batch_is_stored_whole_or_not_at_all(assignment: Assignment) -> None:
    first, second, third = path_of(assignment)
    with pytest.raises(Conflict):
        rate(assignment, rating(first, 1), rating(third, 1), rating(second, 1))
    assert not RatingEvent.objects.exists()
    assert not Labeling.objects.exists()


def test_undo_brings_back_what_a_mis_hit_had_cut(assignment: Assignment) -> None:
    first, second, third = path_of(assignment)
    slip = rating(first, -1)
    rate(assignment, rating(first, 1), rating(second, 0), rating(third, 1), slip)
    assert values_of(assignment) == [-1]
    rate(assignment, act("undo", undoes=slip.client_id))
    assert values_of(assignment) == [1, 0, 1]


def test_only_the_last_act_can_be_taken_back(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    earlier = rating(first, 1)
    rate(assignment, earlier, rating(second, 1))
    with pytest.raises(Conflict) as refusal:
        rate(assignment, act("undo", undoes=earlier.client_id))
    assert refusal.value.code == "not_last"


def test_a_step_cannot_be_skipped(assignment: Assignment) -> None:
    with pytest.raises(Conflict, match="Step 1 comes before step 2") as refusal:
        rate(assignment, rating(path_of(assignment)[1], 1))
    assert refusal.value.code == "step_skipped"
    assert not RatingEvent.objects.exists()


def test_steps_after_the_first_error_stay_unrated(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    rate(assignment, rating(first, -1))
    with pytest.raises(Conflict) as refusal:
        rate(assignment, rating(second, 1))
    assert refusal.value.code == "after_first_error"


def test_correcting_an_earlier_step_to_bad_cuts_what_follows_and_lifting_it_reopens_the_rest(
    assignment: Assignment,
) -> None:
    first, second, third = path_of(assignment)
    rate(assignment, *(rating(step, 1) for step in (first, second, third)))
    rate(assignment, rating(first, -1))
    assert values_of(assignment) == [-1]
    rate(assignment, rating(first, 0))
    assert values_of(assignment) == [0]
    rate(assignment, rating(second, 1))
    assert values_of(assignment) == [0, 1]
    assert [event.value for event in RatingEvent.objects.all()] == [1, 1, 1, -1, 0, 1]


def test_a_rating_can_be_taken_back(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    rate(assignment, rating(first, 1), rating(second, -1), rating(second, None))
    assert values_of(assignment) == [1]


def test_a_completion_of_another_solution_is_refused(assignment: Assignment) -> None:
    foreign = Completion.objects.exclude(solution=assignment.solution).first()
    assert foreign is not None
    with pytest.raises(Invalid) as refusal:
        rate(assignment, rating(foreign, 1))
    assert refusal.value.code == "unknown_completion"
    assert not RatingEvent.objects.exists()


def test_a_value_outside_the_scale_is_refused(assignment: Assignment) -> None:
    with pytest.raises(Invalid, match="A rating is -1, 0, 1 or none, not 2"):
        rate(assignment, rating(path_of(assignment)[0], 2))


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
    assert [event.kind for event in RatingEvent.objects.all()] == ["rate", "rate", "rate", "submit"]


def test_a_second_submit_that_says_nothing_new_is_refused(assignment: Assignment) -> None:
    label(assignment, [1, 1, 1])
    with pytest.raises(Conflict) as refusal:
        submit_labeling(assignment, ending("solution"))
    assert refusal.value.code == "already_submitted"
    assert Labeling.objects.get().revision == 1


# --- Corrections -----------------------------------------------------------------------------------------------------


def test_a_submitted_labeling_is_corrected_and_every_change_stays_on_record(assignment: Assignment) -> None:
    label(assignment, [1, 1, 1])
    second = path_of(assignment)[1]
    corrected = submit_labeling(assignment, ending("found_error"), [rating(second, -1)])
    assert (corrected.revision, corrected.state, corrected.finish_reason) == (2, "submitted", "found_error")
    assert values(corrected) == [1, -1]
    kinds = [event.kind for event in corrected.events.all()]
    assert kinds == ["rate", "rate", "rate", "submit", "rate", "submit"]
    assert QueueItem.objects.get(pk=assignment.item_id).taken == 1


def test_an_unfinished_correction_changes_nothing_yet(assignment: Assignment) -> None:
    label(assignment, [1, 1, 1])
    labeling = rate(assignment, rating(path_of(assignment)[0], -1))
    labeling.refresh_from_db()
    assert (labeling.state, labeling.finish_reason, values(labeling)) == ("submitted", "solution", [1, 1, 1])


def test_the_window_for_corrections_closes(assignment: Assignment) -> None:
    label(assignment, [1, 1, 1])
    Labeling.objects.update(submitted_at=timezone.now() - datetime.timedelta(hours=25))
    with pytest.raises(Conflict) as refusal:
        rate(assignment, rating(path_of(assignment)[0], -1))
    assert refusal.value.code == "too_late_to_correct"


def test_a_submitted_labeling_cannot_be_given_up(assignment: Assignment) -> None:
    label(assignment, [1, 1, 1])
    with pytest.raises(Conflict) as refusal:
        submit_labeling(assignment, ending("give_up", reason="changed my mind"))
    assert refusal.value.code == "already_submitted"


def test_a_withdrawn_labeling_is_kept_and_its_permit_goes_to_somebody_else(assignment: Assignment) -> None:
    labeling = label(assignment, [1, 1, 1])
    manager = make_member(assignment.campaign, "mia", Role.MANAGER).user
    withdraw_labeling(labeling, actor=manager, reason="clicked through")
    labeling.refresh_from_db()
    assert (labeling.state, values(labeling)) == ("withdrawn", [1, 1, 1])
    other = claim_next(make_member(assignment.campaign, "max"))
    assert other is not None
    assert other.solution_id == assignment.solution_id, "what comes back is served before the rest"
    with pytest.raises(Conflict) as refusal:
        rate(assignment, rating(path_of(assignment)[0], -1))
    assert refusal.value.code == "withdrawn"
    with pytest.raises(Conflict):
        withdraw_labeling(labeling, actor=manager, reason="again")


def test_giving_up_returns_the_solution_to_others_and_a_bad_problem_does_not(assignment: Assignment) -> None:
    submit_labeling(assignment, ending(FinishReason.GIVE_UP, reason="too hard"))
    assert QueueItem.objects.get(pk=assignment.item_id).taken == 0
    other = claim_next(make_member(assignment.campaign, "max"))
    assert other is not None
    submit_labeling(other, ending(FinishReason.BAD_PROBLEM, reason="the figure is missing"))
    assert QueueItem.objects.get(pk=other.item_id).taken == 1


def test_nothing_can_be_said_of_a_solution_that_was_given_back(assignment: Assignment) -> None:
    return_assignment(assignment, "skip")
    with pytest.raises(Conflict) as refusal:
        rate(assignment, rating(path_of(assignment)[0], 1))
    assert refusal.value.code == "returned"


def expire(assignment: Assignment) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


def test_a_late_submit_counts_while_nobody_else_has_the_solution(assignment: Assignment) -> None:
    expire(assignment)
    passed_on = claim_next(make_member(assignment.campaign, "max"))
    assert passed_on is not None
    assert passed_on.item_id == assignment.item_id
    return_assignment(passed_on, "skip")
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
    return_assignment(passed_on, "skip")
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
    return_assignment(passed_on, "skip")
    assert label(assignment, [-1]).state == "submitted"
    assert label(other, [1, -1]).state == "submitted"


def test_a_rating_repeated_after_the_submit_is_still_acknowledged(assignment: Assignment) -> None:
    bad = rating(path_of(assignment)[0], -1)
    rate(assignment, bad)
    labeling = submit_labeling(assignment, ending(FinishReason.FOUND_ERROR))
    assert rate(assignment, bad) == labeling
    assert labeling.events.count() == 2


def test_a_submit_may_repeat_acts_that_have_arrived(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    arrived, new = rating(first, 1), rating(second, -1)
    rate(assignment, arrived)
    labeling = submit_labeling(assignment, ending("found_error"), [arrived, new, new])
    assert values(labeling) == [1, -1]


def test_times_are_bounded_by_the_server(assignment: Assignment) -> None:
    labeling = label(assignment, [-1], wall_ms=10**9, active_ms=10**9)
    assert labeling.active_ms <= labeling.wall_ms < 60_000


def test_a_correction_adds_its_own_time_and_no_more(assignment: Assignment) -> None:
    Assignment.objects.update(created_at=timezone.now() - datetime.timedelta(hours=1))
    assignment.refresh_from_db()
    first = label(assignment, [1, 1, 1], wall_ms=600_000, active_ms=300_000)
    Labeling.objects.update(submitted_at=timezone.now() - datetime.timedelta(minutes=10))
    RatingEvent.objects.update(at=timezone.now() - datetime.timedelta(minutes=10))
    corrected = submit_labeling(assignment, ending("found_error"), [rating(path_of(assignment)[0], -1, active_ms=5000)])
    assert (first.wall_ms, first.active_ms) == (600_000, 300_000)
    assert (corrected.wall_ms, corrected.active_ms) == (605_000, 305_000)


def test_a_submit_has_an_id_of_its_own(assignment: Assignment) -> None:
    only = rating(path_of(assignment)[0], -1)
    rate(assignment, only)
    with pytest.raises(Invalid) as refusal:
        submit_labeling(assignment, SubmitAct(client_id=uuid.UUID(only.client_id), finish_reason="found_error"))
    assert refusal.value.code == "id_taken"


def test_the_record_keeps_generation_guideline_and_what_the_prm_said(assignment: Assignment) -> None:
    QueueItem.objects.filter(pk=assignment.item_id).update(solution_score=0.25)
    labeling = label(assignment, [-1])
    assert labeling.guideline is not None
    assert (labeling.generation_number, labeling.guideline.version, labeling.verifier_score) == (0, 1, 0.25)


def test_a_draft_keeps_the_rules_under_which_it_was_begun() -> None:
    campaign = make_campaign(audit_per_generation=0, progress="required")
    fill_pool(campaign, train=2)
    campaign = activate_campaign(campaign, actor=None)
    lea = make_member(campaign, "lea")
    begun = claim_next(lea)
    assert begun is not None
    rate(begun, rating(path_of(begun)[0], -1), act("progress", value=2))
    Campaign.objects.update(progress="off")
    lea.campaign.refresh_from_db()
    again = claim_next(lea)
    assert again is not None
    assert submit_labeling(again, ending("found_error")).progress == 2
    following = claim_next(lea)
    assert following is not None
    with pytest.raises(Conflict) as refusal:
        rate(following, rating(path_of(following)[0], -1), act("progress", value=2))
    assert refusal.value.code == "follow_up_off"


# --- Reports ---------------------------------------------------------------------------------------------------------


def test_everything_a_labeler_reports_arrives_in_one_list(assignment: Assignment) -> None:
    first = path_of(assignment)[0]
    words = {"comment": "a nice problem", "answer_report": "it is 3"}
    submit_labeling(assignment, ending("found_error", **words), [rating(first, -1, flagged=True)])
    reports = {(report.kind, report.text, report.completion_id) for report in Report.objects.all()}
    assert reports == {("comment", "a nice problem", None), ("wrong_answer", "it is 3", None), ("unsure", "", first.pk)}


def test_a_correction_does_not_report_the_same_again(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    submit_labeling(assignment, ending("found_error", comment="odd"), [rating(first, -1, flagged=True)])
    submit_labeling(assignment, ending("found_error", comment="odd"), [rating(first, 1), rating(second, -1)])
    assert [report.kind for report in Report.objects.order_by("id")] == ["comment", "unsure"]


def test_a_solution_given_up_twice_waits_for_a_reviewer(assignment: Assignment) -> None:
    campaign = assignment.campaign
    submit_labeling(assignment, ending("give_up", reason="too hard"))
    again = claim_next(make_member(campaign, "max"))
    assert again is not None
    assert again.solution_id == assignment.solution_id, "given up once, it goes to somebody else first"
    submit_labeling(again, ending("give_up", reason="too hard for me too"))
    for_labelers = claim_next(make_member(campaign, "noa"))
    assert for_labelers is not None
    assert for_labelers.solution_id != assignment.solution_id
    reviewed = claim_next(make_member(campaign, "mia", Role.MANAGER))
    assert reviewed is not None
    assert reviewed.solution_id == assignment.solution_id
    assert label(reviewed, [-1]).state == "submitted"


def test_two_reports_of_a_bad_problem_hold_all_its_solutions() -> None:
    campaign = make_campaign(audit_per_generation=0, spread_problems=False)
    (text,) = problem_texts("train", 1)
    import_rows(campaign, [simple_row(text, [f"{number}."]) for number in range(4)])
    campaign = activate_campaign(campaign, actor=None)
    for name in ("lea", "max"):
        claimed = claim_next(make_member(campaign, name))
        assert claimed is not None
        submit_labeling(claimed, ending("bad_problem", reason="the figure is missing"))
    assert claim_next(make_member(campaign, "noa")) is None
    assert set(QueueItem.objects.values_list("lane", flat=True)) == {"held"}


def test_a_bad_problem_that_was_corrected_away_or_withdrawn_does_not_count(assignment: Assignment) -> None:
    first = submit_labeling(assignment, ending("bad_problem", reason="no figure"))
    submit_labeling(assignment, ending("found_error"), [rating(path_of(assignment)[0], -1)])
    QueueItem.objects.update(wanted=3)
    for name in ("max", "noa"):
        other = claim_next(make_member(assignment.campaign, name))
        assert other is not None
        labeling = submit_labeling(other, ending("bad_problem", reason="no figure"))
        if name == "max":
            withdraw_labeling(labeling, actor=make_member(assignment.campaign, "mia", Role.MANAGER).user, reason="x")
    assert first.reports.exists()
    assert not QueueItem.objects.filter(lane="held").exists()


def test_one_labeler_alone_cannot_hold_a_problem(assignment: Assignment) -> None:
    submit_labeling(assignment, ending("bad_problem", reason="the figure is missing"))
    assert not QueueItem.objects.filter(lane="held").exists()
