"""What a labeler does to one solution in phase 2. Every act carries a client-made id and may be repeated."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from annotator.actions.audit import record
from annotator.actions.queue import end_assignment, lock_assignment, take_permit_back
from annotator.errors import Conflict, Invalid
from annotator.models import Assignment, Completion, Guideline, Labeling, Rating, RatingEvent
from prm_backend.types import FinishReason

REASONED = (FinishReason.GIVE_UP, FinishReason.BAD_PROBLEM)


@dataclass(frozen=True, slots=True)
class RatingAct:
    """One key press: the rating (-1, 0, 1, or None to take it back) and the unsure mark of one completion."""

    client_id: UUID
    completion_id: int
    value: int | None
    flagged: bool = False
    active_ms: int = 0


@dataclass(frozen=True, slots=True)
class SubmitAct:
    """The end of a labeling. Times are in milliseconds, as the browser measured them; they are bounded here."""

    client_id: UUID
    finish_reason: FinishReason
    reason: str = ""
    comment: str = ""
    wall_ms: int = 0
    active_ms: int = 0


@transaction.atomic
def rate_completion(assignment: Assignment, act: RatingAct) -> Labeling:
    """Store one rating. A step is judged after all before it; a − leaves what follows unrated (design §3.5).

    Raises `Invalid` (unknown completion, impossible value) or `Conflict` (already submitted, a step skipped, a step
    after the first error); nothing is changed then.
    """
    current = lock_assignment(assignment)
    known = RatingEvent.objects.filter(labeling__assignment=current, client_id=act.client_id)
    if event := known.select_related("labeling").first():
        return event.labeling
    labeling = _open_labeling(current)
    _apply(labeling, _path(current), [act])
    if current.state == Assignment.State.ACTIVE:
        Assignment.objects.filter(pk=current.pk).update(lease_until=timezone.now() + current.campaign.lease)
    return labeling


@transaction.atomic
def submit_labeling(assignment: Assignment, act: SubmitAct, ratings: Sequence[RatingAct] = ()) -> Labeling:
    """End a labeling, after applying `ratings` that have not arrived yet. Repeating it under the same client id returns
    the same labeling. A submit after the lease ran out is kept: it counts if its permit is still free, else it is
    surplus, outside k and outside training."""
    current = lock_assignment(assignment)
    done = Labeling.objects.filter(assignment=current, submit_client_id=act.client_id).first()
    if done:
        return done
    labeling = _open_labeling(current)
    path = _path(current)
    _apply(labeling, path, _news(labeling, ratings))
    _check_finished(labeling, path, act)
    now = timezone.now()
    _finish(labeling, current, act, now)
    record(
        "submit",
        campaign=current.campaign,
        actor=current.membership.user,
        subject=f"labeling {labeling.pk}",
        finish_reason=act.finish_reason,
        state=labeling.state,
    )
    return labeling


def _open_labeling(assignment: Assignment) -> Labeling:
    if assignment.state == Assignment.State.RETURNED:
        raise Conflict("returned", "You gave this solution back.")
    labeling, _ = Labeling.objects.get_or_create(
        assignment=assignment,
        defaults={
            "campaign": assignment.campaign,
            "solution_id": assignment.solution_id,
            "membership": assignment.membership,
            "started_at": assignment.created_at,
        },
    )
    if labeling.state != Labeling.State.DRAFT:
        raise Conflict("already_submitted", "This solution has been submitted.")
    return labeling


def _news(labeling: Labeling, acts: Sequence[RatingAct]) -> list[RatingAct]:
    """The acts that have not been stored, once each. One that was followed by a stored act on the same completion is
    no news either: it was overtaken on its way."""
    known = set(RatingEvent.objects.filter(labeling=labeling).values_list("client_id", flat=True))
    news: list[RatingAct] = []
    for act in acts:
        if act.client_id in known:
            news = [earlier for earlier in news if earlier.completion_id != act.completion_id]
        else:
            known.add(act.client_id)
            news.append(act)
    return news


def _path(assignment: Assignment) -> list[Completion]:
    """The ready solution, step by step: index 0 at each depth."""
    return list(
        Completion.objects.filter(solution_id=assignment.solution_id, completion_index=0).order_by("step_index")
    )


def _apply(labeling: Labeling, path: Sequence[Completion], acts: Sequence[RatingAct]) -> None:
    """Replay the acts on the labeling's ratings, then write what differs."""
    steps = {completion.pk: completion for completion in path}
    before = {rating.step_index: rating for rating in labeling.ratings.all()}
    after = dict(before)
    events = []
    for act in acts:
        completion = steps.get(act.completion_id)
        if completion is None:
            raise Invalid("unknown_completion", f"Completion {act.completion_id} is not a step of this solution.")
        if act.value not in (-1, 0, 1, None):
            raise Invalid("bad_rating", f"A rating is -1, 0, 1 or none, not {act.value!r}.")
        step = completion.step_index
        _check_order(after, step, act.value)
        previous = after.get(step)
        for later in [index for index in after if index > step and act.value in (-1, None)]:
            del after[later]
        if act.value is None:
            after.pop(step, None)
        else:
            after[step] = Rating(
                pk=before[step].pk if step in before else None,
                labeling=labeling,
                completion=completion,
                step_index=step,
                value=act.value,
                flagged=True if act.flagged else None,
            )
        events.append(
            RatingEvent(
                labeling=labeling,
                completion=completion,
                client_id=act.client_id,
                value=act.value,
                flagged=act.flagged,
                previous_value=previous.value if previous else None,
                active_ms=act.active_ms,
            )
        )
    RatingEvent.objects.bulk_create(events)
    _write(labeling, before, after)


