"""A solution as its labeler is asked about it: the tree of completions, for the protocol and for the page. Nothing in
it says what the labeler must not know: no score, no arm, no gold, no other labeler."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, cast

from django.db.models import Exists, OuterRef
from django.urls import reverse
from django.utils import timezone

from annotator.models import (
    Assignment,
    Attachment,
    Campaign,
    Completion,
    Critique,
    ImportRun,
    Labeling,
    QueueItem,
    RatingEvent,
    Solution,
)
from annotator.protocol import Act, Candidate, FollowUp, Item, Node
from annotator.queries.candidates import waiting_for

# What the page replays. A submit is no act: what follows it is a correction.
ACT_KINDS = [kind for kind in RatingEvent.Kind if kind not in (RatingEvent.Kind.SUBMIT, RatingEvent.Kind.WITHDRAW)]


def draw_of(assignment: Assignment, completion_id: int) -> float:
    """A number in [0, 1) that orders the + candidates of a step where a draw chooses what continues."""
    return int(hashlib.sha256(f"{assignment.pk}:{completion_id}".encode()).hexdigest()[:13], 16) / 16**13


class Tree:
    """The completions of an assignment's solution, as far as its labeler may see them: the model's, and the steps that
    this labeler wrote. A written step is named by the client id of its act."""

    def __init__(self, assignment: Assignment, events: Iterable[RatingEvent], *, texts: bool = True) -> None:
        self.assignment = assignment
        self.own = {
            event.completion_id: str(event.client_id)
            for event in events
            if event.kind == RatingEvent.Kind.WRITE and event.completion_id
        }
        campaign = assignment.campaign
        rows = Completion.objects.filter(solution=assignment.solution_id).order_by("step_index", "completion_index")
        if not texts and campaign.phase == Campaign.Phase.JUDGE:
            rows = rows.defer("text")  # whether a step is final matters in phase 1 only
        self.rows: list[Completion] = []
        self.step_of: dict[Node, int] = {None: -1}
        for row in rows:
            if row.source != Completion.Source.MODEL and row.pk not in self.own:
                continue  # somebody else's own step
            if self.step_of.get(self.parent(row)) == row.step_index - 1:
                self.step_of[self.node(row)] = row.step_index
                self.rows.append(row)

    def node(self, row: Completion) -> int | str:
        return self.own.get(row.pk, row.pk)

    def parent(self, row: Completion) -> Node:
        return self.own.get(row.parent_id, row.parent_id) if row.parent_id else None

    def critiques(self) -> list[Critique]:
        if self.assignment.campaign.critiques == Campaign.FollowUp.OFF:
            return []
        return list(Critique.objects.filter(completion__solution=self.assignment.solution_id).order_by("position"))

    def item(self) -> Item:
        """What the protocol is about."""
        campaign = self.assignment.campaign
        in_phase_1 = campaign.phase == Campaign.Phase.CHOOSE
        children: dict[Node, list[Candidate]] = {}
        for row in self.rows:
            if row.pk not in self.own:
                candidate = (
                    Candidate(row.pk, draw_of(self.assignment, row.pk), row.is_final)
                    if in_phase_1
                    else Candidate(row.pk)
                )
                children.setdefault(self.parent(row), []).append(candidate)
        critiques: dict[int, list[int]] = {}
        for critique in self.critiques():
            critiques.setdefault(critique.completion_id, []).append(critique.pk)
        targets = self.assignment.item.target_steps
        return Item(
            phase=campaign.phase,
            children=children,
            critiques=critiques,
            targets=tuple(targets) if targets else None,
            always_grid=campaign.always_grid,
            continue_by_draw=campaign.continue_by == Campaign.ContinueBy.DRAW,
            candidates_shown=campaign.candidates_shown,
            ask_progress=cast(FollowUp, campaign.progress),
            ask_critiques=cast(FollowUp, campaign.critiques),
            ask_alternatives=cast(FollowUp, campaign.alternatives),
        )


def act_of(event: RatingEvent) -> Act:
    return Act(
        client_id=str(event.client_id),
        kind=event.kind,
        completion=event.completion_id,
        critique=event.critique_id,
        value=event.value,
        flagged=event.flagged,
        text=event.text,
        undoes=str(event.undoes) if event.undoes else None,
        active_ms=event.active_ms,
        wall_ms=event.wall_ms,
    )


def item_payload(assignment: Assignment, labeling: Labeling | None) -> dict[str, Any]:
    """Everything that the page needs to show a solution and to go on where its labeler stopped. `labeling` is None
    where nothing has been said yet."""
    events = list(labeling.events.filter(kind__in=ACT_KINDS)) if labeling else []
    pictures = Attachment.objects.filter(problem=OuterRef("problem"))
    # One query for the item, its solution and its problem.
    item = (
        QueueItem.objects.select_related("solution__problem")
        .annotate(has_pictures=Exists(pictures))
        .get(pk=assignment.item_id)
    )
    assignment.item = item
    return _payload(assignment, item, labeling, events)


def _payload(
    assignment: Assignment, item: QueueItem, labeling: Labeling | None, events: list[RatingEvent]
) -> dict[str, Any]:
    campaign = assignment.campaign
    tree = Tree(assignment, events)
    targets = item.target_steps
    return {
        "assignment": str(assignment.pk),
        "state": assignment.state,
        "ahead": assignment.ahead,
        "revision": labeling.revision if labeling else 0,
        "lease_until": assignment.lease_until.isoformat(),
        "protocol": protocol_payload(campaign, targets),
        "problem": _problem(campaign, item),
        "completions": [_completion(tree, row) for row in tree.rows],
        "targets": targets or None,
        "critiques": [
            {"id": critique.pk, "completion": critique.completion_id, "text": critique.text}
            for critique in tree.critiques()
        ],
        "waiting": waiting(assignment, tree),
        "acts": [act_payload(event) for event in events],
        "active_ms": labeling.active_ms if labeling and labeling.revision else sum(e.active_ms for e in events),
        "wall_ms": labeling.wall_ms if labeling and labeling.revision else sum(e.wall_ms for e in events),
    }


def preview_payloads(campaign: Campaign, *, count: int = 3) -> list[dict[str, Any]]:
    """Some solutions of a campaign in the form of items, for somebody who looks at the page without labeling: those
    that come next in the queue, else the first that were imported. Nothing is claimed or stored."""
    visible = Solution.objects.filter(campaign=campaign, phase=campaign.phase, import_run__state=ImportRun.State.DONE)
    queued = QueueItem.objects.filter(campaign=campaign, retired=False).order_by("lane", "place")[:count]
    ids = list(queued.values_list("solution", flat=True)) or list(
        visible.order_by("pk").values_list("pk", flat=True)[:count]
    )
    payloads = []
    for solution in visible.filter(pk__in=ids).select_related("problem"):
        item = QueueItem.objects.filter(solution=solution, retired=False).first() or QueueItem(solution=solution)
        item.has_pictures = True  # type: ignore[attr-defined]  # asked, not annotated
        item.solution = solution
        assignment = Assignment(campaign=campaign, item=item, solution=solution, lease_until=timezone.now())
        payloads.append(_payload(assignment, item, None, []))
    return payloads


def protocol_payload(campaign: Campaign, targets: Sequence[int] | None) -> dict[str, Any]:
    return {
        "phase": campaign.phase,
        "scope": Campaign.Scope.TARGETED if targets else Campaign.Scope.WHOLE,
        "always_grid": campaign.always_grid,
        "continue_by": campaign.continue_by,
        "candidates": campaign.candidates_shown,
        "progress": campaign.progress,
        "critiques": campaign.critiques,
        "alternatives": campaign.alternatives,
    }


def waiting(assignment: Assignment, tree: Tree) -> list[dict[str, Any]]:
    """Candidates that a worker is fetching, or could not fetch."""
    if assignment.campaign.candidate_source == Campaign.CandidateSource.IMPORTED:
        return []
    found = waiting_for(assignment.solution_id)
    for entry in found:
        entry["parent"] = tree.own.get(entry["parent"], entry["parent"])
    return [entry for entry in found if entry["parent"] is None or entry["parent"] in tree.step_of]


def act_payload(event: RatingEvent) -> dict[str, Any]:
    """The act in its wire form: only the keys that its kind has."""
    act = act_of(event)
    keys = {
        RatingEvent.Kind.RATE: ("completion", "value", "flagged"),
        RatingEvent.Kind.CHOOSE: ("completion",),
        RatingEvent.Kind.WRITE: ("text",),
        RatingEvent.Kind.PROGRESS: ("value",),
        RatingEvent.Kind.CRITIQUE: ("critique", "value"),
        RatingEvent.Kind.OWN_CRITIQUE: ("text",),
        RatingEvent.Kind.UNDO: ("undoes",),
    }[RatingEvent.Kind(event.kind)]
    return {name: getattr(act, name) for name in ("client_id", "kind", *keys, "active_ms", "wall_ms")}


def _completion(tree: Tree, row: Completion) -> dict[str, Any]:
    return {
        "id": row.pk,
        "parent": tree.parent(row),
        "step": row.step_index,
        "index": row.completion_index,
        "text": row.text,
        "own": row.pk in tree.own,
        "draw": draw_of(tree.assignment, row.pk) if tree.assignment.campaign.phase == Campaign.Phase.CHOOSE else 0,
    }


def _problem(campaign: Campaign, item: QueueItem) -> dict[str, Any]:
    solution = item.solution
    problem = solution.problem
    shown = campaign.show_reference_answer
    pictures = problem.attachments.all() if item.has_pictures else []  # type: ignore[attr-defined]  # annotated
    return {
        "text": problem.text,
        "reference_answer": problem.answer if shown else None,
        # The page asks once more before a wrong answer ends as a right solution; no hint where the answer is hidden.
        "answer_differs": solution.answer_correct is False if shown and campaign.phase == 2 else None,
        "attachments": [
            {"name": picture.name, "url": reverse("attachment", args=[campaign.slug, picture.sha256])}
            for picture in pictures
        ],
    }
