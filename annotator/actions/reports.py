"""Working off what labelers report. Each act settles the report it was asked for, and with it all open ones that ask
the same question; the answer reaches every labeler who asked."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.text import Truncator
from django.utils.translation import gettext as _

from annotator.actions.audit import record
from annotator.dispatch import enqueue
from annotator.errors import Conflict, Invalid
from annotator.models import Campaign, Job, Message, Problem, QueueItem, Report, Solution, User

MOST_AT_ONCE = 500


@transaction.atomic
def close_reports(campaign: Campaign, ids: Iterable[int], *, actor: User, answer: str = "") -> int:
    """Close these reports, as far as they are open; returns how many. The answer, if there is one, becomes a message to
    each labeler concerned."""
    asked = list(ids)
    if len(asked) > MOST_AT_ONCE:
        raise Invalid("too_many", _("At most %(most)s reports are closed at once.") % {"most": MOST_AT_ONCE})
    closed = _close(Report.objects.filter(campaign=campaign, pk__in=asked), actor=actor, answer=answer)
    if closed:
        record("close reports", campaign=campaign, actor=actor, reports=closed)
    return len(closed)


@transaction.atomic
def release_problem(report: Report, *, actor: User, answer: str = "") -> None:
    """The problem is sound after all: its solutions are served again, before others."""
    problem = _locked_problem(report, Report.Kind.BAD_PROBLEM)
    problem.is_held = False
    problem.save(update_fields=["is_held"])
    items = QueueItem.objects.filter(problem=problem, retired=False, lane=QueueItem.Lane.HELD)
    items.update(lane=QueueItem.Lane.RETURNED)
    _settle(report, actor=actor, answer=answer, verb="release problem")


@transaction.atomic
def keep_problem_out(report: Report, *, actor: User, answer: str = "") -> None:
    """The problem is bad: what is still open of its solutions leaves the queue, and none is selected again. What people
    hold or have said of it stays theirs."""
    problem = _locked_problem(report, Report.Kind.BAD_PROBLEM)
    problem.is_held = True
    problem.save(update_fields=["is_held"])
    items = QueueItem.objects.filter(problem=problem, retired=False)
    items.filter(taken__lt=F("wanted")).update(retired=True, lane=QueueItem.Lane.HELD)
    _settle(report, actor=actor, answer=answer, verb="keep problem out")


@transaction.atomic
def correct_answer(report: Report, *, actor: User, corrected: str, answer: str = "") -> None:
    """Put another reference answer in place of the imported one, which is kept beside it, and have the problem's
    solutions graded again. Raises `Invalid` where it is blank, `Conflict` where it is the one in force."""
    problem = _locked_problem(report, Report.Kind.WRONG_ANSWER)
    corrected = corrected.strip()
    if not corrected:
        raise Invalid("answer_missing", _("Write the right answer, or close the report if it stands."))
    if corrected == problem.answer:
        raise Conflict("same_answer", _("This is the reference answer already: close the report."))
    before, problem.corrected_answer = problem.answer, corrected
    problem.save(update_fields=["corrected_answer"])
    Solution.objects.filter(problem=problem).update(graded_verdict="")
    # A grading job that is under way takes these up too.
    with suppress(Conflict):
        enqueue(Job.Kind.GRADE, report.campaign, actor=actor)
    _settle(report, actor=actor, answer=answer, verb="correct reference answer", before=before, corrected=corrected)


@transaction.atomic
def return_to_labelers(report: Report, *, actor: User, answer: str = "") -> None:
    """A solution that was given up until it waited for a reviewer goes back to labelers, before others."""
    _check(report, Report.Kind.GIVE_UP)
    items = QueueItem.objects.filter(solution=report.labeling.solution_id, retired=False, lane=QueueItem.Lane.REVIEW)
    if not items.update(lane=QueueItem.Lane.RETURNED, give_ups=0):
        raise Conflict("not_in_review", _("This solution does not wait for a reviewer any more."))
    _settle(report, actor=actor, answer=answer, verb="return to labelers")


def _locked_problem(report: Report, kind: Report.Kind) -> Problem:
    _check(report, kind)
    return Problem.objects.select_for_update(no_key=True).get(pk=report.labeling.solution.problem_id)


def _check(report: Report, kind: Report.Kind) -> None:
    if report.kind != kind:
        raise Conflict("other_report", _("This report asks for something else."))
    if Report.objects.filter(pk=report.pk).exclude(state=Report.State.OPEN).exists():
        raise Conflict("closed", _("This report has been settled meanwhile."))


def _settle(report: Report, *, actor: User, answer: str, verb: str, **data: Any) -> None:
    """Close the report with all open ones of its kind on the same thing: the problem, for a give-up the solution."""
    same = Report.objects.filter(campaign=report.campaign, kind=report.kind)
    if report.kind == Report.Kind.GIVE_UP:
        same = same.filter(labeling__solution=report.labeling.solution_id)
    else:
        same = same.filter(labeling__solution__problem=report.labeling.solution.problem_id)
    closed = _close(same, actor=actor, answer=answer)
    record(verb, campaign=report.campaign, actor=actor, subject=f"report {report.pk}", reports=closed, **data)


def _close(reports: QuerySet[Report], *, actor: User, answer: str) -> list[int]:
    opened = list(
        reports.filter(state=Report.State.OPEN)
        .select_for_update(of=("self",))
        .select_related("labeling__solution__problem")
        .order_by("pk")
    )
    answer = answer.strip()
    closed = [report.pk for report in opened]
    Report.objects.filter(pk__in=closed).update(
        state=Report.State.CLOSED, answer=answer, closed_by=actor, closed_at=timezone.now()
    )
    if answer:
        # One message to a person about a problem, however many of their reports on it are closed at once.
        about = {
            (report.labeling.membership_id, report.labeling.solution.problem): report.campaign_id for report in opened
        }
        Message.objects.bulk_create(
            Message(campaign_id=campaign, membership_id=person, author=actor, text=_reply(problem, answer))
            for (person, problem), campaign in about.items()
        )
    return closed


def _reply(problem: Problem, answer: str) -> str:
    excerpt = Truncator(" ".join(problem.text.split())).chars(80)
    return _("About your report on “%(problem)s”: %(answer)s") % {"problem": excerpt, "answer": answer}
