"""What the commands read and write."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from prm_backend.errors import PrmError
from prm_backend.formats import rated_path, read_records
from prm_backend.types import LabeledSolution, Progress, Solution, SolutionRecord, problem_key

FORMATS_READ = "JSONL in the simple form, PRM800K's or ProcessBench's, told apart by their keys"

Run = Callable[[argparse.Namespace], int | None]
Commands = Any  # argparse gives the type of its sub-parsers no public name


def command(commands: Commands, name: str, run: Run, about: str, example: str) -> argparse.ArgumentParser:
    """One command with its example. `run` returns an exit code, or None for 0."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example:\n  python -m prm_backend {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=run)
    return made


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


def labeled_solutions(paths: Iterable[Path]) -> list[LabeledSolution]:
    """Several labelings of one solution weigh one together."""
    found = [labeled_solution(record) for record in records(paths)]
    counts: dict[Solution, int] = {}
    for item in found:
        counts[item.solution] = counts.get(item.solution, 0) + 1
    return [LabeledSolution(item.solution, item.labels, 1 / counts[item.solution]) for item in found]


def json_file(path: Path) -> Any:
    """Raises `PrmError` naming the file and the place in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PrmError(f"{path}: not JSON ({error})") from None


@contextlib.contextmanager
def output(path: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is there when it is whole."""
    if path is None:
        yield sys.stdout
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def report(progress: Progress) -> None:
    """One line that renews itself, on a terminal only. Without a total it counts."""
    if not sys.stderr.isatty():
        return
    known = progress.total > progress.done or progress.done == progress.total
    end = "\n" if progress.done >= progress.total else ""
    share = f"{progress.done / progress.total:5.0%}" if known and progress.total else f"{progress.done:,.0f}"
    print(f"\r{share}  {progress.note:50.50}", end=end, file=sys.stderr, flush=True)


def quiet_transformers() -> None:
    """Its hints about tiny local models would bury our own lines."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
