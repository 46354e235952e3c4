"""The life of a request for candidates: asked for while somebody labels, taken by a worker under a lease, ended with
what came or with a sentence that says why nothing did.

A worker owns a request while the end of its lease is the one in the row; who finds the lease run out may take it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from django.db import transaction
from django.db.models import F, Max, Q
from django.utils import timezone

from annotator.candidates import source_of
from annotator.dispatch import send_candidates
from annotator.models import CandidateRequest, Completion, Critique, Solution
from annotator.queries.candidates import lease_length, present

State = CandidateRequest.State
MAX_ATTEMPTS = CandidateRequest.MAX_ATTEMPTS
NOTHING_NEW = "The model wrote nothing that could be used."
NEVER_FINISHED = f"The worker stopped {MAX_ATTEMPTS} times while it asked the model; see its log."


@transaction.atomic
def request_candidates(
    solution: Solution, parent: Completion | None, kind: CandidateRequest.Kind
) -> CandidateRequest | None:
    """Ask the model, once, for the steps that follow `parent` (None: for first steps), or for critiques of `parent`.
    None where nothing is to be asked: the campaign's candidates came with the import, what is asked for is there, or
    `parent` gives the final answer. A request that failed stays failed until `retry_request`."""
    if not source_of(solution.campaign).can_be_asked:
        return None
    if kind == CandidateRequest.Kind.STEPS and parent is not None and parent.is_final:
        return None
    if present(solution, parent, kind).exists():
        return None
    request, created = CandidateRequest.objects.get_or_create(
        solution=solution, parent=parent, kind=kind, defaults={"campaign": solution.campaign}
    )
    if created:
        transaction.on_commit(lambda: send_candidates(request))
    return request


@transaction.atomic
def retry_request(request: CandidateRequest) -> bool:
    """Ask again after a failure; False where the request is under way or done."""
    again = CandidateRequest.objects.filter(pk=request.pk, state=State.FAILED).update(
        state=State.QUEUED, attempt=0, error="", finished_at=None, sent_at=None, created_at=timezone.now()
    )
    if again:
        transaction.on_commit(lambda: send_candidates(request))
    return bool(again)


@transaction.atomic
def take_request(pk: int) -> CandidateRequest | None:
    """Take the lease of a waiting or abandoned request; None where there is nothing to take."""
    now = timezone.now()
    free = Q(state=State.QUEUED) | Q(state=State.RUNNING, lease_until__lte=now)
    taken = CandidateRequest.objects.filter(free, pk=pk, attempt__lt=MAX_ATTEMPTS).update(
        state=State.RUNNING, attempt=F("attempt") + 1, lease_until=now + lease_length()
    )
    rows = CandidateRequest.objects.select_related("campaign", "solution__campaign", "solution__problem", "parent")
    return rows.get(pk=pk) if taken else None


def _end(request: CandidateRequest, state: CandidateRequest.State, error: str = "") -> bool:
    """End the request, if its lease is still ours. Its row is locked from here to the end of the transaction."""
    owned = CandidateRequest.objects.filter(pk=request.pk, state=State.RUNNING, lease_until=request.lease_until)
    return bool(owned.update(state=state, error=error[:300], lease_until=None, finished_at=timezone.now()))


@transaction.atomic
def store_candidates(request: CandidateRequest, texts: Sequence[str]) -> None:
    """End the request with these steps after its parent; of a ready solution they stand beside its own step. Nothing is
    written where another worker has the request, or where the model's steps have come from elsewhere."""
    solution, parent = request.solution, request.parent
    if not _end(request, State.DONE):
        return
    Solution.objects.select_for_update(no_key=True).get(
        pk=solution.pk
    )  # two writers may not choose the same next index
    if present(solution, parent, request.kind).exists():
        return
    siblings = Completion.objects.filter(solution=solution, parent=parent)
    last = siblings.aggregate(last=Max("completion_index"))["last"]
    original = siblings.filter(source=Completion.Source.MODEL).values_list("text", flat=True)
    first = 0 if last is None else last + 1
    Completion.objects.bulk_create(
        Completion(
            solution=solution,
            parent=parent,
            step_index=0 if parent is None else parent.step_index + 1,
            completion_index=index,
            text=text,
        )
        for index, text in enumerate(_news(texts, original), start=first)
    )


@transaction.atomic
def store_critiques(request: CandidateRequest, texts: Sequence[str]) -> None:
    """End the request with these critiques of its completion, unless the model's have come from elsewhere."""
    if not _end(request, State.DONE) or present(request.solution, request.parent, request.kind).exists():
        return
    assert request.parent is not None, "critiques are of a completion"
    known = Critique.objects.select_for_update().filter(completion=request.parent)
    last = max((critique.position for critique in known), default=-1)
    Critique.objects.bulk_create(
        Critique(completion=request.parent, position=position, text=text)
        for position, text in enumerate(_news(texts, [critique.text for critique in known]), start=last + 1)
    )


def _news(texts: Iterable[str], known: Iterable[str]) -> list[str]:
    """The texts that, but for white space, are not known."""
    there = {" ".join(text.split()) for text in known}
    return [text for text in texts if " ".join(text.split()) not in there]


def fail_request(request: CandidateRequest, message: str) -> None:
    """End the request with a sentence for the labeler; it can be tried again."""
    _end(request, State.FAILED, message)


def release_request(request: CandidateRequest, message: str) -> None:
    """Give the request back after a fault of ours: it is tried again until its attempts are used up."""
    if request.attempt >= MAX_ATTEMPTS:
        fail_request(request, message)
        return
    CandidateRequest.objects.filter(pk=request.pk, state=State.RUNNING, lease_until=request.lease_until).update(
        state=State.QUEUED, lease_until=None
    )


@transaction.atomic
def sweep_requests(*, resend_after: datetime.timedelta = datetime.timedelta(seconds=30)) -> list[CandidateRequest]:
    """End what has used up its attempts, and return what needs a new wake-up: waiting for a while, or left behind by a
    worker that stopped."""
    now = timezone.now()
    silent = Q(state=State.RUNNING, lease_until__lte=now)
    CandidateRequest.objects.filter(silent, attempt__gte=MAX_ATTEMPTS).update(
        state=State.FAILED, error=NEVER_FINISHED, finished_at=now, lease_until=None
    )
    unsent = Q(sent_at=None) | Q(sent_at__lte=now - resend_after)
    return list(CandidateRequest.objects.filter(silent | Q(state=State.QUEUED), unsent).order_by("id"))
