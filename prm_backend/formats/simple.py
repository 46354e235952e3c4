"""The project's own simple JSONL: `problem` and `steps`, and where known `id, ground_truth_answer, ratings,
final_answer_correct, generator, label_origin`. Other keys are let pass.

`ratings` holds -1, 0, 1 or null for each step. `label_origin` says how they came about and so what they mean:

- `human_first_error`: a person named the first wrong step; the steps before it are not bad, the others not judged.
- `human_per_step_merged`: a person rated each step, but 0 and 1 were merged into 1, which therefore means not bad.
- `human_per_step`, any other `human...`, `generated` (known by construction), absent: ratings as they stand.
- `auto_mostly`, `llm_injected_error`, `none`: nobody judged these steps; ratings are not read as labels.
"""

from __future__ import annotations

from collections.abc import Collection

from prm_backend.formats.field import Field
from prm_backend.formats.processbench import labels_to_first_error
from prm_backend.types import LABEL_OF_RATING, SolutionRecord, StepLabel

ABOUT = "simple JSONL: problem, steps and, where known, ratings, final_answer_correct, label_origin"

NOT_HUMAN = ("auto_mostly", "llm_injected_error", "none")
MERGED = {**LABEL_OF_RATING, 1: StepLabel.NOT_BAD}


def recognises(keys: Collection[str]) -> bool:
    return {"problem", "steps"} <= set(keys)


def parse(row: Field) -> SolutionRecord:
    steps = row["steps"].texts()
    return SolutionRecord(
        line=row.line,
        problem=row["problem"].text(),
        steps=steps,
        external_id=row.get("id").maybe(Field.text),
        reference_answer=row.get("ground_truth_answer").maybe(Field.text),
        final_answer_correct=row.get("final_answer_correct").maybe(Field.boolean),
        generator=row.get("generator").maybe(Field.text),
        step_labels=_step_labels(row, len(steps)),
    )


def _step_labels(row: Field, steps: int) -> tuple[StepLabel | None, ...] | None:
    """One label for each step, or None where nobody judged any."""
    origin = row.get("label_origin").maybe(_origin)
    ratings = row.get("ratings").maybe(lambda field: [item.maybe(Field.rating) for item in field.items()])
    if ratings is None:
        return None
    if len(ratings) != steps:
        raise row["ratings"].error(f"has {len(ratings)} entries for {steps} steps")
    if origin in NOT_HUMAN or all(rating is None for rating in ratings):
        return None
    if origin == "human_first_error":
        return labels_to_first_error(ratings.index(-1) if -1 in ratings else None, steps)
    label_of = MERGED if origin == "human_per_step_merged" else LABEL_OF_RATING
    return tuple(None if rating is None else label_of[rating] for rating in ratings)


def _origin(field: Field) -> str:
    origin = field.text()
    if origin in NOT_HUMAN or origin == "generated" or origin.startswith("human"):
        return origin
    raise field.error(
        f"must be human_first_error, human_per_step, human_per_step_merged, generated, {', '.join(NOT_HUMAN)}"
        f" or absent, not {origin!r:.40}"
    )
