"""The command line: files of solutions in, checkpoints, scores and figures out.

python -m prm_backend generate --problems 4000 pool.jsonl
python -m prm_backend pretrain pool.jsonl checkpoints/cold
python -m prm_backend train checkpoints/cold labels.jsonl checkpoints/first
python -m prm_backend score checkpoints/first pool.jsonl > scores.jsonl
python -m prm_backend evaluate checkpoints/first test.jsonl --train labels.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from prm_backend.errors import NotEnoughData, PrmError
from prm_backend.formats import rated_path, read_records
from prm_backend.synthetic import generate_rows
from prm_backend.types import LabeledSolution, Progress, Solution, SolutionRecord, problem_key, solution_score


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 an error that a person can mend (one line on stderr), 2 wrong usage."""
    options = parser().parse_args(arguments)
    # Read when torch is loaded: threads that spin for long make a busy machine crawl (docs/experiments.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    try:
        options.run(options)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (PrmError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m prm_backend",
        description="Train, run and measure process reward models. A usual order: pretrain, train, score, evaluate.",
        epilog="Input files are JSONL: the simple form, PRM800K or ProcessBench, told apart by their keys.",
    )
    commands = top.add_subparsers(required=True, metavar="command")

    def command(name: str, run: Callable[[argparse.Namespace], None], about: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=about, description=about)
        made.set_defaults(run=run)
        return made

    made = command("generate", generate, "Write made-up word problems with labeled solutions, to try things on.")
    made.add_argument("out", type=Path, help="JSONL file to write")
    made.add_argument("--problems", type=int, default=4000, help="distinct problems (default: %(default)s)")
    made.add_argument("--solutions", type=int, default=2, help="solutions for each problem (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0)

    made = command("pretrain", pretrain, "Make a cold-start checkpoint from unlabeled solutions; labels are ignored.")
    made.add_argument("pool", type=Path, nargs="+", help="files of solutions; leave out what you will test on")
    made.add_argument("out", type=Path, help="checkpoint folder to write")
    made.add_argument("--backbone", type=Path, help="a transformers model folder to use instead of training a tiny one")
    made.add_argument("--seconds", type=float, help="stop after so many CPU seconds over all cores")
    made.add_argument("--steps", type=int, help="number of updates (default: about 200 CPU seconds of them)")
    made.add_argument("--seed", type=int, default=0)

    made = command("train", train, "Fit step heads on labeled solutions and write a new checkpoint.")
    made.add_argument("parent", type=Path, help="checkpoint whose backbone is used")
    made.add_argument("labels", type=Path, nargs="+", help="files of labeled solutions")
    made.add_argument("out", type=Path, help="checkpoint folder to write")
    made.add_argument("--heads", type=int, default=8, help="heads of the ensemble (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--cache", type=Path, help="folder for step features, which makes the next run quick")

    made = command("score", score, "Write one JSON line of step scores for each solution to standard output.")
    made.add_argument("checkpoint", type=Path)
    made.add_argument("solutions", type=Path, nargs="+", help="files of solutions")
    made.add_argument("--cache", type=Path, help="folder for step features, which makes the next run quick")

    made = command("evaluate", evaluate, "Measure a checkpoint on labeled solutions, beside its baselines.")
    made.add_argument("checkpoint", type=Path)
    made.add_argument("test", type=Path, nargs="+", help="files of labeled solutions that nothing was trained on")
    made.add_argument("--train", type=Path, nargs="+", help="the training labels, for the baselines and the threshold")
    made.add_argument("--cache", type=Path, help="folder for step features, which makes the next run quick")
    made.add_argument("--json", action="store_true", help="print JSON")
    return top


def generate(options: argparse.Namespace) -> None:
    with options.out.open("w") as file:
        for row in generate_rows(problems=options.problems, solutions_per_problem=options.solutions, seed=options.seed):
            file.write(json.dumps(row) + "\n")


def pretrain(options: argparse.Namespace) -> None:
    from prm_backend.pretraining import DEFAULT_STEPS, init_backbone, pretrain_embedded

    quiet_transformers()
    pool = [solution_of(record) for record in records(options.pool)]
    if options.backbone:
        init_backbone(options.backbone, options.out, solutions=pool[:512])
        return
    pretrain_embedded(
        pool,
        options.out,
        seed=options.seed,
        seconds=options.seconds,
        steps=options.steps or DEFAULT_STEPS,
        progress=report,
    )


def train(options: argparse.Namespace) -> None:
    from prm_backend.training import train_heads

    quiet_transformers()
    labeled = [labeled_solution(record) for record in records(options.labels)]
    metadata = train_heads(
        options.parent,
        labeled,
        options.out,
        cache_dir=options.cache,
        heads=options.heads,
        seed=options.seed,
        progress=report,
    )
    print(json.dumps(metadata.metrics))


def score(options: argparse.Namespace) -> None:
    from prm_backend.scoring import Scorer

    quiet_transformers()
    scorer = Scorer.load(options.checkpoint, cache_dir=options.cache)
    for key, scores in scorer.score(map(solution_of, records(options.solutions))):
        row = {
            "id": key,
            "bad": scores.bad,
            "neutral": scores.neutral,
            "good": scores.good,
            "spread": scores.spread,
            "solution_score": solution_score(scores) if len(scores) else None,
        }
        print(json.dumps(row))


def evaluate(options: argparse.Namespace) -> None:
    from prm_backend import baselines, evaluation
    from prm_backend.scoring import Scorer

    quiet_transformers()
    scorer = Scorer.load(options.checkpoint, cache_dir=options.cache)

    def scored(labeled: Sequence[LabeledSolution]) -> list[evaluation.Scored]:
        scores = scorer.score(solution.solution for solution in labeled)
        return [(solution, score) for solution, (_, score) in zip(labeled, scores, strict=True)]

    test = [labeled_solution(record) for record in records(options.test)]
    train = [labeled_solution(record) for record in records(options.train or [])]
    try:
        threshold = evaluation.best_threshold(scored(train)) if train else None
    except NotEnoughData as error:
        threshold = None
        print(f"no threshold, so no F1: {error}", file=sys.stderr)
    figures = {
        "checkpoint": evaluation.evaluate(scored(test), threshold=threshold).as_dict(),
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


def records(paths: Iterable[Path]) -> Iterator[SolutionRecord]:
    return chain.from_iterable(map(read_records, paths))


def solution_of(record: SolutionRecord) -> Solution:
    return labeled_solution(record).solution


def labeled_solution(record: SolutionRecord) -> LabeledSolution:
    """A record as training data; for PRM800K the path that the labeler followed."""
    rated = list(rated_path(record))
    steps = (*(text for text, _ in rated), *record.steps[len(rated) :])
    labels = (*(label for _, label in rated), *[None] * (len(steps) - len(rated)))
    key = record.external_id or f"line {record.line}"
    return LabeledSolution(Solution(key, problem_key(record.problem), record.problem, steps), labels)


def quiet_transformers() -> None:
    """Its hints about tiny local models would bury our own lines."""
    from transformers.utils import logging

    logging.set_verbosity_error()


def report(progress: Progress) -> None:
    """One line that renews itself, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if progress.done >= progress.total else ""
        print(f"\r{progress.done / progress.total:5.0%}  {progress.note:50.50}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
