"""A campaign played through by labelers who know the answers: the same actions, in a clone marked simulated.

It imports the same files into the clone, so that no simulated label can reach a real campaign, and it measures every
checkpoint in service on test problems, which are never served, trained on or pretrained on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotator import prm
from annotator.actions.campaigns import activate_campaign, create_campaign
from annotator.actions.imports import oracle_file, start_import, stored_file
from annotator.actions.labeling import SubmitAct, submit_labeling
from annotator.actions.pipeline import advance, new_labelings
from annotator.actions.queue import claim_next
from annotator.dispatch import run_here
from annotator.errors import Invalid
from annotator.models import Assignment, Campaign, Checkpoint, Completion, ImportRun, Job, Membership, Problem, User
from annotator.protocol import Act
from annotator.queries.labelings import audit_labelings, training_labelings
from annotator.queries.pool import visible_solutions
from prm_backend.errors import PrmError
from prm_backend.types import FinishReason, LabeledSolution, StepLabel

VALUE: dict[StepLabel, int] = {StepLabel.BAD: -1, StepLabel.NEUTRAL: 0, StepLabel.GOOD: 1, StepLabel.NOT_BAD: 1}
CLONED = (
    "name",
    "domain",
    "labelings_wanted",
    "generation_size",
    "audit_per_generation",
    "selection_policy",
    "retrain_after",
    "gate_policy",
    "backbone",
)


@dataclass(frozen=True, slots=True)
class GenerationReport:
    """The checkpoint in service at the end of a generation, on test problems: figures are None where too little is
    labeled. `labelings` counts those that trained, `judged_steps` their cost; the audit stream's stand beside."""

    number: int
    checkpoint: int
    labelings: int
    judged_steps: int
    audit_labelings: int
    verdict: str
    step_auroc: float | None
    f1: float | None


class SimulationError(PrmError):
    """A job of the simulated campaign failed, or nothing more can be labeled."""


def clone_for_simulation(campaign: Campaign, **changes: Any) -> Campaign:
    """A new campaign with the same settings, but for `changes`, and the same solutions, whose labels in the files only
    simulation can read.

    Raises `Invalid` where no file of the campaign came with labels for simulation."""
    runs = list(campaign.imports.filter(state=ImportRun.State.DONE, labels=ImportRun.Labels.ORACLE).order_by("pk"))
    if not runs:
        raise Invalid("no_oracle", f"No file of {campaign.slug} was imported with --labels oracle.")
    slug = _free_slug(f"{campaign.slug}-sim")
    settings = {name: getattr(campaign, name) for name in CLONED} | changes
    clone = create_campaign(actor=None, slug=slug, simulated=True, **settings)
    for run in runs:
        with stored_file(run).open("rb") as file:
            copy = start_import(
                clone,
                actor=None,
                upload=file,
                file_name=run.file_name,
                format=run.format,
                labels=run.labels,
                wake=False,
            )
        _done(Job.objects.get(campaign=clone, kind=Job.Kind.IMPORT, params__import_run=copy.pk))
    return clone


def _free_slug(wanted: str) -> str:
    taken = set(Campaign.objects.filter(slug__startswith=wanted).values_list("slug", flat=True))
    return next(slug for slug in (wanted, *(f"{wanted}-{n}" for n in range(2, 10_000))) if slug not in taken)


def read_oracle(campaign: Campaign) -> dict[str, tuple[StepLabel | None, ...]]:
    """Step labels by solution digest."""
    labels: dict[str, tuple[StepLabel | None, ...]] = {}
    for run in campaign.imports.filter(state=ImportRun.State.DONE, labels=ImportRun.Labels.ORACLE):
        for line in _lines(oracle_file(run)):
            row = json.loads(line)
            labels[row["solution"]] = tuple(label and StepLabel(label) for label in row["labels"])
    return labels


def _lines(path: Path) -> Iterator[str]:
    with path.open() as file:
        yield from file


