"""Labelings as records of the exchange format: tables to PRM800K's own words, losing nothing that came in.

Imported labelings leave as they came. Those made here carry the reference answer as it is believed now. A targeted
labeling judges some steps only: the others stand in its record without a rating.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def readable(labelings: QuerySet[Labeling]) -> QuerySet[Labeling]:
    """With all that a record is made of."""
    return labelings.select_related("solution__problem", "membership").prefetch_related(
        Prefetch("ratings", Rating.objects.select_related("completion").order_by("step_index", "position")),
        Prefetch("steps", LabelingStep.objects.select_related("human").order_by("step_index")),
        Prefetch(
            "solution__completions",
            Completion.objects.filter(completion_index=0).order_by("step_index"),
            to_attr="path",
        ),
    )


def record_of(labeling: Labeling, *, line: int = 1) -> SolutionRecord:
    """One labeling, fetched as `readable`, as a record."""
    solution = labeling.solution
    problem = solution.problem
    in_phase_2 = solution.phase == 2
    steps = _ready_steps(labeling)
    return SolutionRecord(
        line=line,
        problem=problem.text,
        steps=steps,
        phase=2 if in_phase_2 else 1,
        reference_answer=problem.reference_answer if labeling.import_run_id else problem.answer,
        reference_solution=problem.reference_solution,
        final_answer=labeling.source_final_answer or solution.final_answer,
        generator=solution.generator or None,
        verifier_score=labeling.verifier_score,
        labeling=_labeling_record(labeling, steps),
        question_keys=tuple(labeling.question_keys or ()),
    )


def _ready_steps(labeling: Labeling) -> tuple[str, ...]:
    solution = labeling.solution
    if solution.phase == 1:
        return ()
    path: list[Completion] = solution.path  # type: ignore[attr-defined]  # set by the prefetch above
    return tuple(step.text for step in path[: solution.step_count])


def _labeling_record(labeling: Labeling, steps: Sequence[str]) -> LabelingRecord:
    return LabelingRecord(
        labeler=labeler_of(labeling),
        timestamp=timestamp_of(labeling),
        generation=labeling.generation_number,
        is_quality_control_question=labeling.is_quality_control,
        is_initial_screening_question=labeling.is_initial_screening,
        steps=tuple(_labeled_steps(labeling, steps)),
        total_time=labeling.wall_ms,
        finish_reason=FinishReason(labeling.finish_reason) if labeling.finish_reason else None,
    )


def _labeled_steps(labeling: Labeling, steps: Sequence[str]) -> Iterator[LabeledStep]:
    """The steps up to the last one that was reached. Where the labeling has rows of its own way (phase 1, and whatever
    was imported), they tell it; else it followed the ready solution."""
    ratings = ratings_by_step(labeling)
    path = {step.step_index: step for step in labeling.steps.all()}
    in_phase_1 = labeling.solution.phase == 1
    for index in range(max(path.keys() | ratings.keys(), default=-1) + 1):
        if index in path or in_phase_1:
            yield _walked_step(path.get(index) or LabelingStep(), ratings.get(index, []))
        elif index in ratings:
            yield _judged_step(ratings[index])
        else:
            yield LabeledStep((RatedCompletion(steps[index]),), chosen_completion=0)


def ratings_by_step(labeling: Labeling) -> dict[int, list[Rating]]:
    """In the order in which the completions were shown."""
    ratings: dict[int, list[Rating]] = {}
    for rating in labeling.ratings.all():
        ratings.setdefault(rating.step_index, []).append(rating)
    return ratings


def labeler_of(labeling: Labeling) -> str:
    return labeling.source_labeler or str(labeling.membership.uuid if labeling.membership else "")


def timestamp_of(labeling: Labeling) -> str:
    """PRM800K writes naive times; ours are UTC."""
    if labeling.source_timestamp:
        return labeling.source_timestamp
    at = labeling.submitted_at or labeling.started_at
    return at.replace(tzinfo=None).isoformat(timespec="microseconds")


def _judged_step(ratings: list[Rating]) -> LabeledStep:
    """A step of a ready solution that was rated here: it continues unless it is the first error."""
    return LabeledStep(
        completions=tuple(_completion(rating) for rating in ratings),
        chosen_completion=None if ratings[0].value == -1 else 0,
    )


def _walked_step(step: LabelingStep, ratings: list[Rating]) -> LabeledStep:
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
    # Nobody is asked to rate a step of their own.
    said = next((rating for rating in ratings if rating.completion_id == step.human_id), Rating(flagged=False))
    unusual = dict(step.human_record or {})
    if "keys" in unusual:
        unusual["keys"] = tuple(unusual["keys"])
    return HumanCompletion(text=step.human.text, rating=said.value, flagged=said.flagged, **unusual)


def _completion(rating: Rating) -> RatedCompletion:
    return RatedCompletion(text=rating.completion.text, rating=rating.value, flagged=rating.flagged)