def _check_order(ratings: dict[int, Rating], step: int, value: int | None) -> None:
    if value is None:
        return
    missing = next((index for index in range(step) if index not in ratings), None)
    if missing is not None:
        raise Conflict("step_skipped", f"Step {missing + 1} comes before step {step + 1} and is not rated yet.")
    error = next((index for index in range(step) if ratings[index].value == -1), None)
    if error is not None:
        raise Conflict("after_first_error", f"Step {error + 1} is rated −: the steps after it stay unrated.")


def _write(labeling: Labeling, before: dict[int, Rating], after: dict[int, Rating]) -> None:
    gone = [rating.pk for step, rating in before.items() if step not in after]
    if gone:
        Rating.objects.filter(pk__in=gone).delete()
    now = timezone.now()
    changed = [rating for step, rating in after.items() if rating is not before.get(step)]
    for rating in changed:
        rating.updated_at = now
    Rating.objects.bulk_create([rating for rating in changed if rating.pk is None])
    existing = [rating for rating in changed if rating.pk is not None]
    if existing:
        Rating.objects.bulk_update(existing, ["value", "flagged", "updated_at"])


def _check_finished(labeling: Labeling, path: Sequence[Completion], act: SubmitAct) -> None:
    """A labeling ends as what its ratings say, or with a reason in words."""
    if act.finish_reason in REASONED:
        if not act.reason.strip():
            raise Invalid("reason_missing", "Say in a few words why.")
        return
    values = list(labeling.ratings.order_by("step_index").values_list("value", flat=True))
    found_error = -1 in values
    if not found_error and len(values) < len(path):
        raise Invalid(
            "ratings_missing", f"Find the first bad step, or rate all {len(path)}: step {len(values) + 1} is next."
        )
    expected = FinishReason.FOUND_ERROR if found_error else FinishReason.SOLUTION
    if act.finish_reason != expected:
        raise Invalid("wrong_finish_reason", f"These ratings end as {expected}, not as {act.finish_reason}.")


def _finish(labeling: Labeling, assignment: Assignment, act: SubmitAct, now: datetime.datetime) -> None:
    in_time = assignment.state == Assignment.State.ACTIVE or take_permit_back(assignment.item)
    labeling.state = Labeling.State.SUBMITTED if in_time else Labeling.State.SURPLUS
    labeling.finish_reason = act.finish_reason
    labeling.reason, labeling.comment = act.reason.strip(), act.comment.strip()
    elapsed = int((now - labeling.started_at).total_seconds() * 1000)
    labeling.wall_ms = min(max(act.wall_ms, 0) or elapsed, elapsed)
    labeling.active_ms = min(max(act.active_ms, 0), labeling.wall_ms)
    labeling.submit_client_id = act.client_id
    labeling.submitted_at = now
    labeling.guideline = Guideline.objects.filter(campaign=assignment.campaign).order_by("-version").first()
    labeling.generation_number = assignment.item.generation.number
    labeling.verifier_score = assignment.item.solution_score
    labeling.save()
    gave_up = act.finish_reason == FinishReason.GIVE_UP
    if in_time:
        end_assignment(assignment, Assignment.State.RETURNED if gave_up else Assignment.State.DONE, now=now)
