"""What labelers reported, as one list that managers work off."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from annotator.access import access_campaign_to_manage, access_membership, access_report
from annotator.actions import reports as actions
from annotator.errors import Invalid
from annotator.forms import ReportForm
from annotator.models import Campaign, QueueItem, Report
from annotator.views.pages import PageRequest, Role, page, page_of, show

ROWS = 25


@require_safe
@page
def reports(request: PageRequest, slug: str) -> HttpResponse:
    """All kinds in one list, the open ones first asked for; `?kind=` and `?state=` filter."""
    membership = access_membership(request.user, slug, Role.MANAGER)
    campaign = membership.campaign
    state = Report.State.CLOSED if request.GET.get("state") == Report.State.CLOSED else Report.State.OPEN
    kind = request.GET.get("kind", "")
    rows = Report.objects.filter(campaign=campaign, state=state)
    if kind in Report.Kind.values:
        rows = rows.filter(kind=kind)
    found = page_of(
        request,
        rows.select_related(
            "labeling__membership__user",
            "labeling__solution__problem",
            "labeling__assignment__item",
            "completion",
            "closed_by",
        ),
        ROWS,
    )
    counts = _counts(campaign)
    context = {
        "rows": found,
        "state": state,
        "kind": kind if kind in Report.Kind.values else "",
        "kinds": [(value, label, counts.get((value, state), 0)) for value, label in Report.Kind.choices],
        "open": sum(n for (_, row_state), n in counts.items() if row_state == Report.State.OPEN),
        "closed": sum(n for (_, row_state), n in counts.items() if row_state == Report.State.CLOSED),
        "in_review": _in_review(campaign, found),
    }
    return show(request, membership, "campaign/reports.html", "reports", context)


def _counts(campaign: Campaign) -> dict[tuple[str, str], int]:
    rows = Report.objects.filter(campaign=campaign).order_by().values_list("kind", "state").annotate(Count("pk"))
    return {(kind, state): count for kind, state, count in rows}


def _in_review(campaign: Campaign, rows: Any) -> set[int]:
    """The solutions on this page that wait for a reviewer."""
    solutions = [report.labeling.solution_id for report in rows if report.kind == Report.Kind.GIVE_UP]
    waiting = QueueItem.objects.filter(
        campaign=campaign, retired=False, lane=QueueItem.Lane.REVIEW, solution__in=solutions
    )
    return set(waiting.values_list("solution", flat=True)) if solutions else set()


@require_POST
@page
def settle(request: PageRequest, slug: str, pk: int) -> HttpResponseRedirect:
    """What is to become of one report."""
    report = access_report(request.user, slug, pk)
    form = ReportForm(request.POST)
    if not form.is_valid():
        raise Invalid("unknown_act", _("This is not what can be done with a report."))
    answer, actor = form.cleaned_data["answer"], request.user
    match form.cleaned_data["do"]:
        case "close":
            actions.close_reports(report.campaign, [report.pk], actor=actor, answer=answer)
        case "release":
            actions.release_problem(report, actor=actor, answer=answer)
        case "keep_out":
            actions.keep_problem_out(report, actor=actor, answer=answer)
        case "correct":
            actions.correct_answer(report, actor=actor, answer=answer, corrected=form.cleaned_data["corrected"])
        case "return":
            actions.return_to_labelers(report, actor=actor, answer=answer)
    messages.success(request, _("Settled; the labeler is told.") if answer else _("Settled."))
    return _back(request, slug)


@require_POST
@page
def close_many(request: PageRequest, slug: str) -> HttpResponseRedirect:
    """Close what the page showed, without a word."""
    campaign = access_campaign_to_manage(request.user, slug)
    ids = [int(pk) for pk in request.POST.getlist("report") if pk.isascii() and pk.isdigit() and len(pk) < 19]
    closed = actions.close_reports(campaign, ids, actor=request.user)
    messages.success(request, ngettext("%(n)s report closed.", "%(n)s reports closed.", closed) % {"n": closed})
    return _back(request, slug)


def _back(request: PageRequest, slug: str) -> HttpResponseRedirect:
    """To the list as it was filtered."""
    asked = {name: request.POST[name] for name in ("kind", "state") if request.POST.get(name)}
    return redirect(reverse("reports", args=[slug]) + (f"?{urlencode(asked)}" if asked else ""))
