"""A campaign as its manager sees it: the overview, its settings and its guideline."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotator.access import access_campaign_to_manage, access_membership
from annotator.actions import campaigns
from annotator.actions.pipeline import new_labelings
from annotator.errors import Forbidden, Invalid, Refusal
from annotator.forms import CampaignForm, NewCampaignForm
from annotator.models import Campaign, Generation, Job, Membership
from annotator.queries.learning import figure_rows, learning_curve
from annotator.queries.progress import (
    arm_progress,
    judged_steps,
    pace,
    stopped_kinds,
    unfinished_jobs,
    waiting_for_managers,
)
from annotator.queries.queue import silent_queues
from annotator.queries.totals import campaign_totals
from annotator.views.charts import learning_chart, spark_bars
from annotator.views.home import may_create_campaigns
from annotator.views.pages import PageRequest, Role, page, show


@require_http_methods(["GET", "HEAD", "POST"])
@page
def create(request: PageRequest) -> HttpResponse:
    if not may_create_campaigns(request):
        raise Forbidden("not_a_manager", _("Only managers create campaigns. Ask one to make you a manager."))
    form = NewCampaignForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                campaign = campaigns.create_campaign(actor=request.user, **form.values())
                return redirect("campaign", campaign.slug)
            except Refusal as refusal:
                form.add_error(None, refusal.message)
                status = refusal.status
    return render(request, "campaign_create.html", {"form": form}, status=status)


@require_safe
@page
def overview(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    """How far, how fast, how good, what next. Labelers and researchers are sent to their own pages."""
    membership = access_membership(request.user, slug)
    if membership.role != Role.MANAGER:
        return redirect("label" if membership.role == Role.LABELER else "datasets", slug)
    campaign = membership.campaign
    return show(request, membership, "campaign/overview.html", "campaign", _live(campaign))


@require_safe
@page
def overview_live(request: PageRequest, slug: str) -> HttpResponse:
    """The part of the overview that changes by itself."""
    campaign = access_campaign_to_manage(request.user, slug)
    return render(request, "campaign/_overview_live.html", {"campaign": campaign, **_live(campaign)})


def _live(campaign: Campaign) -> dict[str, Any]:
    now = timezone.now()
    speed = pace(campaign, now)
    jobs = unfinished_jobs(campaign)
    generation = Generation.objects.filter(campaign=campaign, closed_at=None).first()
    totals = campaign_totals(campaign)
    arms = arm_progress(generation) if generation else []
    wanted = sum(arm.wanted for arm in arms)
    fresh = new_labelings(campaign)
    return {
        "totals": totals,
        "generation": generation,
        "arms": arms,
        "wanted": wanted,
        "done": sum(arm.done for arm in arms),
        "judged_steps": judged_steps(campaign),
        "pace": speed,
        "spark": spark_bars(speed.by_day),
        "figures": dict(figure_rows(campaign.checkpoint)) if campaign.checkpoint else {},
        "chart": learning_chart(learning_curve(campaign)),
        "retraining": any(job.kind == Job.Kind.RETRAIN for job in jobs),
        "fresh_labelings": min(fresh, campaign.retrain_after),
        "until_retrain": max(campaign.retrain_after - fresh, 0),
        "jobs": jobs,
        "stopped": stopped_kinds(campaign),
        "waiting": waiting_for_managers(campaign),
        "silent": silent_queues(now),
        "members": campaign.memberships.filter(role=Role.LABELER, state=Membership.State.ACTIVE).count(),
        "live_seconds": 2 if jobs else 15,
    }


STATUS_ACTIONS = {
    "activate": campaigns.activate_campaign,
    "pause": campaigns.pause_campaign,
    "finish": campaigns.finish_campaign,
}


@require_POST
@page
def set_status(request: PageRequest, slug: str) -> HttpResponseRedirect:
    campaign = access_campaign_to_manage(request.user, slug)
    action = STATUS_ACTIONS.get(request.POST.get("do", ""))
    if action is None:
        raise Invalid("unknown_action", _("A campaign can be activated, paused or finished."))
    action(campaign, actor=request.user)
    return redirect("campaign", slug)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def settings(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    membership = access_membership(request.user, slug, Role.MANAGER)
    form = CampaignForm(request.POST or None, instance=Campaign.objects.get(pk=membership.campaign.pk))
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                campaigns.update_campaign(membership.campaign, actor=request.user, **form.values())
                messages.success(request, _("Saved. The open generation keeps the policy it was released with."))
                return redirect("campaign_settings", slug)
            except Refusal as refusal:
                form.add_error(None, refusal.message)
                status = refusal.status
    return show(request, membership, "campaign/settings.html", "campaign_settings", {"form": form}, status=status)
