"""What the commands read and write."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from prm_backend.errors import FormatError, PrmError
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
    """Raises `PrmError` that names the file, beside the line and the field."""
    for path in paths:
        try:
            yield from read_records(path)
        except FormatError as error:
            raise PrmError(f"{path}: {error}") from None


def solution_of(record: SolutionRecord) -> Solution:
    return labeled_solution(record).solution


def labeled_solution(record: SolutionRecord) -> LabeledSolution:
    """A record as training data; for PRM800K the path that the labeler followed. A row without an id is named by its
    text, so that labelings of one solution belong together, in whatever file they stand."""
    rated = list(rated_path(record))
    steps = (*(text for text, _ in rated), *record.steps[len(rated) :])
    labels = (*(label for _, label in rated), *[None] * (len(steps) - len(rated)))
    key = record.external_id or hashlib.sha256(json.dumps([record.problem, *steps]).encode()).hexdigest()[:16]
    return LabeledSolution(Solution(key, problem_key(record.problem), record.problem, steps), labels)


def labeled_solutions(paths: Iterable[Path]) -> list[LabeledSolution]:
    """Several labelings of one solution weigh one together."""
    found = [labeled_solution(record) for record in records(paths)]
    texts = [(item.solution.problem, item.solution.steps) for item in found]
    copies = Counter(texts)
    return [
        LabeledSolution(item.solution, item.labels, 1 / copies[text]) for item, text in zip(found, texts, strict=True)
    ]


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
    if path.is_dir():
        raise PrmError(f"{path}: is a folder, not a file to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def report(progress: Progress) -> None:
    """One line that renews itself, on a terminal only."""
    if sys.stderr.isatty():
        end = "\n" if progress.done >= progress.total else ""
        print(f"\r{progress.done / progress.total:5.0%}  {progress.note:50.50}", end=end, file=sys.stderr, flush=True)


def count(done: int, note: str, *, ended: bool = False) -> None:
    """The same where nobody knows how much there is."""
    if sys.stderr.isatty():
        print(f"\r{done:,}  {note:50.50}", end="\n" if ended else "", file=sys.stderr, flush=True)


def quiet_transformers() -> None:
    """Its hints about tiny local models would bury our own lines."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
