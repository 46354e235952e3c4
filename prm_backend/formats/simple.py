"""The project's own simple JSONL: `problem` and `steps`, and where known `id, ground_truth_answer, ratings,
final_answer_correct, generator, label_origin, alternatives, critiques, attachments`. Other keys are let pass.

A step is a text, or a turn of an agent: an object with at least one of `thought, action, action_input, observation`,
which is kept as text. Without steps a row is a bare problem, whose solution is to be written in phase 1.
`alternatives` (other next steps) and `critiques` (what is wrong with the step) have one entry for each step: null or a
list. `attachments` are images of the problem.

`ratings` holds -1, 0, 1 or null for each step. `label_origin` says how they came about and so what they mean:

- `human_first_error`: a person named the first wrong step; the steps before it are not bad, the others not judged.
- `human_per_step_merged`: a person rated each step, but 0 and 1 were merged into 1, which therefore means not bad.
- `human_per_step`, any other `human...`, `generated` (known by construction), absent: ratings as they stand.
- `auto_mostly`, `llm_injected_error`, `none`: nobody judged these steps; ratings are not read as labels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from prm_backend.formats.attachments import attached_images
from prm_backend.formats.field import Field
from prm_backend.formats.processbench import labels_to_first_error
from prm_backend.types import LABEL_OF_RATING, SolutionRecord, StepLabel

ABOUT = "simple JSONL: problem, steps and, where known, ratings, alternatives, critiques, attachments"

NOT_HUMAN = ("auto_mostly", "llm_injected_error", "none")
MERGED = {**LABEL_OF_RATING, 1: StepLabel.NOT_BAD}
# The names that agents are prompted with (ReAct, arXiv 2210.03629).
TURN = {"thought": "Thought", "action": "Action", "action_input": "Action Input", "observation": "Observation"}


def recognises(keys: Collection[str]) -> bool:
    return "problem" in keys


def parse(row: Field) -> SolutionRecord:
    steps = row.get("steps").maybe(lambda field: tuple(_step(item) for item in field.items())) or ()
    return SolutionRecord(
        line=row.line,
        problem=row["problem"].text(),
        steps=steps,
        phase=2 if steps else 1,
        external_id=row.get("id").maybe(Field.text),
        reference_answer=row.get("ground_truth_answer").maybe(Field.text),
        final_answer_correct=row.get("final_answer_correct").maybe(Field.boolean),
        generator=row.get("generator").maybe(Field.text),
        step_labels=_step_labels(row, len(steps)),
        alternatives=_by_step(row.get("alternatives"), len(steps), _step),
        critiques=_by_step(row.get("critiques"), len(steps), Field.text),
        attachments=row.get("attachments").maybe(attached_images) or (),
    )


def _step(field: Field) -> str:
    """A step's text; a turn of an agent becomes one, a line for each thing that it did."""
    if not isinstance(field.value, dict):
        return field.text()
    field.only((), TURN)
    said = [(word, field.get(key).maybe(Field.text)) for key, word in TURN.items()]
    lines = [f"{word}: {text}" for word, text in said if text is not None]
    if not lines:
        raise field.error(f"must have one of {', '.join(TURN)}")
    return "\n".join(lines)


def _by_step(field: Field, steps: int, read: Callable[[Field], str]) -> tuple[tuple[str, ...], ...]:
    """What stands beside each step. Empty where nothing stands anywhere, so that this and absence read the same."""
    entries = field.maybe(Field.items) or []
    if field.value is not None and len(entries) != steps:
        raise field.error(f"has {len(entries)} entries for {steps} steps")
    lists = tuple(tuple(read(item) for item in entry.maybe(Field.items) or ()) for entry in entries)
    return lists if any(lists) else ()


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
