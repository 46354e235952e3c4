"""Dataset versions: a canonical PRM800K file written once, its manifest, and exports that read it."""

from __future__ import annotations

import hashlib
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
from annotator.queries.labelings import submitted_labelings
from annotator.queries.records import records_of
from prm_backend.formats import FORMATS, prm800k_line, read_records, written_lines
from prm_backend.types import SolutionRecord, split_of_problem

FILTERS = (
    "submitted labelings, imported ones too; drafts, surplus and withdrawn labelings are no part of it; left out is "
    "what PRM800K cannot express: imported labels that name only the first error, or that end before the solution does"
)


@dataclass
class Draft:
    """A written file that no version points to yet."""

    campaign: Campaign
    path: Path
    sha256: str = ""
    counts: Counter[str] = field(default_factory=Counter)
    left_out: int = 0


def expressible(labelings: QuerySet[Labeling]) -> QuerySet[Labeling]:
    """Those that PRM800K has words for."""
    not_bad = Rating.objects.filter(labeling=OuterRef("pk"), not_bad=True)
    return labelings.filter(~Exists(not_bad)).exclude(finish_reason="")


def _last_labeling(campaign: Campaign) -> int:
    last = Labeling.objects.filter(campaign=campaign).order_by("-pk").values_list("pk", flat=True).first()
    return last or 0


def request_dataset(
    campaign: Campaign, *, actor: User | None, wake: bool = True, include_simulated: bool = False
) -> Job:
    """Enqueue a new dataset version of everything submitted so far. Raises `Conflict` for a campaign of simulated
    labelers unless it is asked for by name."""
    if campaign.simulated and not include_simulated:
        raise Conflict("simulated", "This campaign holds simulated labels, not people's.")
    return enqueue(Job.Kind.DATASET, campaign, actor=actor, wake=wake)


def write_draft(campaign: Campaign) -> Draft:
    """Stream the campaign's records into a file beside the versions. Memory does not grow with their number."""
    folder = Path(settings.DATA_DIR) / "datasets" / campaign.slug
    folder.mkdir(parents=True, exist_ok=True)
    draft = Draft(campaign, folder / f".draft.{os.getpid()}")
    digest = hashlib.sha256()
    submitted = submitted_labelings(campaign).filter(pk__lte=_last_labeling(campaign))
    chosen = expressible(submitted)
    draft.left_out = submitted.count() - chosen.count()
    with draft.path.open("wb") as file:
        for row in records_of(chosen):
            line = (prm800k_line(row) + "\n").encode()
            file.write(line)
            digest.update(line)
            _count(draft.counts, row)
        file.flush()
        os.fsync(file.fileno())
    draft.sha256 = digest.hexdigest()
    return draft


@transaction.atomic
def publish(draft: Draft, *, actor: User | None) -> DatasetVersion:
    """Number the draft and move it to its place. Numbers have no gaps: the campaign's row is locked meanwhile."""
    campaign = Campaign.objects.select_for_update().get(pk=draft.campaign.pk)
    last = DatasetVersion.objects.filter(campaign=campaign).order_by("-number").first()
    number = last.number + 1 if last else 1
    file = f"datasets/{campaign.slug}/v{number:04d}.jsonl"
    draft.path.replace(Path(settings.DATA_DIR) / file)
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
    """The version in a format, line by line. Raises `Invalid` for a format that cannot be written."""
    writable = [name for name, known in FORMATS.items() if known.write]
    if format not in writable:
        raise Invalid("unknown_format", f"Formats are {', '.join(writable)}, not {format}.")
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
    counts[f"finish {row.labeling.finish_reason}"] += 1
    for step in row.labeling.steps:
        for completion in step.completions or ():
            counts["rating none" if completion.rating is None else f"rating {completion.rating:+d}"] += 1


def _manifest(campaign: Campaign, number: int, draft: Draft) -> dict[str, Any]:
    guideline = Guideline.objects.filter(campaign=campaign).order_by("-version").first()
    generation = campaign.generations.order_by("-number").first()
    return {
        "campaign": campaign.slug,
        "version": number,
        "format": "prm800k",
        "sha256": draft.sha256,
        "counts": dict(sorted(draft.counts.items())),
        "left_out": {"not expressible in PRM800K": draft.left_out},
        "filters": FILTERS,
        "simulated": campaign.simulated,
        "guideline": guideline.version if guideline else None,
        "checkpoint": campaign.checkpoint.number if campaign.checkpoint else None,
        "generation": generation.number if generation else None,
    }
