"""PRM800K (https://github.com/openai/prm800k): one labeling on each line; read and written to the byte.

A phase 1 row has only the problem and its reference answer in `question`: its steps are the labeling's own. A phase 2
row adds the ready solution that was judged. Both may hold null in places where the public description does not say so.
One null is this project's own: the finish reason of a targeted labeling that found no error.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime

from prm_backend.errors import FormatError
from prm_backend.formats.field import Field
from prm_backend.types import (
    FinishReason,
    HumanCompletion,
    LabeledStep,
    LabelingRecord,
    RatedCompletion,
    SolutionRecord,
)

ABOUT = "PRM800K: one labeling on each line, phase 1 or phase 2"

ROW_KEYS = (
    "labeler",
    "timestamp",
    "generation",
    "is_quality_control_question",
    "is_initial_screening_question",
    "question",
    "label",
)
PHASE_1_QUESTION = ("problem", "ground_truth_answer")
PHASE_2_QUESTION = (
    "problem",
    "ground_truth_solution",
    "ground_truth_answer",
    "pre_generated_steps",
    "pre_generated_answer",
    "pre_generated_verifier_score",
)
LABEL_KEYS = ("steps", "total_time", "finish_reason")
STEP_KEYS = ("completions", "human_completion", "chosen_completion")
COMPLETION_KEYS = ("text", "rating", "flagged")
HUMAN_COMPLETION_KEYS = ("text", "rating", "source", "flagged")


def recognises(keys: Collection[str]) -> bool:
    return "question" in keys and "label" in keys


def parse(row: Field) -> SolutionRecord:
    row.only(ROW_KEYS)
    question = row["question"].only(PHASE_1_QUESTION, PHASE_2_QUESTION)
    in_phase_2 = "pre_generated_steps" in question.mapping()
    steps = question["pre_generated_steps"].texts() if in_phase_2 else ()
    labeling = _labeling(row)
    if in_phase_2 and len(labeling.steps) > len(steps):
        raise row["label"]["steps"].error(f"has {len(labeling.steps)} entries for {len(steps)} pre-generated steps")
    return SolutionRecord(
        line=row.line,
        problem=question["problem"].text(),
        steps=steps,
        phase=2 if in_phase_2 else 1,
        reference_answer=question["ground_truth_answer"].maybe(Field.text),
        reference_solution=question.get("ground_truth_solution").maybe(Field.text),
        final_answer=question.get("pre_generated_answer").maybe(Field.text),
        verifier_score=question.get("pre_generated_verifier_score").maybe(Field.number),
        labeling=labeling,
        question_keys=tuple(question.mapping()),
    )


def _labeling(row: Field) -> LabelingRecord:
    label = row["label"].only(LABEL_KEYS)
    return LabelingRecord(
        labeler=row["labeler"].text(),
        timestamp=_timestamp(row["timestamp"]),
        generation=row["generation"].maybe(lambda field: field.integer(least=-1)),
        is_quality_control_question=row["is_quality_control_question"].boolean(),
        is_initial_screening_question=row["is_initial_screening_question"].boolean(),
        steps=tuple(_step(step) for step in label["steps"].items()),
        total_time=label["total_time"].integer(),
        finish_reason=label["finish_reason"].maybe(_finish_reason),
    )


def _timestamp(field: Field) -> str:
    written = field.text()
    try:
        datetime.fromisoformat(written)
    except ValueError:
        raise field.error(f"must be an ISO 8601 date and time, not {written!r:.40}") from None
    return written


def _finish_reason(field: Field) -> FinishReason:
    try:
        return FinishReason(field.text())
    except ValueError:
        raise field.error(f"must be one of {', '.join(FinishReason)}, not {field.value!r:.40}") from None


def _step(step: Field) -> LabeledStep:
    step.only(STEP_KEYS)
    completions = step["completions"].maybe(lambda field: tuple(_completion(item) for item in field.items()))
    chosen = step["chosen_completion"].maybe(Field.integer)
    if chosen is not None and chosen >= len(completions or ()):
        raise step["chosen_completion"].error(f"is {chosen}, but the step has {len(completions or ())} completions")
    return LabeledStep(completions, step["human_completion"].maybe(_human_completion), chosen)


def _completion(completion: Field) -> RatedCompletion:
    completion.only(COMPLETION_KEYS)
    return RatedCompletion(
        text=completion["text"].text(),
        rating=completion["rating"].maybe(Field.rating),
        flagged=completion["flagged"].maybe(Field.boolean),
    )


def _human_completion(completion: Field) -> HumanCompletion:
    completion.only(HUMAN_COMPLETION_KEYS, ("corrected_rating",))
    return HumanCompletion(
        text=completion["text"].text(),
        rating=completion["rating"].maybe(Field.rating),
        flagged=completion["flagged"].maybe(Field.boolean),
        source=completion["source"].text(),
        corrected_rating=completion.get("corrected_rating").maybe(Field.rating),
        keys=tuple(completion.mapping()),
    )


def prm800k_line(record: SolutionRecord) -> str:
    """The record as one line of PRM800K (no line end): its own keys and order, ASCII escapes. A genuine line that was
    read comes back byte for byte. Raises `FormatError` for a record without a labeling."""
    if record.labeling is None:
        raise FormatError("a solution without a labeling has no PRM800K form", line=record.line)
    labeling = record.labeling
    row = {
        "labeler": labeling.labeler,
        "timestamp": labeling.timestamp,
        "generation": labeling.generation,
        "is_quality_control_question": labeling.is_quality_control_question,
        "is_initial_screening_question": labeling.is_initial_screening_question,
        "question": _question_row(record),
        "label": {
            "steps": [_step_row(step) for step in labeling.steps],
            "total_time": labeling.total_time,
            "finish_reason": labeling.finish_reason,
        },
    }
    return json.dumps(row, allow_nan=False)


def _question_row(record: SolutionRecord) -> dict[str, object]:
    values: dict[str, object] = {
        "problem": record.problem,
        "ground_truth_solution": record.reference_solution,
        "ground_truth_answer": record.reference_answer,
        "pre_generated_steps": record.steps,
        "pre_generated_answer": record.final_answer,
        "pre_generated_verifier_score": record.verifier_score,
    }
    keys = record.question_keys or (PHASE_1_QUESTION if record.phase == 1 else PHASE_2_QUESTION)
    return {key: values[key] for key in keys}


def _step_row(step: LabeledStep) -> dict[str, object]:
    completions = None
    if step.completions is not None:
        completions = [{key: getattr(completion, key) for key in COMPLETION_KEYS} for completion in step.completions]
    human = step.human_completion
    return {
        "completions": completions,
        "human_completion": human and {key: getattr(human, key) for key in human.keys},
        "chosen_completion": step.chosen_completion,
    }
