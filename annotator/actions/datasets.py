"""Dataset versions: a canonical PRM800K file written once, a companion file with what PRM800K has no words for, their
manifest, and exports that read them."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from annotator.actions.audit import record
from annotator.dispatch import enqueue
from annotator.errors import Conflict, Invalid
from annotator.models import Campaign, DatasetVersion, Guideline, Job, Labeling, Rating, User
from annotator.queries.companion import records_with_companions
from annotator.queries.labelings import submitted_labelings
from prm_backend.formats import FORMATS, prm800k_line, read_records, written_lines
from prm_backend.types import SolutionRecord, split_of_problem

FILTERS = (
    "submitted labelings as they were last corrected, imported ones too; drafts, surplus and withdrawn labelings are "
    "no part of it; left out is what PRM800K cannot express: imported labels that name only the first error, or that "
    "end before the solution does; labelings of single steps (targeted) only where they were asked for"
)
COMPANION = "companion"


class WrittenFile:
    """A file while it is written line by line, with the hash of its bytes. It is on the disk when its block ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._digest = hashlib.sha256()

    def __enter__(self) -> WrittenFile:
        return self

    def __exit__(self, *_raised: object) -> None:
        with self._file as file:
            file.flush()
            os.fsync(file.fileno())

    def write(self, line: str) -> None:
        data = f"{line}\n".encode()
        self._file.write(data)
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


@dataclass
class Draft:
    """Written files that no version points to yet."""

    campaign: Campaign
    path: Path
    companion: Path
    include_targeted: bool
    sha256: str = ""
    companion_sha256: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    left_out: dict[str, int] = field(default_factory=dict)


def companion_file(version: DatasetVersion) -> Path:
    return _companion_of(version.path)


def _companion_of(path: Path) -> Path:
    return path.with_suffix(".companion.jsonl")


def expressible(labelings: QuerySet[Labeling]) -> QuerySet[Labeling]:
    """Those that PRM800K has words for. Targeted labelings pass: they leave only where they are asked for, and one that
    found no error has no finish reason in its record."""
    not_bad = Rating.objects.filter(labeling=OuterRef("pk"), not_bad=True)
    return labelings.filter(~Exists(not_bad)).exclude(finish_reason="", scope=Labeling.Scope.WHOLE)


def _last_labeling(campaign: Campaign) -> int:
    last = Labeling.objects.filter(campaign=campaign).order_by("-pk").values_list("pk", flat=True).first()
    return last or 0


def request_dataset(
    campaign: Campaign,
    *,
    actor: User | None,
    wake: bool = True,
    include_simulated: bool = False,
    include_targeted: bool = False,
) -> Job:
    """Enqueue a new dataset version of everything submitted so far, targeted labelings only where they are asked for.
    Raises `Conflict` for a campaign of simulated labelers unless it is asked for by name."""
    if campaign.simulated and not include_simulated:
        raise Conflict("simulated", "This campaign holds simulated labels, not people's.")
    params = {"include_targeted": include_targeted}
    return enqueue(Job.Kind.DATASET, campaign, params=params, actor=actor, wake=wake)


def write_draft(campaign: Campaign, *, include_targeted: bool = False) -> Draft:
    """Stream the campaign's records and their companions into files beside the versions. Memory does not grow with
    their number."""
    folder = Path(settings.DATA_DIR) / "datasets" / campaign.slug
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".draft.{os.getpid()}"
    draft = Draft(campaign, path, path.with_name(f"{path.name}.{COMPANION}"), include_targeted)
    submitted = submitted_labelings(campaign).filter(pk__lte=_last_labeling(campaign))
    wanted = submitted if include_targeted else submitted.exclude(scope=Labeling.Scope.TARGETED)
    chosen = expressible(wanted)
    wanted_count = wanted.count()
    draft.left_out = {
        "not expressible in PRM800K": wanted_count - chosen.count(),
        "targeted": submitted.count() - wanted_count,
    }
    with WrittenFile(draft.path) as records, WrittenFile(draft.companion) as companions:
        for row, beside in records_with_companions(chosen):
            records.write(prm800k_line(row))
            companions.write(json.dumps(beside))
            _count(draft.counts, row)
            draft.counts["targeted"] += beside["scope"] == Labeling.Scope.TARGETED
    draft.sha256, draft.companion_sha256 = records.sha256, companions.sha256
    draft.counts = +draft.counts
    return draft


