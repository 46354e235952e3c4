"""The people of a campaign."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from annotator.access import access_membership
from annotator.actions import people
from annotator.errors import Conflict, Invalid, Refusal
from annotator.forms import MemberForm, MemberStateForm
from annotator.models import Membership
from annotator.queries.progress import member_rows
from annotator.views.pages import PageRequest, Role, page, show


@require_http_methods(["GET", "HEAD", "POST"])
@page
def members(request: PageRequest, slug: str) -> HttpResponse:
    """List and add. A one-time password is in the answer to the request that made it, and nowhere else."""
    membership = access_membership(request.user, slug, Role.MANAGER)
    form = MemberForm(request.POST or None)
    if request.method != "POST":
        return _list(request, membership, form)
    if not form.is_valid():
        return _list(request, membership, form, status=400)
    try:
        added, password = people.add_member(
            membership.campaign,
            actor=request.user,
            username=form.cleaned_data["username"],
            email=form.cleaned_data["email"],
            role=Membership.Role(form.cleaned_data["role"]),
        )
    except Refusal as refusal:
        form.add_error(None, refusal.message)
        return _list(request, membership, form, status=refusal.status)
    return _list(request, membership, MemberForm(), added=added, password=password)


@require_POST
@page
def set_state(request: PageRequest, slug: str, pk: int) -> HttpResponseRedirect:
    membership = access_membership(request.user, slug, Role.MANAGER)
    form = MemberStateForm(request.POST)
    if not form.is_valid():
        raise Invalid("unknown_state", "A member is active or paused.")
    other = _member(membership, pk)
    if other.pk == membership.pk:
        raise Conflict("yourself", "You cannot pause yourself: somebody has to be able to undo it.")
    people.set_member_state(
        other,
        actor=request.user,
        state=Membership.State(form.cleaned_data["state"]),
        reason=form.cleaned_data["reason"],
    )
    return redirect("members", slug)


@require_POST
@page
def renew_password(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    membership = access_membership(request.user, slug, Role.MANAGER)
    other = _member(membership, pk)
    password = people.renew_one_time_password(other, actor=request.user)
    return _list(request, membership, MemberForm(), added=other, password=password)


def _member(membership: Membership, pk: int) -> Membership:
    found = Membership.objects.filter(campaign=membership.campaign, pk=pk).select_related("user", "campaign").first()
    if found is None:
        raise Http404("No such member.")
    return found


def _list(
    request: PageRequest, membership: Membership, form: MemberForm, *, status: int = 200, **more: Any
) -> HttpResponse:
    rows = member_rows(membership.campaign, timezone.now())
    response = show(
        request, membership, "campaign/members.html", "members", {"rows": rows, "form": form, **more}, status=status
    )
    if more.get("password"):
        response["Cache-Control"] = "no-store"
    return response
