"""What a labeler does to one solution: acts, one by one or in batches, and the submit that ends it. Every act and every
submit carries a client-made id and may be repeated. Acts are only appended; what they amount to is computed by
`annotator.protocol` and written as ratings when the labeling is submitted, and again when it is corrected."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import BigIntegerField, UUIDField
from django.utils import timezone

from annotator.actions.audit import record
from annotator.actions.filing import file_reports
from annotator.actions.frontier import is_coming, want_candidates
from annotator.actions.outcome import write_outcome
from annotator.actions.queue import end_assignment, take_permit_back
from annotator.compiled import Compiled
from annotator.errors import Conflict, Invalid
from annotator.models import Assignment, Completion, Labeling, RatingEvent, Solution, User
from annotator.protocol import NOT_NEEDED, Act, Fold, Item, Said, finish_reason, may_write, missing, walk
from annotator.queries.items import ACT_KINDS, Tree, act_of, rules_of
from prm_backend.types import FinishReason

State = Labeling.State
# Many times what a long solution needs; every act is checked against all before it.
MOST_EVENTS = 2000
Kind = RatingEvent.Kind
REASONED = (FinishReason.GIVE_UP, FinishReason.BAD_PROBLEM)
# A lease is written again when this share of it is used up: not with every key press.
RENEW_AFTER = 0.25
MISSING = {
    "ratings": "Find the first bad step, or rate everything that is asked.",
    "choice": "Several candidates are good: choose the one that continues.",
    "own_step": "No candidate is good: write the next step, or give up.",
    "progress": "Say how far the solution had come.",
    "critiques": "Rate what is said of the mistake; where nothing fits, say it yourself.",
    "alternatives": "Rate the alternative steps.",
}


@dataclass(frozen=True, slots=True)
class SubmitAct:
    """The end of a labeling. Times are in milliseconds, as the browser measured them; they are bounded here.
    `finish_reason` is blank where all targets of a targeted labeling are judged."""

    client_id: UUID
    finish_reason: str
    reason: str = ""
    comment: str = ""
    answer_report: str = ""
    wall_ms: int = 0
    active_ms: int = 0


@dataclass
class Session:
    """A locked assignment with everything said of it so far, in memory."""

    assignment: Assignment
    labeling: Labeling | None
    events: list[RatingEvent]
    tree: Tree
    item: Item
    news: list[RatingEvent] = field(default_factory=list)
    written: dict[str, Completion] = field(default_factory=dict)

    @property
    def acts(self) -> list[Act]:
        return [act_of(event) for event in [*self.events, *self.news] if event.kind in ACT_KINDS]

    @property
    def active_ms(self) -> int:
        return sum(event.active_ms for event in [*self.events, *self.news])


@transaction.atomic
def store_acts(assignment: Assignment, acts: Sequence[Act]) -> Session:
    """Append acts, all of them or none. Raises `Invalid` or `Conflict` for the first that does not fit."""
    session = _open(assignment)
    now = timezone.now()
    said = _hear(session, acts, now)
    if session.news:
        labeling = session.labeling or _draft(session.assignment)
        if labeling._state.adding:
            labeling.save(force_insert=True)
        _append(labeling, session.news)
        session.labeling = labeling
        want_candidates(session.assignment, session.item, said, session.tree.own)
    if session.assignment.state == Assignment.State.ACTIVE and _is_to_be_renewed(session.assignment, now):
        Assignment.objects.filter(pk=assignment.pk).update(lease_until=now + session.assignment.campaign.lease)
    return session


@transaction.atomic
def submit_labeling(assignment: Assignment, submit: SubmitAct, acts: Sequence[Act] = ()) -> Labeling:
    """End a labeling, after appending acts that have not arrived yet; or correct a submitted one, within the campaign's
    window. Repeating it under the same client id returns the same labeling. A submit after the lease ran out counts if
    its permit is still free, else it is kept as surplus, outside k and outside training."""
    session = _open(assignment, with_problem=submit.finish_reason == FinishReason.BAD_PROBLEM)
    for event in session.events:
        if event.client_id == submit.client_id and event.kind == Kind.SUBMIT:
            assert session.labeling is not None
            return session.labeling
    if str(submit.client_id) in {act.client_id for act in [*session.acts, *acts]}:
        raise Invalid("id_taken", "A submit has a client id of its own.")
    now = timezone.now()
    said = _hear(session, acts, now)
    _check_end(session, said, submit)
    labeling = session.labeling or _draft(session.assignment)
    is_correction = labeling.state != State.DRAFT
    if is_correction and not _says_something_new(session, labeling, submit):
        raise Conflict("already_submitted", "This solution has been submitted.")
    if not is_correction:
        _end(session.assignment, labeling, submit, now)
    _describe(labeling, session, said, submit, now)
    labeling.save(force_insert=labeling._state.adding)
    _append(labeling, [*session.news, _submit_event(submit, labeling.active_ms - session.active_ms, now)])
    write_outcome(labeling, session.item, said, session.tree, again=is_correction)
    file_reports(labeling, session.item, said)
    return labeling


@transaction.atomic
def withdraw_labeling(labeling: Labeling, *, actor: User, reason: str) -> None:
    """A manager takes a submitted labeling out of everything; it is kept, and its permit is free again for somebody
    else. Raises `Conflict` where there is nothing to withdraw."""
    assignment = labeling.assignment
    if labeling.import_run_id is not None:
        raise Conflict("imported", "An imported labeling goes with its import: undo that.")
    if assignment is not None:
        assignment = Assignment.objects.select_for_update(of=("self",)).select_related("campaign").get(pk=assignment.pk)
    changed = Labeling.objects.filter(pk=labeling.pk, state__in=[State.SUBMITTED, State.SURPLUS]).update(
        state=State.WITHDRAWN
    )
    if not changed:
        raise Conflict("not_submitted", "Only a submitted labeling can be withdrawn.")
    labeling.state = State.WITHDRAWN
    if assignment is not None and assignment.state == Assignment.State.DONE:
        end_assignment(assignment, Assignment.State.SKIPPED, now=timezone.now())
    RatingEvent.objects.create(labeling=labeling, client_id=uuid4(), kind=Kind.WITHDRAW, text=reason)
    record(
        "withdraw labeling",
        campaign=labeling.campaign,
        actor=actor,
        subject=f"labeling {labeling.pk}",
        reason=reason,
    )


# --- Reading ---------------------------------------------------------------------------------------------------------


def _lock(*columns: str) -> Compiled:
    rows = Assignment.objects.select_for_update(no_key=True)
    return Compiled(lambda pk: rows.filter(pk=pk).values_list("state", "lease_until", *columns), UUIDField())


_LOCK, _LOCK_WITH_PROBLEM = _lock(), _lock("problem__is_held")
_LABELING = Compiled(lambda assignment: Labeling.objects.filter(assignment=assignment), UUIDField())
_EVENTS = Compiled(lambda labeling: RatingEvent.objects.filter(labeling=labeling).order_by("id"), BigIntegerField())


def _open(assignment: Assignment, *, with_problem: bool = False) -> Session:
    """Lock the assignment, then read what has been said: in a statement of its own, since what waited for the lock
    would see the world from before. `with_problem` locks its problem too."""
    lock = _LOCK_WITH_PROBLEM if with_problem else _LOCK
    assignment.state, assignment.lease_until, *_ = lock.first(assignment.pk)
    labeling: Labeling | None = _LABELING.first(assignment.pk)
    events: list[RatingEvent] = _EVENTS.all(labeling.pk) if labeling else []
    tree = Tree(assignment, events, texts=False)
    return Session(assignment, labeling, events, tree, tree.item())


def _check_open(session: Session) -> None:
    labeling, assignment = session.labeling, session.assignment
    if labeling and labeling.state == State.WITHDRAWN:
        raise Conflict("withdrawn", "A manager has withdrawn this labeling.")
    if assignment.state == Assignment.State.SKIPPED:
        raise Conflict("returned", "You gave this solution back.")
    if labeling and labeling.state != State.DRAFT:
        assert labeling.submitted_at is not None
        if timezone.now() > labeling.submitted_at + assignment.campaign.correction_window:
            raise Conflict(
                "too_late_to_correct",
                f"It was submitted, and could be corrected for {assignment.campaign.correction_hours} hours.",
            )


def _is_to_be_renewed(assignment: Assignment, now: datetime.datetime) -> bool:
    """Nothing is kept reserved for somebody, or in a campaign, that is paused."""
    campaign = assignment.campaign
    is_used = assignment.lease_until - now < campaign.lease * (1 - RENEW_AFTER)
    return is_used and campaign.is_open_for_labeling and assignment.membership.may_label


# --- Appending -------------------------------------------------------------------------------------------------------


def _hear(session: Session, acts: Sequence[Act], now: datetime.datetime) -> Said:
    """Check the acts that are new against what was said before, and keep them as events to be appended. Returns what
    all acts amount to."""
    known = {str(event.client_id) for event in session.events}
    news: list[Act] = []
    for act in acts:
        if act.client_id not in known:
            known.add(act.client_id)
            news.append(act)
    if news:
        _check_open(session)
    if len(session.events) + len(news) > MOST_EVENTS:
        raise Conflict("too_many_acts", f"A labeling has at most {MOST_EVENTS} acts.")
    folded = Fold(session.item)
    for act in session.acts:
        folded.add(act)
    allowance = _unspent(session, now)
    for act in news:
        completion = act.completion
        if act.kind == Kind.WRITE:
            completion = _write_step(session, folded.said, act).pk if act.text.strip() else None
        folded.add(act)
        active_ms = min(max(act.active_ms, 0), allowance)
        allowance -= active_ms
        session.news.append(_event_of(act, completion, active_ms, now))
    return folded.said


def _event_of(act: Act, completion: int | None, active_ms: int, now: datetime.datetime) -> RatingEvent:
    return RatingEvent(
        client_id=UUID(act.client_id),
        kind=act.kind,
        completion_id=completion,
        critique_id=act.critique,
        value=act.value,
        flagged=act.flagged,
        text=act.text,
        undoes=UUID(act.undoes) if act.undoes else None,
        active_ms=active_ms,
        wall_ms=max(act.wall_ms, active_ms),
        at=now,
    )


def _append(labeling: Labeling, events: list[RatingEvent]) -> None:
    for event in events:
        event.labeling = labeling
    RatingEvent.objects.bulk_create(events)


def _draft(assignment: Assignment) -> Labeling:
    return Labeling(
        assignment=assignment,
        campaign=assignment.campaign,
        solution_id=assignment.solution_id,
        membership=assignment.membership,
        guideline_id=assignment.membership.guideline_id or assignment.campaign.guideline_id,
        scope=Labeling.Scope.TARGETED if rules_of(assignment)["targets"] else Labeling.Scope.WHOLE,
        started_at=assignment.created_at,
    )


def _unspent(session: Session, now: datetime.datetime) -> int:
    """Milliseconds since the claim that no act has counted as active yet: nobody works longer than the clock runs."""
    elapsed = int((now - session.assignment.created_at).total_seconds() * 1000)
    return max(elapsed - sum(event.active_ms for event in session.events), 0)


def _write_step(session: Session, before: Said, act: Act) -> Completion:
    """The labeler's own step as a completion, so that what follows it has a parent."""
    if not may_write(session.item, before):
        raise Conflict("not_needed", NOT_NEEDED)
    stages = walk(session.item, before)
    step = stages[-1].step
    parent = stages[-2].next if step else None
    if isinstance(parent, str):
        parent = next(key for key, own in session.tree.own.items() if own == parent)
    if is_coming(session.assignment.solution_id, parent):
        raise Conflict("candidates_coming", "Candidates for this step are on their way.")
    # Two writers, of whom one may be a worker with candidates, may not choose the same next index.
    Solution.objects.select_for_update(no_key=True).get(pk=session.assignment.solution_id)
    siblings = Completion.objects.filter(solution=session.assignment.solution_id, parent=parent)
    last = siblings.order_by("-completion_index").values_list("completion_index", flat=True).first()
    made = Completion.objects.create(
        solution_id=session.assignment.solution_id,
        parent_id=parent,
        step_index=step,
        # Index 0 stays free for the model's first candidate.
        completion_index=1 if last is None else last + 1,
        text=act.text.strip(),
        source=Completion.Source.HUMAN,
    )
    session.tree.own[made.pk] = act.client_id
    session.tree.step_of[act.client_id] = step
    session.written[act.client_id] = made
    return made


