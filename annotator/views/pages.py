"""What every page shares: who may come, how a refusal looks, and the frame of a campaign around the content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from annotator.access import access_membership
from annotator.errors import Refusal
from annotator.models import Membership, User

P = ParamSpec("P")
Role = Membership.Role

EVERYBODY = (Role.LABELER, Role.RESEARCHER, Role.MANAGER)
SECTIONS = (
    ("campaign", _("Overview"), (Role.MANAGER,)),
    ("label", _("Label"), (Role.LABELER, Role.MANAGER)),
    ("history", _("History"), (Role.LABELER,)),
    ("reports", _("Reports"), (Role.MANAGER,)),
    ("generations", _("Generations"), (Role.MANAGER,)),
    ("checkpoints", _("Checkpoints"), (Role.MANAGER,)),
    ("datasets", _("Datasets"), (Role.RESEARCHER, Role.MANAGER)),
    ("imports", _("Imports"), (Role.MANAGER,)),
    ("members", _("Members"), (Role.MANAGER,)),
    ("leases", _("Leases"), (Role.MANAGER,)),
    ("jobs", _("Jobs"), (Role.MANAGER,)),
    ("guideline", _("Guideline"), EVERYBODY),
    ("campaign_settings", _("Settings"), (Role.MANAGER,)),
)


class PageRequest(HttpRequest):
    """A request of somebody who has logged in."""

    user: User


def page(
    view: Callable[Concatenate[PageRequest, P], HttpResponseBase],
) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """A page for people who have logged in. A `Refusal` that the view lets through becomes a page with its sentence."""

    @wraps(view)
    def guarded(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            # What was sent is lost, and its address may answer to nothing but a POST.
            return redirect_to_login(reverse("home") if request.method == "POST" else request.get_full_path())
        person = cast(PageRequest, request)
        try:
            return view(person, *args, **kwargs)
        except Refusal as refusal:
            return refused(person, refusal, slug=cast("str | None", kwargs.get("slug")))

    return guarded


def refused(request: PageRequest, refusal: Refusal, *, slug: str | None) -> HttpResponse:
    frame = campaign_frame(access_membership(request.user, slug), "") if slug else {}
    return render(request, "refusal.html", {**frame, "refusal": refusal}, status=refusal.status)


def campaign_frame(membership: Membership, section: str) -> dict[str, Any]:
    """The context of templates that extend `campaign/frame.html`."""
    return {
        "campaign": membership.campaign,
        "membership": membership,
        "section": section,
        "sections": [(name, title) for name, title, roles in SECTIONS if membership.role in roles],
    }


def show(
    request: PageRequest,
    membership: Membership,
    template: str,
    section: str,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    """Render a page of a campaign."""
    return render(request, template, {**campaign_frame(membership, section), **context}, status=status)


def page_of(request: HttpRequest, rows: QuerySet[Any] | Sequence[Any], size: int) -> Page[Any]:
    """The page that `?page=` asks for; the nearest one where it asks for nonsense."""
    return Paginator(rows, size).get_page(request.GET.get("page"))
