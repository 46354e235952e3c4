from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from annotator.models import Campaign, Completion, ImportRun, Problem, Solution
from prm_backend.grading import Grader, final_answer_of
from prm_backend.types import Progress, ReportProgress

# Solutions graded between two short transactions.
CHUNK = 50


def grade_pending(campaign: Campaign, progress: ReportProgress) -> int:
    """Grade every visible final answer that has a reference and no verdict yet; returns how many. Each chunk is
    written as it is done, so a killed worker repeats at most one."""
    pending = Solution.objects.filter(
        campaign=campaign,
        phase=2,
        graded_verdict="",
        import_run__state=ImportRun.State.DONE,
    )
    pending = pending.exclude(problem__reference_answer=None, problem__corrected_answer=None).order_by("id")
    total, graded = pending.count(), 0
    with Grader() as grader:
        while chunk := list(pending.select_related("problem")[:CHUNK]):
            _grade(chunk, grader)
            graded += len(chunk)
            progress(Progress(graded, total, f"{graded} of {total} answers"))
    return graded


def _grade(chunk: Sequence[Solution], grader: Grader) -> None:
    last_steps = {
        step.solution_id: step.text
        for step in Completion.objects.filter(solution__in=chunk, completion_index=0).order_by("step_index")
    }
    for solution in chunk:
        answer = solution.final_answer or final_answer_of(last_steps.get(solution.pk, ""))
        reference = solution.problem.answer or ""
        verdict = grader.grade(reference, answer) if answer else Solution.Verdict.UNKNOWN
        solution.graded_verdict = Solution.Verdict(str(verdict))
    with transaction.atomic():
        # A verdict on an answer that has been corrected meanwhile is not written: the solution stays pending.
        now = dict(
            Problem.objects.select_for_update()
            .filter(pk__in=[solution.problem_id for solution in chunk])
            .values_list("pk", "corrected_answer")
        )
        valid = [solution for solution in chunk if now[solution.problem_id] == solution.problem.corrected_answer]
        Solution.objects.bulk_update(valid, ["graded_verdict"])
