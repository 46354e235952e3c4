"""Where a labeling has come to a place without candidates, ask for them. A worker fetches what is asked for, and the
page goes on when it comes (`annotator.candidates`)."""

from __future__ import annotations

from collections.abc import Mapping

from annotator.actions.candidates import request_candidates, retry_request
from annotator.errors import Conflict
from annotator.models import Assignment, Campaign, CandidateRequest, Completion
from annotator.protocol import Item, Node, Said, walk
from annotator.queries.candidates import waiting_for
from annotator.queries.items import Tree

Kind = CandidateRequest.Kind


def want_candidates(assignment: Assignment, item: Item, said: Said, own: Mapping[int, str]) -> None:
    """Request what the labeler will need next, unless it is there or has been requested: in phase 1 the candidates of
    the step reached, in phase 2 alternatives and critiques of the first error. `own` names the labeler's written steps
    by their completions."""
    campaign = assignment.campaign
    if campaign.candidate_source == Campaign.CandidateSource.IMPORTED:
        return
    if item.phase == Campaign.Phase.CHOOSE:
        stages = walk(item, said)
        last = stages[-1]
        parent: Node = stages[-2].next if len(stages) > 1 else None
        if not last.shown and last.next is None and not item.children.get(parent):
            _request(assignment, _row(parent, own), Kind.STEPS)
        return
    error = item.first_error(said)
    if error is None or item.targets is not None:
        return
    if item.ask_alternatives != "off" and not item.alternatives(error):
        _request(assignment, item.path[error - 1] if error else None, Kind.STEPS)
    if item.ask_critiques != "off" and not item.critiques.get(item.path[error]):
        _request(assignment, item.path[error], Kind.CRITIQUES)


def _request(assignment: Assignment, parent_id: int | None, kind: CandidateRequest.Kind) -> None:
    parent = Completion.objects.get(pk=parent_id) if parent_id else None
    request_candidates(assignment.solution, parent, kind)


def is_coming(solution_id: int, parent_id: int | None) -> bool:
    """Whether steps that follow this completion are being fetched, and are not overdue."""
    wanted = {"parent": parent_id, "kind": Kind.STEPS, "state": "coming"}
    return any(wanted.items() <= entry.items() for entry in waiting_for(solution_id))


def retry_candidates(assignment: Assignment) -> None:
    """Ask again for everything of this solution that could not be fetched, for the one who is at it."""
    if assignment.state != Assignment.State.ACTIVE:
        raise Conflict("not_active", "This solution is no longer reserved for you.")
    failed = CandidateRequest.objects.filter(solution=assignment.solution_id, state=CandidateRequest.State.FAILED)
    for request in failed:
        retry_request(request)


def want_first_candidates(assignment: Assignment) -> None:
    """A solution that starts as a bare problem needs candidates before anybody can say anything."""
    if assignment.campaign.candidate_source != Campaign.CandidateSource.IMPORTED:
        tree = Tree(assignment, texts=False)
        want_candidates(assignment, tree.item(), Said(), tree.own)


def _row(node: Node, own: Mapping[int, str]) -> int | None:
    """The completion behind a node."""
    return next(key for key, name in own.items() if name == node) if isinstance(node, str) else node
