"""Records of a file become rows, a chunk in a transaction; nobody sees them before their import run is done.

Identity is by content: a problem by its text, references and images, a solution by its problem and steps. A repeated
solution is stored once, and its rows add labelings. What a repeat brings beside the steps is left out and counted: the
solution may be with labelers already, and could not be given back what it was when the later file is undone.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from django.db import transaction

from annotator.actions.import_labelings import (
    VALUE_OF_LABEL,
    TreeWriter,
    labeling_of_step_labels,
    oracle_labels,
)
from annotator.models import (
    Attachment,
    Campaign,
    Completion,
    Critique,
    GoldLabel,
    ImportRun,
    Labeling,
    Problem,
    Solution,
)
from prm_backend.errors import FormatError
from prm_backend.formats import prm800k_line
from prm_backend.types import (
    SolutionRecord,
    StepLabel,
    problem_key,
    split_of_problem,
)

VERDICT_OF_SOURCE = {
    True: Solution.Verdict.CORRECT,
    False: Solution.Verdict.INCORRECT,
    None: Solution.Verdict.UNKNOWN,
}


def digest_of(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def problem_digest(record: SolutionRecord) -> str:
    images = [image.sha256 for image in record.attachments]
    return digest_of(record.problem, record.reference_answer, record.reference_solution, *([images] if images else []))


def solution_digest(record: SolutionRecord) -> str:
    """Phase 1 has no ready solution: there the tree of candidates is the solution."""
    if record.phase == 2:
        return digest_of(2, problem_digest(record), record.steps)
    if record.labeling is None:
        return digest_of(1, problem_digest(record), record.steps, record.alternatives)
    seen = [
        [
            [completion.text for completion in step.completions or ()],
            step.human_completion and step.human_completion.text,
        ]
        for step in record.labeling.steps
    ]
    return digest_of(1, problem_digest(record), seen)


def in_protocol(records: Iterable[SolutionRecord], run: ImportRun) -> Iterator[SolutionRecord]:
    """The records as the run's campaign takes them. In phase 1 a row without a labeling is a tree of candidates, unless
    its step labels come in as a labeling, which judges a ready solution. Raises `FormatError` for a bare problem in
    phase 2."""
    in_phase_1 = run.campaign.phase == Campaign.Phase.CHOOSE
    for record in records:
        if record.labeling is not None:
            yield record
        elif in_phase_1:
            judged = run.labels == ImportRun.Labels.LABELINGS and record.step_labels is not None
            yield record if judged else replace(record, phase=1)
        elif record.steps:
            yield record
        else:
            raise FormatError(
                "must have at least one step: only a phase 1 campaign takes bare problems",
                line=record.line,
                field="steps",
            )


@dataclass(frozen=True, slots=True)
class Level:
    """The candidates at one depth of a solution; `followed` is the one that the next level continues."""

    texts: tuple[str, ...]
    followed: int = 0
    critiques: tuple[str, ...] = ()


def levels_of(record: SolutionRecord, *, with_labelings: bool) -> list[Level]:
    """What a record gives its new solution to start from. A labeling that is imported lays its own tree; where labels
    are left out, a phase 1 labeling still gives the candidates that its labeler saw, as far as they follow each other
    without a step of the labeler's own."""
    if record.labeling is None or record.phase == 2:
        return [
            Level(
                (text, *(record.alternatives[depth] if record.alternatives else ())),
                critiques=record.critiques[depth] if record.critiques else (),
            )
            for depth, text in enumerate(record.steps)
        ]
    levels: list[Level] = []
    for step in () if with_labelings else record.labeling.steps:
        texts = tuple(completion.text for completion in step.completions or ())
        levels.append(Level(texts, step.chosen_completion or 0))
        if step.chosen_completion is None:
            break
    return levels


def seeded_draw(campaign: Campaign, digest: str) -> float:
    """A number in [0, 1) that depends on the campaign and the solution alone: the order of all random draws."""
    return int(hashlib.sha256(f"{campaign.slug}:{digest}".encode()).hexdigest()[:13], 16) / 16**13