# --- Ending ----------------------------------------------------------------------------------------------------------


def _check_end(session: Session, said: Said, submit: SubmitAct) -> None:
    """A labeling ends as what its ratings say, or with a reason in words."""
    _check_open(session)
    is_correction = session.labeling is not None and session.labeling.state != State.DRAFT
    if submit.finish_reason in REASONED:
        if is_correction and submit.finish_reason == FinishReason.GIVE_UP:
            raise Conflict("already_submitted", "A submitted labeling can be corrected, not given up.")
        if not submit.reason.strip():
            raise Invalid("reason_missing", "Say in a few words why.")
        return
    open_questions = missing(session.item, said)
    if open_questions:
        raise Invalid(f"{open_questions[0]}_missing", MISSING[open_questions[0]])
    expected = finish_reason(session.item, said)
    if submit.finish_reason != expected:
        raise Invalid(
            "wrong_finish_reason",
            f"These ratings end as {expected or 'blank'}, not as {submit.finish_reason or 'blank'}.",
        )


def _says_something_new(session: Session, labeling: Labeling, submit: SubmitAct) -> bool:
    submitted = [index for index, event in enumerate(session.events) if event.kind == Kind.SUBMIT]
    acts_since = session.events[submitted[-1] + 1 :] if submitted else []
    if acts_since or session.news:
        return True
    words = (submit.finish_reason, submit.reason.strip(), submit.comment.strip(), submit.answer_report.strip())
    return words != (labeling.finish_reason, labeling.reason, labeling.comment, labeling.answer_report)


