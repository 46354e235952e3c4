"""The cast of the tests: a campaign, its people, and solutions that come in through the real importer."""

from __future__ import annotations

import io
import itertools
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.utils import timezone

from annotator.actions.campaigns import create_campaign
from annotator.actions.imports import start_import
from annotator.actions.labeling import SubmitAct, store_acts, submit_labeling
from annotator.dispatch import run_here
from annotator.models import Assignment, Campaign, Completion, ImportRun, Job, Labeling, Membership, User
from annotator.protocol import Act, Said, fold
from annotator.queries.items import ACT_KINDS, Tree, act_of
from prm_backend.types import FinishReason, split_of_problem

Role = Membership.Role


def make_campaign(slug: str = "algebra", **fields: Any) -> Campaign:
    return create_campaign(actor=None, slug=slug, name=slug.title(), **fields)


def make_user(username: str) -> User:
    return User.objects.create_user(username=username, email=f"{username}@example.org", password="correct horse")


def make_member(campaign: Campaign, username: str, role: Membership.Role = Role.LABELER) -> Membership:
    """Somebody who knows the page: the tutorial does not come."""
    return Membership.objects.create(
        campaign=campaign,
        user=make_user(username),
        role=role,
        guideline=campaign.guideline,
        tutorial_done_at=timezone.now(),
    )


def problem_texts(split: str, count: int) -> list[str]:
    """Texts whose hash puts them into a split."""
    texts = (f"What is {number} plus 1?" for number in itertools.count())
    return list(itertools.islice((text for text in texts if split_of_problem(text) == split), count))


def simple_row(
    problem: str, steps: Sequence[str] = ("First step.", "Second step.", "So the answer is 2."), **more: Any
) -> dict[str, Any]:
    return {"problem": problem, "ground_truth_answer": "2", "steps": list(steps), **more}


def import_file(campaign: Campaign, content: bytes, *, labels: str = "", format: str = "auto") -> ImportRun:
    """Bring a file in as a worker would; the run's state and report tell what became of it."""
    run = start_import(
        campaign,
        actor=None,
        upload=io.BytesIO(content),
        file_name="rows.jsonl",
        format=format,
        labels=labels,
        wake=False,
    )
    run_here(Job.objects.get(kind=Job.Kind.IMPORT, params__import_run=run.pk))
    run.refresh_from_db()
    return run


def import_rows(
    campaign: Campaign, rows: Iterable[dict[str, Any]], *, labels: str = "", format: str = "auto"
) -> ImportRun:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return import_file(campaign, content, labels=labels, format=format)


def fill_pool(campaign: Campaign, *, train: int = 3, validation: int = 0, test: int = 0) -> None:
    """Three-step solutions of distinct problems of each split."""
    counts = {"train": train, "validation": validation, "test": test}
    import_rows(campaign, [simple_row(text) for split, count in counts.items() for text in problem_texts(split, count)])


def path_of(assignment: Assignment) -> list[Completion]:
    return list(Completion.objects.filter(solution=assignment.solution, completion_index=0).order_by("step_index"))


def rating(completion: Completion, value: int | None, **more: Any) -> Act:
    return act("rate", completion=completion.pk, value=value, **more)


def act(kind: str, **more: Any) -> Act:
    return Act(client_id=str(uuid.uuid4()), kind=kind, **more)


def rate(assignment: Assignment, *ratings: Act) -> Labeling:
    """Store acts; gives the draft."""
    labeling = store_acts(assignment, ratings).labeling
    assert labeling is not None
    return labeling


def said_of(assignment: Assignment) -> Said:
    """What the stored acts amount to."""
    current = Assignment.objects.select_related("membership", "campaign", "item").get(pk=assignment.pk)
    labeling = Labeling.objects.filter(assignment=current).first()
    events = list(labeling.events.filter(kind__in=ACT_KINDS)) if labeling else []
    return fold(Tree(current, events).item(), [act_of(event) for event in events])


def values_of(assignment: Assignment) -> list[int]:
    """The ratings of the ready solution, step by step."""
    ratings = said_of(assignment).ratings
    return [ratings[step.pk].value for step in path_of(assignment) if step.pk in ratings]


def ending(finish_reason: str, **more: Any) -> SubmitAct:
    return SubmitAct(client_id=uuid.uuid4(), finish_reason=finish_reason, **more)


def label(assignment: Assignment, values: Sequence[int], **more: Any) -> Labeling:
    """Rate the first steps with these values and submit."""
    reason = FinishReason.FOUND_ERROR if -1 in values else FinishReason.SOLUTION
    acts = [rating(completion, value) for completion, value in zip(path_of(assignment), values, strict=False)]
    return submit_labeling(assignment, ending(reason, **more), acts)
