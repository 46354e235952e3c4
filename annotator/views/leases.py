"""Who holds what."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from annotator.access import access_lease, access_membership
from annotator.actions.queue import free_lease
from annotator.queries.leases import held_leases
from annotator.views.pages import PageRequest, Role, page, page_of, show

ROWS = 50


@require_safe
@page
def leases(request: PageRequest, slug: str) -> HttpResponse:
    membership = access_membership(request.user, slug, Role.MANAGER)
    rows = page_of(request, held_leases(membership.campaign), ROWS)
    return show(request, membership, "campaign/leases.html", "leases", {"rows": rows})


@require_POST
@page
def free(request: PageRequest, slug: str, assignment_id: UUID) -> HttpResponseRedirect:
    """Give a solution back to the queue in its labeler's place. What they said so far is kept."""
    assignment = access_lease(request.user, slug, assignment_id)
    free_lease(assignment, actor=request.user)
    messages.success(request, _("The solution is open to others again."))
    return redirect("leases", slug)
