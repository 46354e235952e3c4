from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotator.actions.grading import grade_pending
from annotator.actions.labeling import submit_labeling
from annotator.actions.queue import claim_next
from annotator.models import AuditEvent, Job, Labeling, Membership, Message, Problem, QueueItem, Report
from annotator.queries.pool import eligible_solutions
from prm_backend.grading import Grader, Verdict
from prm_backend.types import FinishReason, ignore_progress
from tests.annotator.cast import ending, make_member, path_of, rating
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]
Lane = QueueItem.Lane


def settle(cast: Cast, report: Report, do: str, **more: str) -> int:
    path = f"/c/algebra/reports/{report.pk}/"
    return int(cast.manager.post(path, {"do": do, **more}).status_code)


def say(cast: Cast, member: Membership, reason: FinishReason) -> Labeling:
    member.campaign.refresh_from_db()
    claimed = claim_next(member)
    assert claimed is not None
    return submit_labeling(claimed, ending(reason, reason="It has no question."))


@pytest.fixture
def held(cast: Cast) -> Report:
    """Two labelers have called the only problem bad."""
    cast.campaign.labelings_wanted = 3
    cast.campaign.save()
    cast.active(train=1, validation=0)
    for name in ("ben", "carla"):
        say(cast, make_member(cast.campaign, name), FinishReason.BAD_PROBLEM)
    assert Problem.objects.get().is_held
    return Report.objects.earliest("pk")


@pytest.fixture
def in_review(cast: Cast) -> Report:
    """Two labelers have given the only solution up."""
    cast.active(train=1, validation=0)
    for name in ("ben", "carla"):
        say(cast, make_member(cast.campaign, name), FinishReason.GIVE_UP)
    assert QueueItem.objects.get().lane == Lane.REVIEW
    return Report.objects.earliest("pk")


@pytest.fixture
def wrong_answer(cast: Cast) -> Report:
    cast.active(train=1, validation=0)
    cast.label_next(1, 1, 1, answer_report="It is 3.")
    return Report.objects.get(kind=Report.Kind.WRONG_ANSWER)


# --- The list --------------------------------------------------------------------------------------------------------


def test_it_lists_all_kinds_with_the_labelers_words(cast: Cast, url: Url) -> None:
    cast.active()
    claimed = cast.claim()
    first, second, third = path_of(claimed)
    acts = [rating(first, 1, flagged=True), rating(second, 1), rating(third, 1)]
    submit_labeling(
        claimed, ending(FinishReason.SOLUTION, comment="Is <b>this</b> right?", answer_report="It is 3."), acts
    )
    body = cast.manager.get(url("reports/")).content.decode()
    assert "Is &lt;b&gt;this&lt;/b&gt; right?" in body
    assert "It is 3." in body
    assert "First step." in body
    assert claimed.solution.problem.text in body
    only = cast.manager.get(url("reports/?kind=comment")).content.decode()
    assert "Is &lt;b&gt;" in only
    assert "It is 3." not in only
    assert cast.manager.get(url("reports/?kind=nonsense&state=nonsense")).status_code == 200


def test_without_reports_it_says_what_will_stand_there(cast: Cast, url: Url) -> None:
    assert "Nothing has been reported." in cast.manager.get(url("reports/")).content.decode()


def test_a_closed_report_moves_to_the_closed_ones(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, 1, 1, comment="A remark.")
    report = Report.objects.get()
    assert settle(cast, report, "close", answer="Thank you.") == 302
    assert "A remark." not in cast.manager.get(url("reports/")).content.decode()
    assert "All worked off." in cast.manager.get(url("reports/")).content.decode()
    closed = cast.manager.get(url("reports/?state=closed")).content.decode()
    assert "A remark." in closed
    assert "Thank you." in closed


def test_it_costs_the_same_for_many_reports(cast: Cast, url: Url) -> None:
    cast.active(train=6, validation=0)
    client = cast.manager

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(url("reports/"))
        return len(queries)

    cast.label_next(1, 1, 1, comment="One.")
    few = cost()
    for _ in range(4):
        cast.label_next(1, 1, 1, comment="More.", answer_report="It is 3.")
    assert cost() == few <= 10


# --- Closing ---------------------------------------------------------------------------------------------------------


def test_an_answer_reaches_the_labeler(cast: Cast) -> None:
    cast.active()
    said = cast.label_next(1, 1, 1, comment="A remark.")
    report = Report.objects.get()
    settle(cast, report, "close", answer="Good point.")
    report.refresh_from_db()
    assert (report.state, report.answer, report.closed_by) == ("closed", "Good point.", cast.members["manager"].user)
    message = Message.objects.get()
    assert message.membership == said.membership
    assert said.solution.problem.text in message.text
    assert message.text.endswith("Good point.")
    assert AuditEvent.objects.filter(verb="close reports").count() == 1


def test_closing_again_changes_nothing(cast: Cast) -> None:
    cast.active()
    cast.label_next(1, 1, 1, comment="A remark.")
    report = Report.objects.get()
    settle(cast, report, "close", answer="First.")
    settle(cast, report, "close", answer="Second.")
    report.refresh_from_db()
    assert report.answer == "First."
    assert Message.objects.count() == 1


def test_many_are_closed_at_once_without_a_word(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, 1, 1, comment="One.")
    cast.label_next(1, 1, 1, comment="Two.")
    ids = list(Report.objects.values_list("pk", flat=True))
    posted = cast.manager.post(url("reports/close/"), {"report": [*ids, "nonsense", 999_999], "kind": "comment"})
    assert posted["Location"] == url("reports/?kind=comment")
    assert not Report.objects.filter(state=Report.State.OPEN).exists()
    assert not Message.objects.exists()


