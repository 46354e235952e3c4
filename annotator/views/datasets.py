"""Dataset versions: written by a job, read like a dataset card, downloaded line by line."""

from __future__ import annotations

import json
from itertools import islice

from django.http import HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from annotator.access import access_campaign_to_research, access_dataset_version, access_membership
from annotator.actions.datasets import companion_file, export_lines, request_dataset
from annotator.models import DatasetVersion, Job, Labeling
from annotator.queries.labelings import submitted_labelings
from annotator.views.pages import PageRequest, Role, page, page_of, show
from prm_backend.formats import FORMATS
from prm_backend.formats.field import Field
from prm_backend.types import SolutionRecord

VERSIONS = 25
RECORDS = 3


@require_http_methods(["GET", "HEAD", "POST"])
@page
def datasets(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    membership = access_membership(request.user, slug, Role.RESEARCHER, Role.MANAGER)
    if request.method == "POST":
        include_targeted = "include_targeted" in request.POST
        request_dataset(membership.campaign, actor=request.user, include_targeted=include_targeted)
        return redirect("datasets", slug)
    versions = DatasetVersion.objects.filter(campaign=membership.campaign).select_related("created_by")
    job = Job.objects.filter(campaign=membership.campaign, kind=Job.Kind.DATASET, state__in=Job.UNFINISHED).first()
    labelings = submitted_labelings(membership.campaign)
    context = {
        "versions": page_of(request, versions, VERSIONS),
        "job": job,
        "labelings": labelings.count(),
        "has_targeted": labelings.filter(scope=Labeling.Scope.TARGETED).exists(),
    }
    return show(request, membership, "campaign/datasets.html", "datasets", context)


@require_safe
@page
def dataset(request: PageRequest, slug: str, number: int) -> HttpResponse:
    version = access_dataset_version(request.user, slug, number)
    records = version.manifest.get("counts", {}).get("records", 0)
    pages = page_of(request, range(records), RECORDS)
    context = {
        "version": version,
        "counts": version.manifest.get("counts", {}),
        "pages": pages,
        "records": _records(version, pages.start_index(), RECORDS),
        "missing": not version.path.exists(),
        "has_companion": companion_file(version).exists(),
        "formats": [(name, known.about) for name, known in FORMATS.items() if known.write],
        "manifest_text": json.dumps(version.manifest, indent=2, ensure_ascii=False),
        "host": request.build_absolute_uri("/").rstrip("/"),
    }
    return show(request, access_membership(request.user, slug), "campaign/dataset.html", "datasets", context)


def _records(version: DatasetVersion, first: int, count: int) -> list[tuple[int, SolutionRecord]]:
    """Records `first`, `first` + 1, … of a version's file, counted from 1. Lines before them are skipped unread."""
    parse = FORMATS["prm800k"].parse
    if not (first and version.path.exists() and parse):
        return []
    with version.path.open(encoding="utf-8") as file:
        lines = list(islice(file, first - 1, first - 1 + count))
    return [(number, parse(Field(json.loads(line), number))) for number, line in enumerate(lines, start=first)]


@require_safe
@page
def download(request: PageRequest, slug: str, number: int) -> StreamingHttpResponse:
    campaign = access_campaign_to_research(request.user, slug)
    version = access_dataset_version(request.user, slug, number)
    format = request.GET.get("format", "prm800k")
    lines = export_lines(version, format)
    name = f"{campaign.slug}-v{number}.{format}.jsonl"
    return StreamingHttpResponse(
        lines, content_type="application/jsonl", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
