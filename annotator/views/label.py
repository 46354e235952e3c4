"""The labeling page: a frame around the first item; the page's modules do the rest through the API."""

from __future__ import annotations

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from annotator.access import access_campaign_to_label
from annotator.actions.queue import claim_next
from annotator.models import Guideline
from annotator.queries.progress import labelings_today
from annotator.queries.queue import item_payload, why_empty
from annotator.views.pages import PageRequest, page

GIVE_UP_REASONS = (
    _("I do not know this area"),
    _("The guideline does not cover it"),
    _("Too hard to check"),
    _("Something does not display"),
)
BAD_PROBLEM_REASONS = (
    _("It needs something that is not shown"),
    _("It is false or makes no sense"),
    _("It asks nothing definite"),
    _("It is several problems in one"),
)


@require_safe
@ensure_csrf_cookie
@page
def label(request: PageRequest, slug: str) -> HttpResponse:
    membership = access_campaign_to_label(request.user, slug)
    assignment = claim_next(membership)
    state = {
        "campaign": slug,
        "person": membership.pk,
        "today": labelings_today(membership, timezone.now()),
        "item": item_payload(assignment) if assignment else None,
        "empty": None if assignment else why_empty(membership).as_dict(),
    }
    context = {
        "campaign": membership.campaign,
        "membership": membership,
        "state": state,
        "guideline": Guideline.objects.filter(campaign=membership.campaign).first(),
        "reasons": [
            ("give_up", _("Give up"), _("Why can you not judge this solution?"), GIVE_UP_REASONS),
            ("bad_problem", _("Bad problem"), _("What is wrong with the problem?"), BAD_PROBLEM_REASONS),
        ],
    }
    response = render(request, "label/page.html", context)
    response["Cache-Control"] = "no-store"
    return response