def test_what_cannot_be_done_is_refused(cast: Cast) -> None:
    cast.active()
    cast.label_next(1, 1, 1, comment="A remark.")
    report = Report.objects.get()
    assert settle(cast, report, "explode") == 400
    for do in ("release", "keep_out", "correct", "return"):
        assert settle(cast, report, do, corrected="3") == 409
    assert Report.objects.get().state == Report.State.OPEN


# --- Bad problems ----------------------------------------------------------------------------------------------------


def test_a_sound_problem_is_served_again_and_all_its_reports_are_settled(cast: Cast, held: Report) -> None:
    assert claim_next(fresh(cast)) is None
    assert settle(cast, held, "release", answer="It is fine.") == 302
    assert not Problem.objects.get().is_held
    assert QueueItem.objects.get().lane == Lane.RETURNED
    assert claim_next(fresh(cast)) is not None
    assert not Report.objects.filter(state=Report.State.OPEN).exists()
    assert {message.membership.user.username for message in Message.objects.all() if message.membership} == {
        "ben",
        "carla",
    }


def test_a_bad_problem_is_kept_out_for_good(cast: Cast, held: Report) -> None:
    assert settle(cast, held, "keep_out") == 302
    assert Problem.objects.get().is_held
    assert QueueItem.objects.get().retired
    assert claim_next(fresh(cast)) is None
    assert not eligible_solutions(cast.campaign, Problem.SplitName.TRAIN).exists()
    assert Labeling.objects.filter(state=Labeling.State.SUBMITTED).count() == 2


def fresh(cast: Cast) -> Membership:
    return Membership.objects.select_related("campaign").get(pk=cast.members["labeler"].pk)


# --- Wrong reference answers -----------------------------------------------------------------------------------------


def test_a_corrected_answer_has_the_solutions_graded_again(cast: Cast, wrong_answer: Report) -> None:
    solution = wrong_answer.labeling.solution
    Job.objects.update(state=Job.State.DONE)
    grade_pending(cast.campaign, ignore_progress)
    solution.refresh_from_db()
    before = solution.graded_verdict
    assert settle(cast, wrong_answer, "correct", corrected=" 3 ", answer="You are right.") == 302
    problem = Problem.objects.get()
    assert (problem.reference_answer, problem.corrected_answer, problem.answer) == ("2", "3", "3")
    solution.refresh_from_db()
    assert solution.graded_verdict == ""
    assert Job.objects.filter(kind=Job.Kind.GRADE, state=Job.State.QUEUED).count() == 1
    grade_pending(cast.campaign, ignore_progress)
    solution.refresh_from_db()
    assert solution.graded_verdict != before
    assert AuditEvent.objects.get(verb="correct reference answer").data["before"] == "2"


def test_an_answer_that_stands_or_is_blank_is_refused(cast: Cast, wrong_answer: Report) -> None:
    assert settle(cast, wrong_answer, "correct", corrected="2") == 409
    assert settle(cast, wrong_answer, "correct", corrected=" ") == 400
    assert Problem.objects.get().corrected_answer is None
    assert settle(cast, wrong_answer, "close") == 302


def test_a_grading_job_under_way_takes_the_correction_up(cast: Cast, wrong_answer: Report) -> None:
    assert Job.objects.get(kind=Job.Kind.GRADE).state == Job.State.QUEUED  # since the import
    assert settle(cast, wrong_answer, "correct", corrected="3") == 302
    assert Job.objects.filter(kind=Job.Kind.GRADE, state__in=Job.UNFINISHED).count() == 1


def test_a_verdict_on_the_old_answer_is_not_written_over_a_correction(
    cast: Cast, wrong_answer: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    solution = wrong_answer.labeling.solution
    asked = []

    def grade_slowly(self: Grader, reference: str, answer: str) -> Verdict:
        asked.append(reference)
        if len(asked) == 1:  # the manager is quicker than the grader
            settle(cast, wrong_answer, "correct", corrected="3")
        return Verdict.CORRECT if reference == answer else Verdict.INCORRECT

    monkeypatch.setattr(Grader, "grade", grade_slowly)
    grade_pending(cast.campaign, ignore_progress)
    assert asked == ["2", "3"]
    solution.refresh_from_db()
    assert solution.graded_verdict == "incorrect"


# --- Given up --------------------------------------------------------------------------------------------------------


def test_a_solution_in_review_goes_back_to_labelers(cast: Cast, in_review: Report) -> None:
    assert claim_next(fresh(cast)) is None
    assert "Back to labelers" in cast.manager.get("/c/algebra/reports/").content.decode()
    assert settle(cast, in_review, "return", answer="Somebody else will try.") == 302
    item = QueueItem.objects.get()
    assert (item.lane, item.give_ups) == (Lane.RETURNED, 0)
    assert not Report.objects.filter(state=Report.State.OPEN).exists()
    assert claim_next(fresh(cast)) is not None


def test_what_is_out_of_review_cannot_be_returned_again(cast: Cast, in_review: Report) -> None:
    QueueItem.objects.update(lane=Lane.MAIN)
    assert "Back to labelers" not in cast.manager.get("/c/algebra/reports/").content.decode()
    assert settle(cast, in_review, "return") == 409
    assert Report.objects.filter(state=Report.State.OPEN).count() == 2
