"""Stepwise supervision as TRL and many data sets on the Hugging Face hub have it:
`{"prompt": problem, "completions": [step, ...], "labels": [true, ...]}`.

Only the path that was followed is written (chosen completions; at the first error the step that was judged), up to the
first step without a rating. Good and "not bad" steps are true, bad ones false; neutral steps are true unless asked
otherwise ("Let's Verify Step by Step" counts them as correct; TRL's own converter did not).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import takewhile

from prm_backend.types import (
    LABEL_OF_RATING,
    LabeledStep,
    Phase,
    RatedCompletion,
    SolutionRecord,
    StepLabel,
)

ABOUT = "stepwise supervision (TRL): prompt, completions and true/false labels"


def trl_line(record: SolutionRecord, *, neutral_is_correct: bool = True) -> str | None:
    """The record as one line (no line end), or None where not even the first step is rated."""
    steps = list(rated_path(record))
    if not steps:
        return None
    correct = {StepLabel.GOOD, StepLabel.NOT_BAD} | ({StepLabel.NEUTRAL} if neutral_is_correct else set())
    row = {
        "prompt": record.problem,
        "completions": [text for text, _ in steps],
        "labels": [label in correct for _, label in steps],
    }
    return json.dumps(row)


def rated_path(record: SolutionRecord) -> Iterator[tuple[str, StepLabel]]:
    """Text and label of each step of the followed path, up to the first one that nobody rated."""
    if record.labeling is not None:
        followed = takewhile(bool, (_followed(step, record.phase) for step in record.labeling.steps))
        pairs = [(c.text, None if c.rating is None else LABEL_OF_RATING[c.rating]) for c in followed if c]
    else:
        pairs = list(zip(record.steps, record.step_labels or (), strict=False))
    for text, label in pairs:
        if label is None:
            return
        yield text, label


def _followed(step: LabeledStep, phase: Phase) -> RatedCompletion | None:
    """The completion that the path goes through; None at a labeler's own step, which carries no rating.

    In phase 2 nothing is chosen at the first error: there the judged step stands first, alternatives behind it."""
    chosen = 0 if phase == 2 and step.chosen_completion is None else step.chosen_completion
    return step.completions[chosen] if step.completions and chosen is not None else None
