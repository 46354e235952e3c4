"""Records of a file become rows, a chunk in a transaction; nobody sees them before their import run is done.

Identity is by content: a problem by its text and references, a solution by its problem and steps. A repeated solution
is stored once, and its rows add labelings.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django.db import transaction

from annotator.actions.import_labelings import (
    VALUE_OF_LABEL,
    TreeWriter,
    labeling_of_step_labels,
    oracle_labels,
)
from annotator.models import (
    Campaign,
    Completion,
    GoldLabel,
    ImportRun,
    Labeling,
    Problem,
    Solution,
)
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
    return digest_of(record.problem, record.reference_answer, record.reference_solution)


def solution_digest(record: SolutionRecord) -> str:
    """Phase 1 has no ready solution: there the tree that the labeler saw is the solution."""
    if record.phase == 1 and record.labeling:
        seen = [
            [
                [completion.text for completion in step.completions or ()],
                step.human_completion and step.human_completion.text,
            ]
            for step in record.labeling.steps
        ]
        return digest_of(1, problem_digest(record), seen)
    return digest_of(2, problem_digest(record), record.steps)


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
        self.counts["problems"] += len(new)
        return found | {problem.digest: problem for problem in Problem.objects.bulk_create(new)}

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
        self._paths([(solution, wanted[solution.digest].steps) for solution in made])
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

    def _paths(self, solutions: Sequence[tuple[Solution, Sequence[str]]]) -> None:
        """The ready solutions' steps, one depth at a time, since each step points to the one before it."""
        parents: dict[int, Completion] = {}
        depth = 0
        while level := [(solution, steps[depth]) for solution, steps in solutions if depth < len(steps)]:
            made = Completion.objects.bulk_create(
                Completion(
                    solution=solution, parent=parents.get(solution.pk), step_index=depth, completion_index=0, text=text
                )
                for solution, text in level
            )
            parents = {completion.solution_id: completion for completion in made}
            depth += 1

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