@transaction.atomic
def publish(draft: Draft, *, actor: User | None) -> DatasetVersion:
    """Number the draft and move its files there. Numbers have no gaps: the campaign's row is locked meanwhile."""
    campaign = Campaign.objects.select_for_update(no_key=True).get(pk=draft.campaign.pk)
    last = DatasetVersion.objects.filter(campaign=campaign).order_by("-number").first()
    number = last.number + 1 if last else 1
    file = f"datasets/{campaign.slug}/v{number:04d}.jsonl"
    target = Path(settings.DATA_DIR) / file
    draft.companion.replace(_companion_of(target))
    draft.path.replace(target)
    version = DatasetVersion.objects.create(
        campaign=campaign,
        number=number,
        file=file,
        sha256=draft.sha256,
        manifest=_manifest(campaign, number, draft),
        created_by=actor,
    )
    record("write dataset", campaign=campaign, actor=actor, subject=f"version {number}", sha256=draft.sha256)
    return version


def export_lines(version: DatasetVersion, format: str = "prm800k") -> Iterator[str]:
    """The version in a format, or its companion, line by line. Raises `Invalid` for a format that cannot be written and
    for a file that is not there."""
    writable = [*(name for name, known in FORMATS.items() if known.write), COMPANION]
    if format not in writable:
        raise Invalid("unknown_format", f"Formats are {', '.join(writable)}, not {format}.")
    if format == COMPANION:
        if not companion_file(version).exists():
            raise Invalid("file_missing", f"Dataset {version.number} has no companion file in the data folder.")
        return _lines(companion_file(version))
    if not version.path.exists():
        raise Invalid("file_missing", f"The file of dataset {version.number} is not in the data folder.")
    if format == "prm800k":
        return _lines(version.path)
    if version.path.stat().st_size == 0:
        return iter(())
    return written_lines(read_records(version.path, format="prm800k"), format=format)


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        yield from file


def _count(counts: Counter[str], row: SolutionRecord) -> None:
    assert row.labeling is not None, "only labelings are exported"
    counts["records"] += 1
    counts[f"phase {row.phase}"] += 1
    counts[f"split {split_of_problem(row.problem)}"] += 1
    counts[f"finish {row.labeling.finish_reason or 'none'}"] += 1
    for step in row.labeling.steps:
        completions = step.completions or ()
        counts["alternatives"] += max(len(completions) - 1, 0) if row.phase == 2 else 0
        counts["human completions"] += step.human_completion is not None
        for completion in completions:
            counts["rating none" if completion.rating is None else f"rating {completion.rating:+d}"] += 1


def _manifest(campaign: Campaign, number: int, draft: Draft) -> dict[str, Any]:
    guideline = Guideline.objects.filter(campaign=campaign).order_by("-version").first()
    generation = campaign.generations.order_by("-number").first()
    return {
        "campaign": campaign.slug,
        "version": number,
        "format": "prm800k",
        "sha256": draft.sha256,
        "companion_sha256": draft.companion_sha256,
        "counts": dict(sorted(draft.counts.items())),
        "left_out": draft.left_out,
        "filters": FILTERS,
        "include_targeted": draft.include_targeted,
        "simulated": campaign.simulated,
        "guideline": guideline.version if guideline else None,
        "checkpoint": campaign.checkpoint.number if campaign.checkpoint else None,
        "generation": generation.number if generation else None,
    }
