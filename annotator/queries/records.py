"""Labelings as records of the exchange format: tables to PRM800K's own words, losing nothing that came in."""

from __future__ import annotations

from collections.abc import Iterator

from django.db.models import Prefetch, QuerySet

from annotator.models import Completion, Labeling, LabelingStep, Rating
from prm_backend.types import (
    FinishReason,
    HumanCompletion,
    LabeledStep,
    LabelingRecord,
    RatedCompletion,
    SolutionRecord,
)

# Labelings read in one go: bounds memory, whatever the campaign's size.
CHUNK = 500


def records_of(labelings: QuerySet[Labeling]) -> Iterator[SolutionRecord]:
    """Stream the records of labelings, in the order of the query."""
    rows = labelings.select_related("solution__problem", "membership").prefetch_related(
        Prefetch("ratings", Rating.objects.select_related("completion").order_by("step_index", "position")),
        Prefetch("steps", LabelingStep.objects.select_related("human").order_by("step_index")),
        Prefetch(
            "solution__completions",
            Completion.objects.filter(completion_index=0).order_by("step_index"),
            to_attr="path",
        ),
    )
    for line, labeling in enumerate(rows.iterator(chunk_size=CHUNK), start=1):
        yield record_of(labeling, line=line)


def record_of(labeling: Labeling, *, line: int = 1) -> SolutionRecord:
    """One labeling as a record; `labeling.solution.path` holds the completions of the ready solution."""
    solution = labeling.solution
    problem = solution.problem
    in_phase_2 = solution.phase == 2
    path: list[Completion] = solution.path  # type: ignore[attr-defined]  # set by the prefetch above
    return SolutionRecord(
        line=line,
        problem=problem.text,
        steps=tuple(step.text for step in path[: solution.step_count]) if in_phase_2 else (),
        phase=2 if in_phase_2 else 1,
        reference_answer=problem.reference_answer,
        reference_solution=problem.reference_solution,
        final_answer=labeling.source_final_answer or solution.final_answer,
        generator=solution.generator or None,
        verifier_score=labeling.verifier_score,
        labeling=_labeling_record(labeling),
        question_keys=tuple(labeling.question_keys or ()),
    )


def _labeling_record(labeling: Labeling) -> LabelingRecord:
    ratings: dict[int, list[Rating]] = {}
    for rating in labeling.ratings.all():
        ratings.setdefault(rating.step_index, []).append(rating)
    path = {step.step_index: step for step in labeling.steps.all()}
    return LabelingRecord(
        labeler=labeling.source_labeler or str(labeling.membership.uuid if labeling.membership else ""),
        timestamp=labeling.source_timestamp or _timestamp(labeling),
        generation=labeling.generation_number,
        is_quality_control_question=labeling.is_quality_control,
        is_initial_screening_question=labeling.is_initial_screening,
        steps=tuple(
            _imported_step(path[index], ratings.get(index, [])) if index in path else _judged_step(ratings[index])
            for index in sorted(path.keys() | ratings.keys())
        ),
        total_time=labeling.wall_ms,
        finish_reason=FinishReason(labeling.finish_reason),
    )


def _timestamp(labeling: Labeling) -> str:
    """PRM800K writes naive times; ours are UTC."""
    at = labeling.submitted_at or labeling.started_at
    return at.replace(tzinfo=None).isoformat(timespec="microseconds")


def _judged_step(ratings: list[Rating]) -> LabeledStep:
    """A step of a ready solution that was rated here: it continues unless it is the first error."""
    return LabeledStep(
        completions=tuple(_completion(rating) for rating in ratings),
        chosen_completion=None if ratings[0].value == -1 else 0,
    )


def _imported_step(step: LabelingStep, ratings: list[Rating]) -> LabeledStep:
    shown = [rating for rating in ratings if rating.completion_id != step.human_id]
    chosen = [index for index, rating in enumerate(shown) if rating.completion_id == step.chosen_id]
    return LabeledStep(
        completions=None if step.pending else tuple(_completion(rating) for rating in shown),
        human_completion=_human(step, ratings),
        chosen_completion=chosen[0] if chosen else None,
    )


def _human(step: LabelingStep, ratings: list[Rating]) -> HumanCompletion | None:
    if step.human is None:
        return None
    said = next(rating for rating in ratings if rating.completion_id == step.human_id)
    unusual = dict(step.human_record or {})
    if "keys" in unusual:
        unusual["keys"] = tuple(unusual["keys"])
    return HumanCompletion(text=step.human.text, rating=said.value, flagged=said.flagged, **unusual)


def _completion(rating: Rating) -> RatedCompletion:
    return RatedCompletion(text=rating.completion.text, rating=rating.value, flagged=rating.flagged)
