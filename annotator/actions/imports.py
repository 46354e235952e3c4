"""Bringing a file in, and taking it out again while nothing of it has been labeled."""

from __future__ import annotations

import datetime
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from annotator.actions.attachments import store_image
from annotator.actions.audit import record
from annotator.actions.import_labelings import oracle_labels
from annotator.actions.import_rows import ChunkWriter, in_protocol, solution_digest
from annotator.dispatch import enqueue
from annotator.errors import Conflict, Invalid
from annotator.models import (
    Assignment,
    Campaign,
    Checkpoint,
    Completion,
    GoldLabel,
    ImportRun,
    Job,
    Labeling,
    LabelingStep,
    Problem,
    QueueItem,
    Rating,
    Solution,
    SolutionScore,
    User,
)
from prm_backend.errors import FormatError
from prm_backend.formats import detect_format, read_records
from prm_backend.types import SolutionRecord

# Small enough that a chunk's transaction stays far under a second, and that its images fit in memory.
CHUNK = 50
CHUNK_BYTES = 32 * 1024 * 1024

Report = Callable[[float, float, str], None]


def stored_file(run: ImportRun) -> Path:
    return Path(settings.DATA_DIR) / "imports" / f"{run.pk}.jsonl"


def oracle_file(run: ImportRun) -> Path:
    """Ratings that only simulation may read; they are in no table."""
    return Path(settings.DATA_DIR) / "oracle" / f"{run.pk}.jsonl"


def start_import(
    campaign: Campaign,
    *,
    actor: User | None,
    upload: UploadedFile[Any] | BinaryIO,
    file_name: str = "",
    format: str = "auto",
    labels: str = "",
    wake: bool = True,
) -> ImportRun:
    """Keep a copy of the file and enqueue its import. `labels` defaults to `labelings` for PRM800K and to `ignore`
    elsewhere. Raises `Invalid` for a file of no known format, `Conflict` while another import is under way."""
    if labels and labels not in ImportRun.Labels.values:
        raise Invalid("unknown_labels", f"Labels are one of {', '.join(ImportRun.Labels.values)}, not {labels}.")
    name = Path(file_name or upload.name or "upload.jsonl").name[:255]
    run = _create_run(campaign, actor, name)
    try:
        run.sha256 = _store(upload, stored_file(run))
        run.format = format if format != "auto" else detect_format(stored_file(run))
        read_records(stored_file(run), format=run.format)  # refuses an unknown format before it reads
        run.labels = labels or (ImportRun.Labels.LABELINGS if run.format == "prm800k" else ImportRun.Labels.IGNORE)
        with transaction.atomic():
            run.save(update_fields=["sha256", "format", "labels"])
            enqueue(Job.Kind.IMPORT, campaign, params={"import_run": run.pk}, actor=actor, wake=wake)
    except FormatError as error:
        run.delete()
        raise Invalid("bad_file", f"{name}: {error}") from error
    except BaseException:
        run.delete()
        raise
    return run


def _create_run(campaign: Campaign, actor: User | None, name: str) -> ImportRun:
    try:
        with transaction.atomic():
            return ImportRun.objects.create(campaign=campaign, file_name=name, created_by=actor)
    except IntegrityError as error:
        raise Conflict("import_running", "Another file is being imported; try again when it is done.") from error