def _end(assignment: Assignment, labeling: Labeling, submit: SubmitAct, now: datetime.datetime) -> None:
    """The assignment's side of a first submit."""
    labeling.submitted_at = now
    labeling.generation_number = assignment.item.generation.number if assignment.campaign.phase == 2 else None
    labeling.verifier_score = assignment.item.solution_score
    if assignment.state == Assignment.State.ACTIVE or take_permit_back(assignment.item):
        labeling.state = State.SUBMITTED
        gave_up = submit.finish_reason == FinishReason.GIVE_UP
        end = Assignment.State.SKIPPED if gave_up else Assignment.State.DONE
        end_assignment(assignment, end, now=now, gave_up=gave_up)
    else:
        labeling.state = State.SURPLUS
        Assignment.objects.filter(pk=assignment.pk).update(state=Assignment.State.LATE, ended_at=now)


def _describe(labeling: Labeling, session: Session, said: Said, submit: SubmitAct, now: datetime.datetime) -> None:
    labeling.revision += 1
    labeling.finish_reason = submit.finish_reason
    labeling.reason, labeling.comment = submit.reason.strip(), submit.comment.strip()
    labeling.answer_report = submit.answer_report.strip()
    labeling.progress, labeling.own_critique = said.progress, said.own_critique
    _time(labeling, session, submit, now)


