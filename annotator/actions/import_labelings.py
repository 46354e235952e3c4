"""One imported labeling, laid over the tree of its solution; and what a file's labels say of its steps."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from annotator.models import Completion, Labeling, LabelingStep, Rating, Solution
from prm_backend.types import (
    LABEL_OF_RATING,
    FinishReason,
    HumanCompletion,
    LabeledStep,
    LabelingRecord,
    RatedCompletion,
    SolutionRecord,
    StepLabel,
)

VALUE_OF_LABEL: dict[StepLabel, int | None] = {
    StepLabel.BAD: -1,
    StepLabel.NEUTRAL: 0,
    StepLabel.GOOD: 1,
    StepLabel.NOT_BAD: None,
}


@dataclass
class TreeWriter:
    """Lays one imported labeling over the tree of its solution: known completions are found, new ones added."""

    labeling: Labeling
    solution: Solution
    ratings: list[Rating] = field(default_factory=list)
    path: list[LabelingStep] = field(default_factory=list)

    def write(self, steps: Sequence[LabeledStep], step_labels: Sequence[StepLabel | None] | None) -> None:
        tree: dict[int | None, list[Completion]] = {}
        for completion in Completion.objects.filter(solution=self.solution).order_by("step_index", "completion_index"):
            tree.setdefault(completion.parent_id, []).append(completion)
        parent: Completion | None = None
        for index, step in enumerate(steps):
            siblings = tree.setdefault(parent.pk if parent else None, [])
            not_bad = bool(step_labels and step_labels[index] == StepLabel.NOT_BAD)
            parent = self._step(index, step, parent, siblings, not_bad=not_bad) or parent
        Rating.objects.bulk_create(self.ratings)
        LabelingStep.objects.bulk_create(self.path)

    def _step(
        self, index: int, step: LabeledStep, parent: Completion | None, siblings: list[Completion], *, not_bad: bool
    ) -> Completion | None:
        # After a step without a choice the next one hangs on the same parent, so the index tells them apart.
        free = [sibling for sibling in siblings if sibling.step_index == index]
        shown = []
        for position, completion in enumerate(step.completions or ()):
            place = self._place(index, parent, siblings, free, completion.text, Completion.Source.MODEL)
            shown.append(place)
            self._rate(index, place, position, completion.rating, completion.flagged, not_bad=not_bad)
        written = None
        if step.human_completion:
            human = step.human_completion
            written = self._place(index, parent, siblings, free, human.text, Completion.Source.HUMAN)
            self._rate(index, written, len(shown), human.rating, human.flagged)
        chosen = shown[step.chosen_completion] if step.chosen_completion is not None else None
        self.path.append(
            LabelingStep(
                labeling=self.labeling,
                step_index=index,
                chosen=chosen,
                human=written,
                human_record=_unusual(step.human_completion),
                pending=step.completions is None,
            )
        )
        return written or chosen

    def _place(
        self,
        index: int,
        parent: Completion | None,
        siblings: list[Completion],
        free: list[Completion],
        text: str,
        source: Completion.Source,
    ) -> Completion:
        """The first sibling of this text not yet used at this step, else a new one."""
        for known in free:
            if known.text == text and known.source == source:
                free.remove(known)
                return known
        # Index 0 is the ready solution's own step (phase 2), so a branch beside it starts at 1.
        before = max((sibling.completion_index for sibling in siblings), default=0 if self.solution.phase == 2 else -1)
        made = Completion.objects.create(
            solution=self.solution,
            parent=parent,
            step_index=index,
            completion_index=before + 1,
            text=text,
            source=source,
        )
        siblings.append(made)
        return made

    def _rate(
        self,
        index: int,
        completion: Completion,
        position: int,
        value: int | None,
        flagged: bool | None,
        *,
        not_bad: bool = False,
    ) -> None:
        self.ratings.append(
            Rating(
                labeling=self.labeling,
                completion=completion,
                step_index=index,
                position=position,
                value=value,
                not_bad=not_bad,
                flagged=flagged,
            )
        )


def labeling_of_step_labels(record: SolutionRecord, *, at: datetime.datetime) -> LabelingRecord | None:
    """A labeling from bare step labels, up to the first error (what follows it stays unrated) or the last judged step;
    None where nothing was judged by a person. It has no finish reason where the source stopped half way. The source
    names neither labeler nor time, so it gets the import's."""
    labels = list(record.step_labels or ())
    found_error = StepLabel.BAD in labels
    if found_error:
        labels = labels[: labels.index(StepLabel.BAD) + 1]
    judged = [index for index, label in enumerate(labels) if label is not None]
    if not judged:
        return None
    complete = len(judged) == len(record.steps)
    reason = FinishReason.FOUND_ERROR if found_error else FinishReason.SOLUTION if complete else None
    steps = tuple(
        LabeledStep(
            completions=(RatedCompletion(text=record.steps[index], rating=_rating(labels[index])),),
            chosen_completion=None if labels[index] == StepLabel.BAD else 0,
        )
        for index in range(judged[-1] + 1)
    )
    return LabelingRecord(
        labeler="imported",
        timestamp=at.replace(tzinfo=None).isoformat(timespec="microseconds"),
        generation=None,
        is_quality_control_question=False,
        is_initial_screening_question=False,
        steps=steps,
        total_time=0,
        finish_reason=reason,
    )


def _unusual(human: HumanCompletion | None) -> dict[str, Any] | None:
    """What a written step carries beyond text, rating and flag, where it is not what PRM800K usually writes."""
    usual = HumanCompletion(text="")
    if human is None or (human.source, human.corrected_rating, human.keys) == (
        usual.source,
        usual.corrected_rating,
        usual.keys,
    ):
        return None
    return {"source": human.source, "corrected_rating": human.corrected_rating, "keys": list(human.keys)}


def _rating(label: StepLabel | None) -> int | None:
    return VALUE_OF_LABEL[label] if label else None


def oracle_labels(record: SolutionRecord) -> list[StepLabel | None]:
    """The file's step labels, whatever form they came in."""
    return list(record.step_labels or labels_of_labeling(record))


def labels_of_labeling(record: SolutionRecord) -> list[StepLabel | None]:
    """The step labels of the ready solution in a PRM800K record: the first completion of each step is its step."""
    if record.labeling is None or record.phase == 1:
        return []
    first = [step.completions[0].rating if step.completions else None for step in record.labeling.steps]
    return [None if rating is None else LABEL_OF_RATING[rating] for rating in first]
