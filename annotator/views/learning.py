"""Generations, their items, and checkpoints: what was selected, why, and whether it helped."""

from __future__ import annotations

from django.db.models import Count
from django.http import HttpResponse
from django.views.decorators.http import require_safe

from annotator.access import access_checkpoint, access_generation, access_membership, access_queue_item
from annotator.models import Assignment, QueueItem
from annotator.queries.learning import (
    ASSIGNMENTS,
    LABELINGS,
    figure_rows,
    learning_curve,
    ranked_items,
    solution_view,
    standing_of,
)
from annotator.queries.progress import arm_progress, generation_rows
from annotator.templatetags.stepmark import why_selected
from annotator.views.charts import difference_interval, learning_chart
from annotator.views.pages import PageRequest, Role, page, page_of, show

ITEMS = 50


@require_safe
@page
def generations(request: PageRequest, slug: str) -> HttpResponse:
    membership = access_membership(request.user, slug, Role.MANAGER)
    rows = generation_rows(membership.campaign)
    return show(request, membership, "campaign/generations.html", "generations", {"rows": rows})


@require_safe
@page
def generation(request: PageRequest, slug: str, number: int) -> HttpResponse:
    """The items of a generation, each with why it was chosen and what people made of it."""
    found = access_generation(request.user, slug, number)
    items = ranked_items(found).prefetch_related(ASSIGNMENTS, LABELINGS)
    arm = request.GET.get("arm", "")
    if arm in QueueItem.Arm.values:
        items = items.filter(arm=arm)
    counts = dict(QueueItem.objects.filter(generation=found).values_list("arm").annotate(Count("pk")))
    context = {
        "generation": found,
        "arm": arm,
        "arms": [(value, counts[value]) for value in QueueItem.Arm.values if value in counts],
        "total": sum(counts.values()),
        "progress": arm_progress(found),
        "items": page_of(request, items, ITEMS),
    }
    return show(request, access_membership(request.user, slug), "campaign/generation.html", "generations", context)


@require_safe
@page
def queue_item(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """One solution: the PRM's p(−) as a strip of shades, what people said under it."""
    item = access_queue_item(request.user, slug, pk)
    standing, picks = standing_of(item)
    held = item.assignments.filter(state=Assignment.State.ACTIVE).select_related("membership__user")
    context = {"item": item, "why": why_selected(item, standing, picks), "held": held, "view": solution_view(item)}
    return show(request, access_membership(request.user, slug), "campaign/queue_item.html", "generations", context)


@require_safe
@page
def checkpoints(request: PageRequest, slug: str) -> HttpResponse:
    membership = access_membership(request.user, slug, Role.MANAGER)
    rows = [(row, dict(figure_rows(row))) for row in membership.campaign.checkpoints.order_by("-number")]
    context = {"rows": rows, "chart": learning_chart(learning_curve(membership.campaign))}
    return show(request, membership, "campaign/checkpoints.html", "checkpoints", context)


@require_safe
@page
def checkpoint(request: PageRequest, slug: str, number: int) -> HttpResponse:
    """The gate's verdict in words, then the figures beside their baselines."""
    found = access_checkpoint(request.user, slug, number)
    context = {
        "checkpoint": found,
        "figures": figure_rows(found),
        "interval": difference_interval(found.gate),
    }
    return show(request, access_membership(request.user, slug), "campaign/checkpoint.html", "checkpoints", context)