def _store(upload: UploadedFile[Any] | BinaryIO, target: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as copy:
        shutil.copyfileobj(upload, copy)
    with target.open("rb") as copy:
        return hashlib.file_digest(copy, "sha256").hexdigest()


def run_import(run: ImportRun, report: Report) -> dict[str, int]:
    """Validate the whole file, then write it chunk by chunk. Raises `FormatError` with nothing changed. An attempt that
    was cut short is cleared away first, so it may be called again."""
    if run.state == ImportRun.State.DONE:
        return dict(run.report)
    _set_state(run, ImportRun.State.VALIDATING)
    remove_rows(run)
    rows = 0
    for rows, _ in enumerate(_records(run), start=1):
        if rows % 1000 == 0:
            report(0, 0, f"checked {rows} rows")
    _set_state(run, ImportRun.State.WRITING)
    writer = ChunkWriter(run)
    with _oracle_writer(run) as keep:
        for chunk in _chunks(_records(run)):
            for image in chain.from_iterable(row.attachments for row in chunk):
                store_image(image)
            writer.write(chunk)
            keep(chunk)
            report(writer.counts["rows"], rows, f"{writer.counts['rows']} of {rows} rows written")
    return dict(writer.counts)


def _records(run: ImportRun) -> Iterator[SolutionRecord]:
    return in_protocol(read_records(stored_file(run), format=run.format), run)


def publish_import(run: ImportRun, report: dict[str, int]) -> None:
    """Make all rows of the run visible at once; call it inside the transaction that ends the job."""
    run.state, run.report, run.published_at = ImportRun.State.DONE, report, timezone.now()
    run.save(update_fields=["state", "report", "published_at"])
    Checkpoint.objects.filter(campaign=run.campaign).update(pool_scored_at=None)
    record("import", campaign=run.campaign, actor=run.created_by, subject=run.file_name, **report)
    # A grading under way looks for ungraded solutions until none is left, so it finds these too.
    with suppress(Conflict):
        enqueue(Job.Kind.GRADE, run.campaign, actor=run.created_by)


def fail_import(run: ImportRun, error: str) -> None:
    """Leave the run with its error and without its rows."""
    remove_rows(run)
    oracle_file(run).unlink(missing_ok=True)
    ImportRun.objects.filter(pk=run.pk).update(state=ImportRun.State.FAILED, error=error)


def abandoned_imports() -> list[ImportRun]:
    """Runs that no job will finish: theirs failed for good or was cancelled."""
    unfinished = Job.objects.filter(campaign=OuterRef("campaign"), kind=Job.Kind.IMPORT, state__in=Job.UNFINISHED)
    runs = ImportRun.objects.filter(~Exists(unfinished), state__in=ImportRun.UNFINISHED)
    grace = timezone.now() - datetime.timedelta(minutes=1)
    return list(runs.filter(created_at__lt=grace).exclude(state=ImportRun.State.UNDOING))


def undo_import(run: ImportRun, *, actor: User, wake: bool = True) -> Job:
    """Make a file's rows invisible and enqueue their removal. Raises `Conflict` once somebody has labeled any of its
    solutions, while a later file counts on them, and while another import is under way."""
    try:
        with transaction.atomic():
            _check_untouched(run)
            _set_state(run, ImportRun.State.UNDOING)
            record("undo import", campaign=run.campaign, actor=actor, subject=run.file_name)
            return enqueue(Job.Kind.UNDO, run.campaign, params={"import_run": run.pk}, actor=actor, wake=wake)
    except IntegrityError as error:
        raise Conflict("import_running", "Another file is being imported; try again when it is done.") from error


def _check_untouched(run: ImportRun) -> None:
    ours = Solution.objects.filter(import_run=run)
    QueueItem.objects.filter(solution__in=ours, taken=0).update(retired=True)
    if not ImportRun.objects.select_for_update().filter(pk=run.pk, state=ImportRun.State.DONE).exists():
        raise Conflict("not_done", "Only a finished import can be undone.")
    labeled = Labeling.objects.filter(solution__in=ours).exclude(import_run=run)
    if labeled.exists() or Assignment.objects.filter(solution__in=ours).exists():
        raise Conflict("labeled", "Some of its solutions have been labeled or are being labeled: it stays.")
    if ours.filter(repeated_by__state=ImportRun.State.DONE).exists():
        raise Conflict("repeated", "A later file repeats some of its solutions: undo that one first.")


def finish_undo(run: ImportRun) -> None:
    """Delete what nobody can see any more. May be called again after it was cut short."""
    remove_rows(run)
    oracle_file(run).unlink(missing_ok=True)
    _set_state(run, ImportRun.State.UNDONE)


def remove_rows(run: ImportRun) -> None:
    """Delete what a run wrote, in short transactions. Only for runs that nobody can see."""
    for labelings in _id_chunks(Labeling.objects.filter(import_run=run).values_list("pk", flat=True)):
        with transaction.atomic():
            Rating.objects.filter(labeling__in=labelings).delete()
            LabelingStep.objects.filter(labeling__in=labelings).delete()
            Labeling.objects.filter(pk__in=labelings).delete()
    GoldLabel.objects.filter(import_run=run).delete()
    run.repeated_solutions.clear()
    for solutions in _id_chunks(Solution.objects.filter(import_run=run).values_list("pk", flat=True)):
        with transaction.atomic():
            QueueItem.objects.filter(solution__in=solutions).delete()
            SolutionScore.objects.filter(solution__in=solutions).delete()
            Completion.objects.filter(solution__in=solutions).delete()
            Solution.objects.filter(pk__in=solutions).delete()
    Problem.objects.filter(import_run=run, solutions=None).delete()


@contextmanager
def _oracle_writer(run: ImportRun) -> Iterator[Callable[[Iterable[SolutionRecord]], None]]:
    """Collects the step labels of each chunk in the run's oracle file, which appears when it is whole."""
    if run.labels != ImportRun.Labels.ORACLE:
        yield lambda _chunk: None
        return
    target = oracle_file(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_suffix(".part")
    with draft.open("w") as file:

        def keep(chunk: Iterable[SolutionRecord]) -> None:
            for row in chunk:
                file.write(json.dumps({"solution": solution_digest(row), "labels": oracle_labels(row)}) + "\n")

        yield keep
    draft.replace(target)


def _set_state(run: ImportRun, state: ImportRun.State) -> None:
    run.state = state
    ImportRun.objects.filter(pk=run.pk).update(state=state)


def _chunks(records: Iterable[SolutionRecord]) -> Iterator[list[SolutionRecord]]:
    chunk: list[SolutionRecord] = []
    weight = 0
    for row in records:
        chunk.append(row)
        weight += sum(len(image.data) for image in row.attachments)
        if len(chunk) == CHUNK or weight >= CHUNK_BYTES:
            yield chunk
            chunk, weight = [], 0
    if chunk:
        yield chunk


def _id_chunks(ids: Iterable[int], size: int = 500) -> Iterator[list[int]]:
    everything = list(ids)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]
