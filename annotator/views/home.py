from __future__ import annotations

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotator.access import access_membership
from annotator.actions.people import mark_messages_read
from annotator.errors import Invalid
from annotator.models import Membership, Message
from annotator.queries.home import my_campaigns
from annotator.views.pages import PageRequest, page


@require_safe
@page
def home(request: PageRequest) -> HttpResponse:
    """My campaigns: what waits in each, and the next thing to do."""
    context = {"rows": my_campaigns(request.user), "may_create": may_create_campaigns(request)}
    return render(request, "home.html", context)


@require_POST
@page
def read_messages(request: PageRequest, slug: str) -> HttpResponseRedirect:
    """Everything up to the newest message that was on the page has been read."""
    membership = access_membership(request.user, slug)
    newest = request.POST.get("newest", "")
    message = Message.objects.filter(campaign=membership.campaign, pk=newest).first() if newest.isdecimal() else None
    if message is None or message.membership_id not in (None, membership.pk):
        raise Invalid("unknown_message", _("There is no such message."))
    mark_messages_read(membership, until=message)
    return redirect("home")


def may_create_campaigns(request: PageRequest) -> bool:
    user = request.user
    return user.is_staff or Membership.objects.filter(user=user, role=Membership.Role.MANAGER).exists()