def _time(labeling: Labeling, session: Session, submit: SubmitAct, now: datetime.datetime) -> None:
    """Wall and active time in all, as the page measured them. What this submit adds is bounded by the time since the
    submit before, or the claim; where the page says nothing, the acts do."""
    last = max((index for index, event in enumerate(session.events) if event.kind == Kind.SUBMIT), default=None)
    start = labeling.started_at if last is None else session.events[last].at
    recent = [*session.events[0 if last is None else last + 1 :], *session.news]
    wall_before, active_before = (0, 0) if last is None else (labeling.wall_ms, labeling.active_ms)
    elapsed = int((now - start).total_seconds() * 1000)
    counted = sum(event.active_ms for event in recent)
    wall = submit.wall_ms - wall_before
    if wall <= 0:
        wall = elapsed if last is None else sum(event.wall_ms for event in recent)
    wall = min(max(wall, counted), elapsed)
    labeling.wall_ms = wall_before + wall
    labeling.active_ms = active_before + min(max(submit.active_ms - active_before, counted), wall)


def _submit_event(submit: SubmitAct, active_ms: int, now: datetime.datetime) -> RatingEvent:
    """`active_ms` is what no act has counted."""
    return RatingEvent(
        client_id=submit.client_id, kind=Kind.SUBMIT, text=submit.finish_reason, active_ms=max(active_ms, 0), at=now
    )