class Simulation:
    """Drives one clone; `play` yields a report for each generation."""

    def __init__(self, clone: Campaign) -> None:
        if not clone.simulated:
            raise Invalid("not_simulated", f"{clone.slug} is a campaign of people: nothing is simulated in it.")
        self.clone = clone
        self.oracle = read_oracle(clone)
        user, _ = User.objects.get_or_create(
            username=f"simulated:{clone.slug}", defaults={"email": f"{clone.slug}@simulated.invalid"}
        )
        self.labeler, _ = Membership.objects.get_or_create(
            campaign=clone, user=user, defaults={"role": Membership.Role.LABELER}
        )
        self.test = self._test_solutions()

    def play(self, labelings: int) -> Iterator[GenerationReport]:
        """Label until `labelings` of training problems are in, working off every job that falls due."""
        activate_campaign(self.clone, actor=None)
        self._work_off()
        yield self._report()
        while training_labelings(self.clone).count() < labelings:
            self._label_round(labelings)
            before = self._open_generation()
            self._work_off()
            if self._open_generation() != before:
                yield self._report()
            elif new_labelings(self.clone) < self.clone.retrain_after:
                return

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Majority, position and length, and the label-free surprisal, on the same test problems."""
        backbone = Checkpoint.objects.get(campaign=self.clone, number=0)
        labeled = prm.labeled_solutions(training_labelings(self.clone))
        simple = prm.simple_baselines(labeled, self.test)
        surprisal = prm.measure(backbone, labeled, self.test)
        return {name: figures or {} for name, figures in (simple | {"surprisal": surprisal}).items()}

    def _test_solutions(self) -> list[LabeledSolution]:
        solutions = visible_solutions(self.clone).filter(split=Problem.SplitName.TEST).order_by("id")
        return [
            LabeledSolution(solution=prm.readable(row), labels=self.oracle[row.digest])
            for row in prm.rows(solutions)
            if row.digest in self.oracle
        ]

    def _label_round(self, labelings: int) -> None:
        """Label until a retrain is due, the target is reached or the queue is empty."""
        fresh, done = new_labelings(self.clone), training_labelings(self.clone).count()
        while fresh < self.clone.retrain_after and done < labelings:
            assignment = claim_next(self.labeler)
            if assignment is None:
                return
            self._label(assignment)
            counted = assignment.solution.split == Problem.SplitName.TRAIN
            fresh, done = fresh + counted, done + counted

    def _label(self, assignment: Assignment) -> None:
        labels = self.oracle[assignment.solution.digest]
        path = Completion.objects.filter(solution=assignment.solution, completion_index=0).order_by("step_index")
        acts = []
        reason = FinishReason.SOLUTION
        for completion, label in zip(path, labels, strict=True):
            if label is None:
                raise SimulationError(f"{assignment.solution}: step {completion.step_index + 1} has no oracle label")
            acts.append(Act(client_id=str(uuid.uuid4()), kind="rate", completion=completion.pk, value=VALUE[label]))
            if label is StepLabel.BAD:
                reason = FinishReason.FOUND_ERROR
                break
        submit_labeling(assignment, SubmitAct(client_id=uuid.uuid4(), finish_reason=reason), acts)

    def _work_off(self) -> None:
        """Do what is enqueued and what falls due, in this process, until nothing is left."""
        unfinished = Job.objects.filter(campaign=self.clone, state__in=Job.UNFINISHED).order_by("id")
        while job := unfinished.first() or advance(self.clone):
            _done(job)

    def _open_generation(self) -> int:
        return self.clone.generations.get(closed_at=None).number

    def _report(self) -> GenerationReport:
        self.clone.refresh_from_db()
        checkpoint = self.clone.checkpoint
        assert checkpoint is not None, "the first checkpoint was pretrained"
        labeled = prm.labeled_solutions(training_labelings(self.clone))
        figures = prm.measure(checkpoint, labeled, self.test) or {}
        latest = Checkpoint.objects.filter(campaign=self.clone).latest("number")
        return GenerationReport(
            number=self._open_generation(),
            checkpoint=checkpoint.number,
            labelings=len(labeled),
            judged_steps=sum(label is not None for item in labeled for label in item.labels),
            audit_labelings=audit_labelings(self.clone).count(),
            verdict=latest.gate.get("verdict", ""),
            step_auroc=figures.get("step_auroc"),
            f1=figures.get("f1"),
        )


def _done(job: Job) -> None:
    ended = run_here(job)
    if ended.state != Job.State.DONE:
        raise SimulationError(f"{Job.Kind(job.kind).label}: {ended.error or ended.state}")
