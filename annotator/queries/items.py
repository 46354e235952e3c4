"""A solution as its labeler is asked about it: the tree of completions, for the protocol and for the page. Nothing in
it says what the labeler must not know: no score, no arm, no gold, no other labeler."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db.models import BigIntegerField, Exists, IntegerField, OuterRef, Value
from django.urls import reverse
from django.utils import timezone

from annotator.compiled import Compiled
from annotator.models import (
    Assignment,
    Attachment,
    Campaign,
    Completion,
    ImportRun,
    Labeling,
    QueueItem,
    RatingEvent,
    Solution,
)
from annotator.models.problem import answer_correct, ends_with_answer
from annotator.protocol import Act, Candidate, Item, Node
from annotator.queries.candidates import waiting_for

# What the page replays. A submit is no act: what follows it is a correction.
ACT_KINDS = [kind for kind in RatingEvent.Kind if kind not in (RatingEvent.Kind.SUBMIT, RatingEvent.Kind.WITHDRAW)]


def draw_of(assignment: Assignment, completion_id: int) -> float:
    """A number in [0, 1) that orders the + candidates of a step where a draw chooses what continues."""
    return int(hashlib.sha256(f"{assignment.pk}:{completion_id}".encode()).hexdigest()[:13], 16) / 16**13


def rules_of(assignment: Assignment) -> dict[str, Any]:
    """The rules that hold for this labeler and solution: those of the claim, which are those that the page shows, so
    that a manager's change of settings leaves no act that does not fit."""
    if assignment.rules is None:  # claimed before rules were kept, or a preview
        return assignment.campaign.rules() | {"targets": assignment.item.target_steps}
    return dict(assignment.rules)


class Row(NamedTuple):
    """A completion, as far as the protocol and the page need it."""

    pk: int
    parent: int | None
    step_index: int
    completion_index: int
    source: str
    text: str


class Tree:
    """The completions of an assignment's solution, as far as its labeler may see them: the model's, and the steps that
    this labeler wrote. A written step is named by the client id of its act. One query, with the critiques where the
    campaign asks for them; without `texts`, which most checks do not need, a lighter one."""

    def __init__(
        self,
        assignment: Assignment,
        events: Iterable[RatingEvent] = (),
        *,
        texts: bool = True,
    ) -> None:
        self.assignment = assignment
        self.rules = rules_of(assignment)
        self.own = {
            event.completion_id: str(event.client_id)
            for event in events
            if event.kind == RatingEvent.Kind.WRITE and event.completion_id
        }
        self.rows: list[Row] = []
        self.critiques: list[dict[str, Any]] = []
        self.step_of: dict[Node, int] = {None: -1}
        # Whether a step is final stands in its text, and matters in phase 1 only.
        critiques = self.rules["critiques"] != Campaign.FollowUp.OFF
        for row, critique in _read(assignment, texts=texts or self.in_phase_1, critiques=critiques):
            if row.source != Completion.Source.MODEL and row.pk not in self.own:
                continue  # somebody else's own step
            if self.step_of.get(self.parent(row)) != row.step_index - 1:
                continue
            if not self.rows or self.rows[-1].pk != row.pk:
                self.step_of[self.node(row)] = row.step_index
                self.rows.append(row)
            if critique is not None:
                self.critiques.append({"id": critique[0], "completion": row.pk, "text": critique[1]})

    @property
    def in_phase_1(self) -> bool:
        return bool(self.rules["phase"] == Campaign.Phase.CHOOSE)

    def node(self, row: Row) -> int | str:
        return self.own.get(row.pk, row.pk)

    def parent(self, row: Row) -> Node:
        return self.own.get(row.parent, row.parent) if row.parent else None

    def item(self) -> Item:
        """What the protocol is about."""
        children: dict[Node, list[Candidate]] = {}
        for row in self.rows:
            if row.pk not in self.own:
                final = self.in_phase_1 and ends_with_answer(row.text)
                draw = draw_of(self.assignment, row.pk) if self.in_phase_1 else 0.0
                children.setdefault(self.parent(row), []).append(Candidate(row.pk, draw, final))
        critiques: dict[int, list[int]] = {}
        for critique in self.critiques:
            critiques.setdefault(critique["completion"], []).append(critique["id"])
        rules = self.rules
        return Item(
            phase=rules["phase"],
            children=children,
            critiques=critiques,
            targets=tuple(rules["targets"]) if rules["targets"] else None,
            always_grid=rules["always_grid"],
            continue_by_draw=rules["continue_by"] == Campaign.ContinueBy.DRAW,
            candidates_shown=rules["candidates"],
            ask_progress=rules["progress"],
            ask_critiques=rules["critiques"],
            ask_alternatives=rules["alternatives"],
        )


def _read(assignment: Assignment, *, texts: bool, critiques: bool) -> Iterator[tuple[Row, tuple[int, str] | None]]:
    """The completions in reading order; one with several critiques comes once for each of them."""
    for *row, critique, text in _COMPLETIONS[texts, critiques].all(assignment.solution_id):
        yield Row(*row), None if critique is None else (critique, text)


