"""Background work: what runs, what ended how, and the buttons that start some."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotator.access import access_campaign_to_manage, access_job, access_membership
from annotator.actions.jobs import cancel_job, retry_job
from annotator.actions.learning import request_retrain, request_scoring
from annotator.errors import Invalid
from annotator.models import Job
from annotator.queries.progress import stopped_kinds, unfinished_jobs
from annotator.queries.queue import silent_queues
from annotator.views.pages import PageRequest, Role, page, page_of, show

ROWS = 50
REQUESTS = {"score": request_scoring, "retrain": request_retrain}


@require_http_methods(["GET", "HEAD", "POST"])
@page
def jobs(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    membership = access_membership(request.user, slug, Role.MANAGER)
    if request.method == "POST":
        start = REQUESTS.get(request.POST.get("do", ""))
        if start is None:
            raise Invalid("unknown_job", _("What can be started here is scoring and retraining."))
        start(membership.campaign, actor=request.user)
        return redirect("campaign", slug)
    ended = Job.objects.filter(campaign=membership.campaign).exclude(state__in=Job.UNFINISHED)
    unfinished = unfinished_jobs(membership.campaign)
    context = {
        "jobs": unfinished,
        "stopped": [job.pk for job in stopped_kinds(membership.campaign)],
        "ended": page_of(request, ended.select_related("created_by"), ROWS),
        "silent": silent_queues(timezone.now()),
        "live_seconds": 2 if unfinished else 15,
    }
    return show(request, membership, "campaign/jobs.html", "jobs", context)


@require_safe
@page
def jobs_live(request: PageRequest, slug: str) -> HttpResponse:
    campaign = access_campaign_to_manage(request.user, slug)
    unfinished = unfinished_jobs(campaign)
    context = {
        "campaign": campaign,
        "jobs": unfinished,
        "silent": silent_queues(timezone.now()),
        "live_seconds": 2 if unfinished else 15,
    }
    return render(request, "campaign/_jobs_live.html", context)


@require_POST
@page
def retry(request: PageRequest, slug: str, pk: int) -> HttpResponseRedirect:
    retry_job(access_job(request.user, slug, pk), actor=request.user)
    return redirect("jobs", slug)


@require_POST
@page
def cancel(request: PageRequest, slug: str, pk: int) -> HttpResponseRedirect:
    cancel_job(access_job(request.user, slug, pk), actor=request.user)
    return redirect("jobs", slug)
