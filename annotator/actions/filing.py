"""What a submit says to the managers, as entries of their list; and what two reports of a bad problem bring about."""

from __future__ import annotations

from annotator.models import Labeling, Problem, QueueItem, Report
from annotator.protocol import Item, Said
from prm_backend.types import FinishReason

Kind = Report.Kind
# So many labelers' reports hold a problem until a manager has looked.
REPORTS_THAT_HOLD = 2


def file_reports(labeling: Labeling, item: Item, said: Said) -> None:
    """File what this submit reports, each thing once: a correction that says the same again files nothing."""
    found = [
        *([Report(kind=Kind.BAD_PROBLEM, text=labeling.reason)] if _is(labeling, FinishReason.BAD_PROBLEM) else []),
        *([Report(kind=Kind.GIVE_UP, text=labeling.reason)] if _is(labeling, FinishReason.GIVE_UP) else []),
        *([Report(kind=Kind.WRONG_ANSWER, text=labeling.answer_report)] if labeling.answer_report else []),
        *([Report(kind=Kind.COMMENT, text=labeling.comment)] if labeling.comment else []),
        *(Report(kind=Kind.UNSURE, completion_id=key) for key, rated in said.ratings.items() if rated.flagged),
    ]
    if not found:
        return
    known = set()
    if labeling.revision > 1:
        known = set(labeling.reports.values_list("kind", "completion", "text"))
    for report in found:
        report.labeling, report.campaign = labeling, labeling.campaign
    Report.objects.bulk_create(
        report for report in found if (report.kind, report.completion_id, report.text) not in known
    )
    if _is(labeling, FinishReason.BAD_PROBLEM):
        _hold_problem(labeling)


def _is(labeling: Labeling, reason: FinishReason) -> bool:
    return labeling.finish_reason == reason


def _hold_problem(labeling: Labeling) -> None:
    """The second labeler who calls a problem bad takes all its solutions out of the queue until a manager decides. What
    a manager has decided before does not count again. The submit has locked the problem."""
    assert labeling.assignment is not None, "imported labelings report nothing"
    problem = labeling.assignment.problem_id
    open_reports = Report.objects.filter(
        campaign=labeling.campaign,
        kind=Kind.BAD_PROBLEM,
        state=Report.State.OPEN,
        labeling__assignment__problem=problem,
        # What was corrected or withdrawn since does not count.
        labeling__finish_reason=FinishReason.BAD_PROBLEM,
        labeling__state__in=[Labeling.State.SUBMITTED, Labeling.State.SURPLUS],
    )
    if open_reports.values("labeling__membership").distinct().count() < REPORTS_THAT_HOLD:
        return
    if Problem.objects.filter(pk=problem, is_held=False).update(is_held=True):
        QueueItem.objects.filter(problem=problem, retired=False).update(lane=QueueItem.Lane.HELD)
