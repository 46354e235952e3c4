"""Files that came in."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotator.access import access_import, access_membership
from annotator.actions.imports import start_import, undo_import
from annotator.errors import Refusal
from annotator.forms import ImportForm
from annotator.models import ImportRun, Job
from annotator.views.pages import PageRequest, Role, page, page_of, show

ROWS = 25
COUNTS = ("rows", "problems", "solutions", "labelings", "repeats")  # what a report starts with, in this order


@require_http_methods(["GET", "HEAD", "POST"])
@page
def imports(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    membership = access_membership(request.user, slug, Role.MANAGER)
    form = ImportForm(request.POST or None, request.FILES or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                run = start_import(
                    membership.campaign,
                    actor=request.user,
                    upload=form.cleaned_data["file"],
                    format=form.cleaned_data["format"],
                    labels=form.cleaned_data["labels"],
                )
                return redirect("import", slug, run.pk)
            except Refusal as refusal:
                form.add_error("file", refusal.message)
                status = refusal.status
    runs = ImportRun.objects.filter(campaign=membership.campaign).select_related("created_by")
    context = {"runs": page_of(request, runs, ROWS), "form": form}
    return show(request, membership, "campaign/imports.html", "imports", context, status=status)


@require_safe
@page
def import_run(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    run = access_import(request.user, slug, pk)
    return show(request, access_membership(request.user, slug), "campaign/import.html", "imports", _report(run))


@require_safe
@page
def import_live(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    run = access_import(request.user, slug, pk)
    return render(request, "campaign/_import_live.html", {"campaign": run.campaign, **_report(run)})


@require_POST
@page
def undo(request: PageRequest, slug: str, pk: int) -> HttpResponseRedirect:
    run = access_import(request.user, slug, pk)
    undo_import(run, actor=request.user)
    return redirect("import", slug, pk)


def _report(run: ImportRun) -> dict[str, Any]:
    job = Job.objects.filter(
        campaign=run.campaign, kind__in=(Job.Kind.IMPORT, Job.Kind.UNDO), params__import_run=run.pk
    ).first()
    unfinished = run.state in ImportRun.UNFINISHED
    first = {name: run.report[name] for name in COUNTS if name in run.report}
    report = [(name.replace("_", " "), count) for name, count in {**first, **dict(sorted(run.report.items()))}.items()]
    return {"run": run, "report": report, "job": job, "unfinished": unfinished, "live_seconds": 1 if unfinished else 0}
