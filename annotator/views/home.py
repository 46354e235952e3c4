from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from annotator.models import Campaign, Labeling, Membership
from annotator.views.pages import PageRequest, page


@require_safe
@page
def home(request: PageRequest) -> HttpResponse:
    """My campaigns, and the next thing to do in each."""
    memberships = list(
        Membership.objects.filter(user=request.user)
        .select_related("campaign")
        .annotate(said=Count("labelings", filter=Q(labelings__state=Labeling.State.SUBMITTED)))
        .order_by("campaign__name")
    )
    return render(
        request,
        "home.html",
        {"memberships": memberships, "may_create": may_create_campaigns(request), "status": Campaign.Status},
    )


def may_create_campaigns(request: PageRequest) -> bool:
    user = request.user
    return user.is_staff or Membership.objects.filter(user=user, role=Membership.Role.MANAGER).exists()
