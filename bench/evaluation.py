"""Measure frozen-feature heads on real human step labels, beside what they have to beat.

    python bench/evaluation.py --quick --json figures.json --markdown
    python bench/evaluation.py --write docs/evaluation.md

Every problem of the data falls to training or to the rest by a hash of its text. The embedded backbone is pretrained on
the training problems' solutions without their labels, the heads are fitted on the labels of these, and everything is
measured on the rest, without the problems that are near duplicates of training ones. `--quick` pretrains a tenth as
long and takes fewer bootstrap samples. Without the data nothing is measured, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers.utils import logging as transformers_logging

from prm_backend.checkpoints import load_metadata
from prm_backend.evaluation import Candidate, EvaluationData, Results, ThresholdSource, measure, report
from prm_backend.evaluation.report import tables
from prm_backend.formats import read_records
from prm_backend.grading import final_answer_of
from prm_backend.pretraining import DEFAULT_STEPS, pretrain_embedded
from prm_backend.scoring import Scorer
from prm_backend.training import train_heads
from prm_backend.types import (
    LabeledSolution,
    Solution,
    SolutionRecord,
    StepLabel,
    StepScores,
    problem_key,
    split_of_problem,
)

DATA = Path(__file__).parents[2] / "shared" / "data"
PROCESSBENCH = ("gsm8k", "math", "olympiadbench", "omnimath")
OTHER_FORM = "prm800k_sample"  # 16 raw rows, kept for tests of the format
INJECTED = "prmbench_injected"
MOST_CHARACTERS = 6000  # of a problem with its solution: the embedded backbone reads 4,096 tokens
SOURCES = (ThresholdSource.CROSS_FITTED, ThresholdSource.GSM8K, ThresholdSource.FIXED)
BEGIN, END = "<!-- measured by bench/evaluation.py -->", "<!-- end of the measurement -->"


@dataclass(frozen=True)
class Row:
    """A row of the data: `subset` is its file's name, `error_class` that of PRMBench."""

    subset: str
    item: LabeledSolution
    record: SolutionRecord
    error_class: str | None

    @property
    def is_training(self) -> bool:
        return split_of_problem(self.item.solution.problem) == "train"

    @property
    def is_judged(self) -> bool:
        return self.error_class is None and any(label is not None for label in self.item.labels)


def read(folder: Path) -> tuple[list[Row], int]:
    """Every row that has steps and is not too long, and how many are."""
    rows = [
        row
        for path in sorted(folder.glob("*.jsonl"))
        if path.stem != OTHER_FORM
        for row in (read_injected(path) if path.stem == INJECTED else read_labeled(path))
    ]
    short = [row for row in rows if row.item.solution.steps and length(row.item.solution) <= MOST_CHARACTERS]
    return short, len(rows) - len(short)


def length(solution: Solution) -> int:
    return len(solution.problem) + sum(map(len, solution.steps))


def read_labeled(path: Path) -> Iterator[Row]:
    for record in read_records(path):
        labels = record.step_labels or (None,) * len(record.steps)
        subset = path.stem.removeprefix("processbench_")
        yield Row(subset, LabeledSolution(solution_of(record, path.stem), labels), record, None)


