"""What a labeler is waiting for, and what a worker has to ask the model for."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from annotator.candidates import Wanted
from annotator.models import Campaign, CandidateRequest, Completion, Critique, Solution

ALTERNATIVES_ASKED = 4
CRITIQUES_ASKED = 3
COMING = "The model is writing candidates."
LATE = "No candidates have come: the worker is busy or stopped. Go on without them, or wait."


def waiting_for(solution_id: int) -> list[dict[str, Any]]:
    """What has been asked for and has not come, as the item's `waiting` entries. What is overdue counts as failed, so
    that nobody is held up by a stopped worker; it may still come."""
    requests = CandidateRequest.objects.filter(solution=solution_id).exclude(state=CandidateRequest.State.DONE)
    return [_entry(request) for request in requests.order_by("id")]


def _entry(request: CandidateRequest) -> dict[str, Any]:
    state, message = "coming", COMING
    if request.state == CandidateRequest.State.FAILED:
        state, message = "failed", request.error
    elif request.created_at + lease_length() <= timezone.now():
        state, message = "failed", LATE
    return {"parent": request.parent_id, "kind": request.kind, "state": state, "message": message}


def lease_length() -> datetime.timedelta:
    """How long a worker may have a request: the time for the call, and some for what comes before and after it."""
    return datetime.timedelta(seconds=settings.CANDIDATE_TIMEOUT_SECONDS + 10)


def present(solution: Solution, parent: Completion | None, kind: str) -> QuerySet[Completion] | QuerySet[Critique]:
    """The model's critiques of `parent`, or its steps after `parent`; of a ready solution without the step itself, to
    which they are alternatives."""
    if kind == CandidateRequest.Kind.CRITIQUES:
        return Critique.objects.filter(completion=parent, source=Completion.Source.MODEL)
    steps = Completion.objects.filter(solution=solution, parent=parent, source=Completion.Source.MODEL)
    return steps.filter(completion_index__gt=0) if solution.campaign.phase == Campaign.Phase.JUDGE else steps


def wanted_by(request: CandidateRequest) -> Wanted:
    """What the model needs to know. The reference answer is none of it."""
    solution, campaign = request.solution, request.campaign
    path = _path_to(request)
    critiques = request.kind == CandidateRequest.Kind.CRITIQUES
    several = ALTERNATIVES_ASKED if campaign.phase == Campaign.Phase.JUDGE else campaign.candidates_shown
    return Wanted(
        problem=solution.problem.text,
        steps=tuple(path[:-1] if critiques else path),
        wrong_step=path[-1] if critiques else None,
        count=CRITIQUES_ASKED if critiques else several,
        # A second attempt after a failure may well draw other texts.
        seed=request.pk * CandidateRequest.MAX_ATTEMPTS + request.attempt,
    )


def _path_to(request: CandidateRequest) -> list[str]:
    """The texts from the first step to `parent`."""
    rows = Completion.objects.filter(solution=request.solution_id).values_list("pk", "parent_id", "text")
    known = {pk: (parent, text) for pk, parent, text in rows}
    path: list[str] = []
    place = request.parent_id
    while place is not None:
        place, text = known[place]
        path.append(text)
    return path[::-1]
