"""ProcessBench (arXiv 2412.06559): `id, generator, problem, steps, final_answer_correct, label`, where `label` is the
index of the first wrong step, from 0, or -1 where every step is right."""

from __future__ import annotations

from collections.abc import Collection

from prm_backend.formats.field import Field
from prm_backend.types import SolutionRecord, StepLabel

ABOUT = "ProcessBench: solutions with the index of their first wrong step"


def recognises(keys: Collection[str]) -> bool:
    return {"problem", "steps", "label"} <= set(keys) and not {
        "ratings",
        "label_origin",
    } & set(keys)


def parse(row: Field) -> SolutionRecord:
    steps = row["steps"].texts()
    return SolutionRecord(
        line=row.line,
        problem=row["problem"].text(),
        steps=steps,
        external_id=row.get("id").maybe(Field.text),
        final_answer_correct=row.get("final_answer_correct").maybe(Field.boolean),
        generator=row.get("generator").maybe(Field.text),
        step_labels=labels_to_first_error(_first_error(row["label"], len(steps)), len(steps)),
    )


def _first_error(label: Field, steps: int) -> int | None:
    first_error = label.integer(least=-1)
    if first_error >= steps:
        raise label.error(f"is {first_error}, but there are {steps} steps (counted from 0; -1 for no error)")
    return None if first_error == -1 else first_error


def labels_to_first_error(first_error: int | None, steps: int) -> tuple[StepLabel | None, ...]:
    """What "the first wrong step is this one", or none, says of each step: those before it are not bad, and nothing is
    known of those after it."""
    if first_error is None:
        return (StepLabel.NOT_BAD,) * steps
    return (StepLabel.NOT_BAD,) * first_error + (StepLabel.BAD,) + (None,) * (steps - first_error - 1)
