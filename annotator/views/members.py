"""The people of a campaign."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from annotator.access import access_campaign_to_manage, access_member, access_membership
from annotator.actions import people
from annotator.errors import Conflict, Invalid, Refusal
from annotator.forms import MemberForm, MemberStateForm, MessageForm
from annotator.models import Membership, Message
from annotator.queries.progress import member_rows
from annotator.views.pages import PageRequest, Role, page, show

SENT = 10


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
    other = access_member(request.user, slug, pk)
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
    other = access_member(request.user, slug, pk)
    password = people.renew_one_time_password(other, actor=request.user)
    return _list(request, membership, MemberForm(), added=other, password=password)


@require_POST
@page
def message(request: PageRequest, slug: str) -> HttpResponse:
    """Write to one labeler or to all."""
    campaign = access_campaign_to_manage(request.user, slug)
    form = MessageForm(request.POST, campaign=campaign)
    if not form.is_valid():
        return _list(request, access_membership(request.user, slug), MemberForm(), status=400, message_form=form)
    to = form.cleaned_data["to"]
    people.send_message(campaign, actor=request.user, text=form.cleaned_data["text"], to=to)
    messages.success(request, _("Sent to %(who)s.") % {"who": to.user} if to else _("Sent to all labelers."))
    return redirect("members", slug)


def _list(
    request: PageRequest, membership: Membership, form: MemberForm, *, status: int = 200, **more: Any
) -> HttpResponse:
    rows = member_rows(membership.campaign)
    context = {
        "rows": rows,
        "form": form,
        "message_form": MessageForm(campaign=membership.campaign),
        "sent": Message.objects.filter(campaign=membership.campaign).select_related("membership__user", "author")[
            :SENT
        ],
        **more,
    }
    response = show(request, membership, "campaign/members.html", "members", context, status=status)
    if more.get("password"):
        response["Cache-Control"] = "no-store"
    return response
