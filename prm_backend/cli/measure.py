"""`evaluate` and `grade`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from prm_backend.cli.files import (
    FORMATS_READ,
    Commands,
    command,
    labeled_solutions,
    output,
    records,
    report,
    solution_of,
)
from prm_backend.cli.prms import Prm, add_prm, open_prm
from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.types import LabeledSolution, StepScores

if TYPE_CHECKING:
    from prm_backend.evaluation import Candidate


def add(commands: Commands) -> None:
    made = command(
        commands,
        "evaluate",
        evaluate,
        "Measure a PRM on labeled solutions, beside its baselines. A report leaves out problems that training shares.",
        "evaluate checkpoints/first test.jsonl --train labels.jsonl --report figures/",
    )
    add_prm(made)
    made.add_argument("test", type=Path, nargs="+", help=f"files of labeled solutions ({FORMATS_READ})")
    made.add_argument("--train", type=Path, nargs="+", help="the training labels, for the baselines and the threshold")
    made.add_argument("--validation", type=Path, nargs="+", help="labels to take the threshold of F1 from (--report)")
    made.add_argument("--pretraining", type=Path, nargs="+", help="other problems that training saw (--report)")
    made.add_argument("--candidates", type=Path, nargs="+", help="graded solutions to choose the best of (--report)")
    made.add_argument("--report", type=Path, help="folder for report.json, report.md and plots, with intervals")
    made.add_argument("--json", action="store_true", help="print JSON")
    made.add_argument("--seed", type=int, default=0)

    made = command(
        commands,
        "grade",
        grade,
        "Is each final answer right? Two verdicts, Math-Verify's and one by PRM800K's conservative rules; where they "
        "differ, a person should look.",
        "grade solutions.jsonl --out verdicts.jsonl",
    )
    made.add_argument("solutions", type=Path, nargs="+", help=f"files with reference answers ({FORMATS_READ})")
    made.add_argument("--out", type=Path, help="file to write (default: standard output)")


def evaluate(options: argparse.Namespace) -> None:
    test, train = labeled_solutions(options.test), labeled_solutions(options.train or ())
    prm = open_prm(options)
    if options.report:
        write_report(options, prm, test, train)
    else:
        print_figures(options, prm, test, train)


def scored(prm: Prm, items: Sequence[LabeledSolution]) -> dict[str, StepScores]:
    solutions = list(dict.fromkeys(item.solution for item in items))
    twice = [key for key, copies in Counter(solution.key for solution in solutions).items() if copies > 1]
    if twice:
        raise PrmError(f"{twice[0]!r} names two different solutions: give each an id of its own")
    return dict(prm.score(solutions, progress=report, total=len(solutions)))


def print_figures(
    options: argparse.Namespace, prm: Prm, test: Sequence[LabeledSolution], train: Sequence[LabeledSolution]
) -> None:
    from prm_backend import baselines, evaluation

    scores = scored(prm, [*test, *train])
    threshold = None
    if train:
        try:
            threshold = evaluation.best_threshold([(item, scores[item.solution.key]) for item in train])
        except NotEnoughData as error:
            print(f"no threshold, so no F1: {error}", file=sys.stderr)
    pairs = [(item, scores[item.solution.key]) for item in test]
    figures = {
        "checkpoint": evaluation.evaluate(pairs, threshold=threshold).as_dict(),
        "position_baseline": baselines.position_baseline(train or test, test if train else None).as_dict(),
        "majority_baseline": baselines.majority_baseline(train or test, test).as_dict(),
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, metrics in figures.items():
        print(name.replace("_", " "))
        for metric, value in metrics.items():
            shown = "not available" if value is None else f"{value:.4f}" if isinstance(value, float) else value
            print(f"  {metric.replace('_', ' '):14} {shown}")


def write_report(
    options: argparse.Namespace, prm: Prm, test: Sequence[LabeledSolution], train: Sequence[LabeledSolution]
) -> None:
    """One subset for each test file: `processbench_gsm8k.jsonl` and its like are named as in the paper. The threshold
    of F1 is 0.5, comes from the other problems of the test set, and from the subset gsm8k, training and validation
    labels where there are such."""
    from prm_backend import evaluation
    from prm_backend.evaluation import ThresholdSource

    validation = labeled_solutions(options.validation or ())
    subsets = {path: path.stem.removeprefix("processbench_") for path in options.test}
    subset_of = {item.solution.key: subsets[path] for path in options.test for item in labeled_solutions([path])}
    sources = [ThresholdSource.FIXED, ThresholdSource.CROSS_FITTED]
    sources += [ThresholdSource.GSM8K] if "gsm8k" in subsets.values() else []
    sources += [ThresholdSource.TRAINING] if train else []
    sources += [ThresholdSource.VALIDATION] if validation else []
    candidates = candidates_of(options.candidates or ())
    data = evaluation.EvaluationData(
        test=test,
        train=train,
        validation=validation,
        pretraining_problems=[record.problem for record in records(options.pretraining or ())],
        subset_of=subset_of,
        candidates=candidates,
    )
    others = [LabeledSolution(one.solution, (None,) * len(one.solution.steps)) for one in candidates]
    scores = scored(prm, [*test, *train, *validation, *others])
    name = f"PRM {options.prm.name}"
    results = evaluation.measure(data, {name: scores}, thresholds=sources, seed=options.seed)
    made = evaluation.report(results, title=f"Evaluation of {options.prm.name}")
    made.write(options.report)
    print(json.dumps(made.data, indent=2) if options.json else f"wrote {options.report / 'report.md'}")


def candidates_of(paths: Sequence[Path]) -> list[Candidate]:
    """Solutions to choose the best of, with their answers and whether those are right."""
    from prm_backend.evaluation import Candidate
    from prm_backend.grading import final_answer_of

    return [
        Candidate(
            solution_of(record),
            record.final_answer or (final_answer_of(record.steps[-1]) if record.steps else None),
            record.final_answer_correct,
        )
        for record in records(paths)
    ]


def grade(options: argparse.Namespace) -> None:
    from prm_backend.grading import Grader, final_answer_of

    with output(options.out) as file, Grader() as grader:
        for record in records(options.solutions):
            answer = record.final_answer or (final_answer_of(record.steps[-1]) if record.steps else None)
            row = {"id": record.external_id or f"line {record.line}", "reference": record.reference_answer}
            row |= {"answer": answer, "math_verify": None, "conservative": None}
            if record.reference_answer is not None and answer is not None:
                verdicts = grader.grade_both(record.reference_answer, answer)
                row |= {"math_verify": verdicts.math_verify, "conservative": verdicts.conservative}
            file.write(json.dumps(row) + "\n")