def read_injected(path: Path) -> Iterator[Row]:
    """Labels that no person gave, which the reader of the format rightly passes over."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for record, line in zip(read_records(path), lines, strict=True):
        raw = json.loads(line)
        labels = tuple(StepLabel.BAD if rating == -1 else StepLabel.NOT_BAD for rating in raw["injected_ratings"])
        item = LabeledSolution(solution_of(record, path.stem), labels)
        yield Row(path.stem, item, record, raw["source"].rpartition("/")[2])


def solution_of(record: SolutionRecord, name: str) -> Solution:
    key = f"{name} line {record.line}"
    return Solution(key, problem_key(record.problem), record.problem, record.steps)


def evaluation_data(rows: Sequence[Row]) -> EvaluationData:
    rest = [row for row in rows if not row.is_training]
    return EvaluationData(
        test=[row.item for row in rest if row.is_judged],
        train=[row.item for row in rows if row.is_training and row.is_judged],
        pretraining_problems=[row.record.problem for row in rows if row.is_training],
        subset_of={row.item.solution.key: row.subset for row in rest},
        averaged=PROCESSBENCH,
        injected=[row.item for row in rest if row.error_class is not None],
        class_of={row.item.solution.key: row.error_class for row in rest if row.error_class is not None},
        candidates=[candidate_of(row) for row in rest if row.subset == "gsm8k_model_solutions"],
    )


def candidate_of(row: Row) -> Candidate:
    answer = final_answer_of(row.record.steps[-1])
    return Candidate(row.item.solution, answer and answer.replace(",", ""), row.record.final_answer_correct)


def scores_of(checkpoint: Path, cache: Path, rows: Sequence[Row]) -> dict[str, StepScores]:
    return dict(Scorer.load(checkpoint, cache_dir=cache).score(row.item.solution for row in rows))


def run(rows: Sequence[Row], folder: Path, *, quick: bool, seed: int) -> tuple[Results, dict[str, object]]:
    """Pretrain, fit, score, measure; and how much pretraining there was, and the seconds that each took."""
    data, cold, heads, cache = evaluation_data(rows), folder / "cold", folder / "heads", folder / "cache"
    marks = [time.monotonic()]
    pool = [row.item.solution for row in rows if row.is_training]
    if not cold.exists():
        pretrain_embedded(pool, cold, seed=seed, steps=DEFAULT_STEPS // 10 if quick else DEFAULT_STEPS)
    marks.append(time.monotonic())
    surprisal = scores_of(cold, cache, rows)
    marks.append(time.monotonic())
    if not heads.exists():
        train_heads(cold, list(data.train), heads, cache_dir=cache, seed=seed)
    fitted = scores_of(heads, cache, rows)
    marks.append(time.monotonic())
    results = measure(
        data,
        {"frozen-feature heads": fitted},
        baselines={"surprisal alone": surprisal},
        thresholds=SOURCES,
        samples=200 if quick else 1000,
        seed=seed,
    )
    marks.append(time.monotonic())
    names = ("pretraining", "features", "heads", "measuring")
    seconds = {name: round(marks[i + 1] - marks[i], 1) for i, name in enumerate(names)}
    return results, {"updates": load_metadata(cold).recipe["updates"], "seconds": seconds}


def markdown(results: Results, about: dict[str, object]) -> str:
    lines = [
        f"Measured on {about['date']}: the backbone had {about['updates']:,} updates on "
        f"{about['pretraining_solutions']:,} solutions (the default is at most {DEFAULT_STEPS:,}), the heads "
        f"{about['training_solutions']:,} labeled ones; "
        f"{results.solutions:,} solutions of {results.problems:,} other problems are measured, "
        f"{results.judged_steps:,} judged steps, {results.bad_steps:,} of them bad. {about['too_long']} solutions "
        f"without a step or longer than "
        f"{MOST_CHARACTERS:,} characters take no part. Brackets hold 95 % intervals ({results.samples:,} bootstrap "
        "samples of problems); baselines are in italics.",
        *(
            f"Left out of *{part}*: {leak.exact} problems that training has word for word and {leak.near} reworded, "
            f"of {leak.problems:,}, with {leak.solutions} solutions."
            for part, leak in results.leakage.items()
        ),
    ]
    return "\n\n".join([*lines, *(f"#{section}" for section in tables(results))])


def write_into(document: Path, measured: str) -> None:
    """Replace what stands between the two markers. Raises `SystemExit` where they are missing."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no place for the figures: it needs the lines {BEGIN} and {END}")
    document.write_text(f"{before}{begin}\n\n{measured}\n\n{end}{after}", encoding="utf-8")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=DATA, help="folder of the human sets (default: %(default)s)")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--json", type=Path, help="write every figure to this file")
    options.add_argument("--markdown", action="store_true", help="print the tables")
    options.add_argument("--write", type=Path, help="put the tables between the markers of this document")
    options.add_argument("--report", type=Path, help="folder for the whole report with its plots")
    options.add_argument(
        "--keep", type=Path, help="folder of checkpoints and features, made when missing and used when there"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--threads", type=int, default=2)
    chosen = options.parse_args()
    if not chosen.data.is_dir():
        print(f"no data at {chosen.data}", file=sys.stderr)
        return 2
    torch.set_num_threads(chosen.threads)
    transformers_logging.disable_progress_bar()
    rows, too_long = read(chosen.data)
    with tempfile.TemporaryDirectory() as folder:
        results, took = run(rows, chosen.keep or Path(folder), quick=chosen.quick, seed=chosen.seed)
    about: dict[str, object] = {
        "date": datetime.now(UTC).date().isoformat(),
        "quick": chosen.quick,
        "training_solutions": sum(row.is_training and row.is_judged for row in rows),
        "pretraining_solutions": sum(row.is_training for row in rows),
        "too_long": too_long,
        **took,
    }
    found = report(results, title="Frozen-feature heads on human step labels")
    if chosen.json:
        chosen.json.write_text(json.dumps({**about, **found.data}, indent=2) + "\n")
    if chosen.report:
        found.write(chosen.report)
    if chosen.write:
        write_into(chosen.write, markdown(results, about))
    if chosen.markdown:
        print(markdown(results, about))
    print(f"seconds: {took['seconds']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