def _completions(*, texts: bool, critiques: bool) -> Compiled:
    columns = ["pk", "parent", "step_index", "completion_index", "source", "text" if texts else Value("")]
    said = ["critiques", "critiques__text"] if critiques else [Value(None, IntegerField()), Value("")]
    order = ["step_index", "completion_index", "pk", *(["critiques__position"] if critiques else [])]
    return Compiled(
        lambda solution: Completion.objects.filter(solution=solution).order_by(*order).values_list(*columns, *said),
        BigIntegerField(),
    )


_COMPLETIONS = {
    (texts, critiques): _completions(texts=texts, critiques=critiques)
    for texts in (False, True)
    for critiques in (False, True)
}


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


class Question(NamedTuple):
    """What an item is about, in one query: the item's, its solution's and its problem's columns."""

    target_steps: list[int] | None
    graded_verdict: str
    source_verdict: str
    text: str
    reference_answer: str | None
    corrected_answer: str | None
    problem: int
    has_pictures: bool


_QUESTION = Compiled(
    lambda item: QueueItem.objects.filter(pk=item).values_list(
        "target_steps",
        "solution__graded_verdict",
        "solution__source_verdict",
        "problem__text",
        "problem__reference_answer",
        "problem__corrected_answer",
        "problem",
        Exists(Attachment.objects.filter(problem=OuterRef("problem"))),
    ),
    BigIntegerField(),
)


def item_payload(assignment: Assignment) -> dict[str, Any]:
    """Everything that the page needs to show a solution and to go on where its labeler stopped."""
    events, labeling = _heard(assignment)
    question = Question(*_QUESTION.first(assignment.item_id))
    assignment.item = QueueItem(pk=assignment.item_id, target_steps=question.target_steps)
    return _payload(assignment, question, labeling, events)


def _heard(assignment: Assignment) -> tuple[list[RatingEvent], Labeling | None]:
    """The acts of an assignment and their labeling, in one query; in none where it has only just been claimed."""
    related = Assignment.labeling.related
    if related.is_cached(assignment) and related.get_cached_value(assignment) is None:
        return [], None
    rows = RatingEvent.objects.filter(labeling__assignment=assignment.pk).select_related("labeling")
    labeling = [f"labeling__{name}" for name in ("revision", "active_ms", "wall_ms")]
    events = list(rows.only(*(field.attname for field in RatingEvent._meta.concrete_fields), *labeling).order_by("id"))
    return [event for event in events if event.kind in ACT_KINDS], events[0].labeling if events else None


def _payload(
    assignment: Assignment, question: Question, labeling: Labeling | None, events: list[RatingEvent]
) -> dict[str, Any]:
    tree = Tree(assignment, events)
    done = labeling if labeling and labeling.revision else None
    return {
        "assignment": str(assignment.pk),
        "state": assignment.state,
        "ahead": assignment.ahead,
        "revision": labeling.revision if labeling else 0,
        "lease_until": assignment.lease_until.isoformat(),
        "protocol": _protocol(tree.rules) | {"source": assignment.campaign.candidate_source},
        "problem": _problem(assignment.campaign, question),
        "completions": [_completion(tree, row) for row in tree.rows],
        "targets": tree.rules["targets"] or None,
        "critiques": tree.critiques,
        "waiting": waiting(assignment, tree),
        "acts": [act_payload(event) for event in events],
        "active_ms": done.active_ms if done else sum(event.active_ms for event in events),
        "wall_ms": done.wall_ms if done else sum(event.wall_ms for event in events),
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
        problem = solution.problem
        item = QueueItem.objects.filter(solution=solution, retired=False).first() or QueueItem(solution=solution)
        assignment = Assignment(campaign=campaign, item=item, solution=solution, lease_until=timezone.now())
        question = Question(
            item.target_steps,
            solution.graded_verdict,
            solution.source_verdict,
            problem.text,
            problem.reference_answer,
            problem.corrected_answer,
            problem.pk,
            has_pictures=True,
        )
        payloads.append(_payload(assignment, question, None, []))
    return payloads


def _protocol(rules: dict[str, Any]) -> dict[str, Any]:
    scope = Campaign.Scope.TARGETED if rules["targets"] else Campaign.Scope.WHOLE
    return {"scope": scope, **{name: value for name, value in rules.items() if name != "targets"}}


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


def _completion(tree: Tree, row: Row) -> dict[str, Any]:
    return {
        "id": row.pk,
        "parent": tree.parent(row),
        "step": row.step_index,
        "index": row.completion_index,
        "text": row.text,
        "own": row.pk in tree.own,
        "draw": draw_of(tree.assignment, row.pk) if tree.in_phase_1 else 0,
    }


def _problem(campaign: Campaign, question: Question) -> dict[str, Any]:
    shown = campaign.show_reference_answer
    corrected = question.corrected_answer
    verdict = answer_correct(question.graded_verdict, question.source_verdict)
    pictures = Attachment.objects.filter(problem=question.problem) if question.has_pictures else ()
    return {
        "text": question.text,
        "reference_answer": (question.reference_answer if corrected is None else corrected) if shown else None,
        # The page asks once more before a wrong answer ends as a right solution; no hint where the answer is hidden.
        "answer_differs": verdict is False if shown and campaign.phase == Campaign.Phase.JUDGE else None,
        "attachments": [
            {"name": picture.name, "url": reverse("attachment", args=[campaign.slug, picture.sha256])}
            for picture in pictures
        ],
    }