@dataclass
class ChunkWriter:
    """Writes chunks of records for one import run and counts what it made."""

    run: ImportRun
    counts: Counter[str] = field(default_factory=Counter)
    occurrences: Counter[str] = field(default_factory=Counter)

    @transaction.atomic
    def write(self, records: Sequence[SolutionRecord]) -> list[tuple[SolutionRecord, Solution]]:
        problems = self._problems(records)
        solutions = self._solutions(records, problems)
        pairs = [(record, solutions[solution_digest(record)]) for record in records]
        self.counts["rows"] += len(records)
        if self.run.labels == ImportRun.Labels.LABELINGS:
            for record, solution in pairs:
                self._labeling(record, solution)
        elif self.run.labels == ImportRun.Labels.GOLD:
            self._gold(pairs)
        return pairs

    def _problems(self, records: Iterable[SolutionRecord]) -> dict[str, Problem]:
        wanted = {problem_digest(record): record for record in records}
        found = {
            problem.digest: problem
            for problem in Problem.objects.filter(campaign=self.run.campaign, digest__in=list(wanted))
        }
        new = [
            Problem(
                campaign=self.run.campaign,
                import_run=self.run,
                digest=digest,
                text=record.problem,
                text_key=problem_key(record.problem),
                reference_answer=record.reference_answer,
                reference_solution=record.reference_solution,
                split=split_of_problem(record.problem),
            )
            for digest, record in wanted.items()
            if digest not in found
        ]
        made = Problem.objects.bulk_create(new)
        images = [
            Attachment(
                problem=problem,
                position=position,
                name=image.name,
                content_type=image.content_type,
                sha256=image.sha256,
            )
            for problem in made
            for position, image in enumerate(wanted[problem.digest].attachments)
        ]
        Attachment.objects.bulk_create(images)
        self.counts["problems"] += len(made)
        self._count("images", len(images))
        return found | {problem.digest: problem for problem in made}

    def _solutions(self, records: Sequence[SolutionRecord], problems: dict[str, Problem]) -> dict[str, Solution]:
        wanted: dict[str, SolutionRecord] = {}
        for record in records:
            wanted.setdefault(solution_digest(record), record)
        found = {
            solution.digest: solution
            for solution in Solution.objects.filter(campaign=self.run.campaign, digest__in=list(wanted))
        }
        new = [
            self._new_solution(digest, record, problems[problem_digest(record)])
            for digest, record in wanted.items()
            if digest not in found
        ]
        made = Solution.objects.bulk_create(new)
        with_labelings = self.run.labels == ImportRun.Labels.LABELINGS
        self._trees(
            [(solution, levels_of(wanted[solution.digest], with_labelings=with_labelings)) for solution in made]
        )
        Solution.repeated_by.through.objects.bulk_create(
            [
                Solution.repeated_by.through(solution=solution, importrun=self.run)
                for solution in found.values()
                if solution.import_run_id != self.run.pk
            ],
            ignore_conflicts=True,
        )
        self.counts["solutions"] += len(made)
        self.counts["repeats"] += len(records) - len(made)
        first = {id(wanted[solution.digest]) for solution in made}
        repeats = (record for record in records if record.phase == 2 and id(record) not in first)
        self._count("not_added", sum(bool(record.alternatives or record.critiques) for record in repeats))
        return found | {solution.digest: solution for solution in made}

    def _new_solution(self, digest: str, record: SolutionRecord, problem: Problem) -> Solution:
        return Solution(
            campaign=self.run.campaign,
            problem=problem,
            import_run=self.run,
            digest=digest,
            phase=record.phase,
            split=problem.split,
            draw=seeded_draw(self.run.campaign, digest),
            external_id=record.external_id or "",
            generator=record.generator or "",
            step_count=len(record.steps),
            final_answer=record.final_answer,
            source_verdict=VERDICT_OF_SOURCE[record.final_answer_correct],
        )

    def _trees(self, solutions: Sequence[tuple[Solution, Sequence[Level]]]) -> None:
        """The solutions' candidates, one depth at a time, since each points to the one that it continues."""
        parents: dict[int, Completion] = {}
        depth = 0
        while deep := [(solution, levels[depth]) for solution, levels in solutions if depth < len(levels)]:
            made = iter(
                Completion.objects.bulk_create(
                    Completion(
                        solution=solution,
                        parent=parents.get(solution.pk),
                        step_index=depth,
                        completion_index=index,
                        text=text,
                    )
                    for solution, level in deep
                    for index, text in enumerate(level.texts)
                )
            )
            critiques = []
            for solution, level in deep:
                siblings = list(islice(made, len(level.texts)))
                if siblings:
                    parents[solution.pk] = siblings[level.followed]
                critiques += [
                    Critique(completion=siblings[0], position=position, text=text)
                    for position, text in enumerate(level.critiques)
                ]
                self._count("alternatives", max(len(siblings) - 1, 0))
            Critique.objects.bulk_create(critiques)
            self._count("critiques", len(critiques))
            depth += 1

    def _count(self, name: str, number: int) -> None:
        """Count what most files do not have: a report tells of it only where there is any."""
        if number:
            self.counts[name] += number

    def _labeling(self, record: SolutionRecord, solution: Solution) -> None:
        labeling = record.labeling or labeling_of_step_labels(record, at=self.run.created_at)
        if labeling is None:
            return
        wire = prm800k_line(record) if record.labeling else [record.external_id, record.step_labels]
        # The same words twice in a file are two labelings; the same file twice adds none.
        said = digest_of(solution.digest, wire)
        self.occurrences[said] += 1
        digest = digest_of(said, self.occurrences[said])
        if Labeling.objects.filter(campaign=self.run.campaign, digest=digest).exists():
            return
        row = Labeling.objects.create(
            campaign=self.run.campaign,
            solution=solution,
            import_run=self.run,
            state=Labeling.State.SUBMITTED,
            finish_reason=labeling.finish_reason or "",
            wall_ms=labeling.total_time,
            source_labeler=labeling.labeler,
            source_timestamp=labeling.timestamp,
            generation_number=labeling.generation,
            is_quality_control=labeling.is_quality_control_question,
            is_initial_screening=labeling.is_initial_screening_question,
            source_final_answer=record.final_answer if record.final_answer != solution.final_answer else None,
            verifier_score=record.verifier_score,
            question_keys=list(record.question_keys) or None,
            digest=digest,
        )
        TreeWriter(row, solution).write(labeling.steps, record.step_labels)
        self.counts["labelings"] += 1

    def _gold(self, pairs: Sequence[tuple[SolutionRecord, Solution]]) -> None:
        for record, solution in pairs:
            labels = oracle_labels(record)
            path = Completion.objects.filter(solution=solution, completion_index=0).order_by("step_index")
            gold = [
                GoldLabel(
                    campaign=self.run.campaign,
                    completion=completion,
                    import_run=self.run,
                    value=VALUE_OF_LABEL[label],
                    not_bad=label == StepLabel.NOT_BAD,
                )
                for completion, label in zip(path, labels, strict=False)
                if label is not None
            ]
            before = GoldLabel.objects.filter(completion__solution=solution).count()
            GoldLabel.objects.bulk_create(gold, ignore_conflicts=True)
            self.counts["gold_labels"] += GoldLabel.objects.filter(completion__solution=solution).count() - before
