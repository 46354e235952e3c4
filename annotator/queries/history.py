"""What was said of one solution, to be read again: by the labeler who said it and by managers."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Prefetch, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotator.models import Completion, Labeling, Membership, Rating, RatingEvent
from annotator.queries.guideline import rating_words
from prm_backend.types import FinishReason

RATINGS = Prefetch("ratings", Rating.objects.select_related("completion").order_by("step_index", "position"))
PROGRESS_WORDS = (
    gettext_lazy("no progress"),
    gettext_lazy("a little progress"),
    gettext_lazy("most of the way"),
    gettext_lazy("nearly there"),
)


def my_labelings(membership: Membership) -> QuerySet[Labeling]:
    """All that the person has submitted, newest first."""
    return (
        Labeling.objects.filter(membership=membership)
        .exclude(state=Labeling.State.DRAFT)
        .select_related("campaign", "solution__problem")
        .prefetch_related(RATINGS, "steps")
        .order_by("-submitted_at", "-id")
    )


def correctable_until(labeling: Labeling) -> datetime.datetime | None:
    """Until when its labeler may correct it; None where nobody may: what was given up is with somebody else."""
    submitted = labeling.state in (Labeling.State.SUBMITTED, Labeling.State.SURPLUS)
    if not submitted or labeling.assignment_id is None or labeling.finish_reason == FinishReason.GIVE_UP:
        return None
    assert labeling.submitted_at is not None
    return labeling.submitted_at + labeling.campaign.correction_window


def path_ratings(labeling: Labeling) -> list[Rating]:
    """One rating a step: of the completion that the labeling went on with, or stopped at. Needs `RATINGS` and steps."""
    chosen = {step.step_index: step.human_id or step.chosen_id for step in labeling.steps.all()}
    found: dict[int, Rating] = {}
    for rating in labeling.ratings.all():
        taken = chosen.get(rating.step_index)
        if taken == rating.completion_id or (taken is None and rating.completion.completion_index == 0):
            found[rating.step_index] = rating
    return [found[index] for index in sorted(found)]


@dataclass(frozen=True, slots=True)
class SaidCompletion:
    """A completion and what was said of it. `other` ones are not on the labeling's path."""

    text: str
    rating: Rating | None
    own: bool = False
    other: bool = False


@dataclass(frozen=True, slots=True)
class SaidStep:
    number: int
    completions: list[SaidCompletion] = field(default_factory=list)

    @property
    def is_unrated(self) -> bool:
        return all(said.rating is None and not said.own for said in self.completions)


def said_steps(labeling: Labeling) -> list[SaidStep]:
    """The steps as the labeler left them; what comes after the end of a ready solution follows unrated."""
    steps: dict[int, SaidStep] = {}
    ways = {way.step_index: way for way in labeling.steps.select_related("human")}
    for rating in labeling.ratings.select_related("completion").order_by("step_index", "position"):
        way = ways.get(rating.step_index)
        on_path = (
            rating.completion_id in (way.chosen_id, way.human_id) if way else not rating.completion.completion_index
        )
        said = SaidCompletion(
            rating.completion.text, rating, own=bool(way and way.human_id == rating.completion_id), other=not on_path
        )
        steps.setdefault(rating.step_index, SaidStep(rating.step_index + 1)).completions.append(said)
    for index, way in ways.items():
        step = steps.setdefault(index, SaidStep(index + 1))
        if way.human and not any(said.own for said in step.completions):
            step.completions.append(SaidCompletion(way.human.text, None, own=True))
    if labeling.solution.phase != 1:
        for completion in Completion.objects.filter(solution=labeling.solution, completion_index=0):
            index = completion.step_index
            if index not in steps:
                steps[index] = SaidStep(index + 1, [SaidCompletion(completion.text, None)])
    return [steps[index] for index in sorted(steps)]


@dataclass(frozen=True, slots=True)
class ActLine:
    """One act in words. `undone` acts were taken back later."""

    event: RatingEvent
    words: str
    undone: bool


def acts_of(labeling: Labeling) -> list[ActLine]:
    """All acts, oldest first, corrections included."""
    events = list(labeling.events.select_related("completion").order_by("id"))
    undone: set[UUID | None] = {event.undoes for event in events if event.kind == RatingEvent.Kind.UNDO}
    words = {row.value: row.word for row in rating_words(labeling.guideline)}
    lines = []
    submits = 0
    for event in events:
        submits += event.kind == RatingEvent.Kind.SUBMIT
        lines.append(ActLine(event, _act_words(event, words, submits), event.client_id in undone))
    return lines


def _act_words(event: RatingEvent, words: dict[int, str], submits: int) -> str:
    kind = RatingEvent.Kind
    step = event.completion.step_index + 1 if event.completion else None
    if event.kind == kind.RATE:
        if event.value is None:
            return _("Step %(step)s: rating taken back") % {"step": step}
        said = _("Step %(step)s: %(word)s") if not event.flagged else _("Step %(step)s: %(word)s, unsure")
        return said % {"step": step, "word": words[event.value]}
    if event.kind == kind.CHOOSE:
        return _("Step %(step)s: chosen to go on") % {"step": step}
    if event.kind == kind.PROGRESS:
        return _("Progress taken back") if event.value is None else str(PROGRESS_WORDS[event.value]).capitalize()
    if event.kind == kind.CRITIQUE:
        word = _("taken back") if event.value is None else words[event.value]
        return _("A critique: %(word)s") % {"word": word}
    if event.kind == kind.SUBMIT:
        return _("Submitted") if submits == 1 else _("Correction submitted")
    return {
        kind.WRITE: _("Wrote a step"),
        kind.OWN_CRITIQUE: _("Wrote what is wrong") if event.text else _("Took the own words back"),
        kind.UNDO: _("Took the last act back"),
        kind.WITHDRAW: _("Withdrawn by a manager"),
    }.get(kind(event.kind), event.kind)
