"""Labelings as rows, without the actions that make them: for what only reads them."""

from __future__ import annotations

import datetime
import itertools
import uuid
from collections.abc import Sequence
from typing import Any

from django.utils import timezone

from annotator.models import (
    Assignment,
    Campaign,
    Completion,
    Generation,
    Labeling,
    LabelingStep,
    Membership,
    QueueItem,
    Rating,
    RatingEvent,
    Solution,
)
from tests.annotator.cast import import_rows, make_member, simple_row

SUBMITTED_AT = datetime.datetime(2026, 3, 1, 12, 30, tzinfo=datetime.UTC)


def one_solution(
    campaign: Campaign, problem: str = "A?", steps: Sequence[str] = ("One.", "Two."), **more: Any
) -> Solution:
    """Imported with its `alternatives`, `critiques`, …"""
    import_rows(campaign, [simple_row(problem, steps, **more)])
    return Solution.objects.filter(campaign=campaign).latest("id")


def labeler_in(campaign: Campaign, username: str = "lea") -> Membership:
    return Membership.objects.filter(campaign=campaign, user__username=username).first() or make_member(
        campaign, username
    )


def served(solution: Solution, membership: Membership, **item: Any) -> Assignment:
    """A queue item of the solution, in the campaign's only generation, assigned and done."""
    campaign = membership.campaign
    generation, _ = Generation.objects.get_or_create(campaign=campaign, number=4, defaults={"policy": {}})
    queued = QueueItem.objects.create(
        **{
            "campaign": campaign,
            "generation": generation,
            "solution": solution,
            "problem": solution.problem,
            "arm": QueueItem.Arm.RANDOM,
            "strategy": "seeded draw",
            "inclusion_probability": 0.25,
            "rank": 7,
            "place": 7,
            "wanted": 1,
            "taken": 1,
        }
        | item
    )
    return Assignment.objects.create(
        item=queued,
        solution=solution,
        problem=solution.problem,
        membership=membership,
        campaign=campaign,
        state=Assignment.State.DONE,
        place=7,
        lease_until=timezone.now(),
    )


def labeling_of(solution: Solution, *, item: dict[str, Any] | None = None, **fields: Any) -> Labeling:
    """A submitted labeling made here, of nothing yet."""
    membership = fields.pop("membership", None) or labeler_in(solution.campaign)
    return Labeling.objects.create(
        **{
            "campaign": solution.campaign,
            "solution": solution,
            "membership": membership,
            "assignment": served(solution, membership, **(item or {})),
            "state": Labeling.State.SUBMITTED,
            "revision": 1,
            "finish_reason": "found_error",
            "submitted_at": SUBMITTED_AT,
            "generation_number": 4,
            "wall_ms": 9000,
            "active_ms": 8000,
        }
        | fields
    )


def completion_of(solution: Solution, text: str) -> Completion:
    return Completion.objects.get(solution=solution, text=text)


def rate(labeling: Labeling, values: dict[str, int | None], **flagged: bool | None) -> None:
    """Rate completions by their text, in the order in which they were shown. `flagged` has those that are not None, by
    their text without its full stop."""
    places: dict[int, itertools.count[int]] = {}
    for text, value in values.items():
        completion = completion_of(labeling.solution, text)
        Rating.objects.create(
            labeling=labeling,
            completion=completion,
            step_index=completion.step_index,
            position=next(places.setdefault(completion.step_index, itertools.count())),
            value=value,
            flagged=flagged.get(text.removesuffix(".")),
        )


def walk(labeling: Labeling, *ways: str | None) -> None:
    """One row for each step reached: the text that continued it (chosen, or the labeler's own), or None."""
    for index, text in enumerate(ways):
        way = completion_of(labeling.solution, text) if text else None
        by_hand = way is not None and way.source == Completion.Source.HUMAN
        LabelingStep.objects.create(
            labeling=labeling,
            step_index=index,
            chosen=None if by_hand else way,
            human=way if by_hand else None,
        )


def write_step(solution: Solution, text: str, *, after: str) -> Completion:
    """A labeler's own step, behind the candidates of its place."""
    parent = completion_of(solution, after)
    return Completion.objects.create(
        solution=solution,
        parent=parent,
        step_index=parent.step_index + 1,
        completion_index=Completion.objects.filter(parent=parent).count(),
        text=text,
        source=Completion.Source.HUMAN,
    )


def spend(labeling: Labeling, text: str | None, active_ms: int, wall_ms: int, kind: str = "rate") -> None:
    """An act that took so long; `text` names its completion."""
    RatingEvent.objects.create(
        labeling=labeling,
        client_id=uuid.uuid4(),
        kind=kind,
        completion=completion_of(labeling.solution, text) if text else None,
        value=1,
        active_ms=active_ms,
        wall_ms=wall_ms,
    )
