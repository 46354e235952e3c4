"""The labeling page: a frame around the first item; the page's modules do the rest through the API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import FileResponse, Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_POST, require_safe

from annotator.access import (
    access_assignment,
    access_attachment,
    access_campaign_to_label,
    access_campaign_to_manage,
    access_membership,
)
from annotator.actions.attachments import image_file
from annotator.actions.frontier import want_first_candidates
from annotator.actions.preferences import finish_tutorial
from annotator.actions.queue import claim_next
from annotator.models import Assignment, Membership
from annotator.queries.figures import labeler_figures
from annotator.queries.guideline import rating_words
from annotator.queries.items import item_payload, preview_payloads
from annotator.queries.progress import labelings_today
from annotator.queries.queue import why_empty
from annotator.tutorial import tutorial_items
from annotator.views.guidelines import guideline_diff
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
WRONG_ANSWER_REASONS = (
    _("Another answer is right"),
    _("It is incomplete"),
    _("It answers another question"),
)
# A year: the address holds the content's hash.
ATTACHMENT_AGE = 365 * 24 * 3600


@require_safe
@ensure_csrf_cookie
@page
def label(request: PageRequest, slug: str) -> HttpResponse | HttpResponseRedirect:
    """The person's next solution, or the one they ask for by `?assignment=` (to go on with it, or to correct it). The
    tutorial comes first, once."""
    membership = access_campaign_to_label(request.user, slug)
    asked = request.GET.get("assignment")
    if asked is None and membership.tutorial_done_at is None and not membership.assignments.exists():
        return redirect("label_tutorial", slug)
    assignment = _asked(request, membership, asked) if asked else claim_next(membership)
    if assignment is not None:
        want_first_candidates(assignment)
    item = item_payload(assignment) if assignment else None
    empty = None if assignment else why_empty(membership).as_dict()
    return _show(request, membership, {"item": item, "empty": empty})


def _asked(request: PageRequest, membership: Membership, asked: str) -> Assignment:
    try:
        assignment = access_assignment(request.user, UUID(asked))
    except ValueError:
        raise Http404("No such assignment.") from None
    if assignment.campaign_id != membership.campaign_id:
        raise Http404("No such assignment.")
    return assignment


@require_safe
@ensure_csrf_cookie
@page
def tutorial(request: PageRequest, slug: str) -> HttpResponse:
    """The page on sample items; nothing is stored."""
    membership = access_campaign_to_label(request.user, slug)
    return _show(request, membership, {"dry": "tutorial", "items": tutorial_items(membership.campaign.phase)})


@require_POST
@page
def tutorial_done(request: PageRequest, slug: str) -> HttpResponseRedirect:
    finish_tutorial(access_campaign_to_label(request.user, slug))
    return redirect("label", slug)


@require_safe
@ensure_csrf_cookie
@page
def preview(request: PageRequest, slug: str) -> HttpResponse:
    """The page as a labeler sees it, for managers: solutions of the campaign, and nothing is stored."""
    campaign = access_campaign_to_manage(request.user, slug)
    membership = access_membership(request.user, slug)
    return _show(request, membership, {"dry": "preview", "items": preview_payloads(campaign)})


def _show(request: PageRequest, membership: Membership, state: dict[str, Any]) -> HttpResponse:
    campaign = membership.campaign
    guideline = campaign.guideline
    words = rating_words(guideline)
    state = {
        "campaign": campaign.slug,
        "person": membership.pk,
        "today": labelings_today(membership, timezone.now()),
        "item": None,
        "empty": None,
        "keys": request.user.keys,
        "idle_ms": campaign.idle_minutes * 60_000,
        "guideline": {"version": guideline.version} if guideline else None,
        "words": {str(row.value): {"word": row.word, "meaning": row.meaning, "example": row.example} for row in words},
        "pace": _pace(membership) if campaign.show_pace else None,
        **state,
    }
    acknowledged = membership.guideline
    context = {
        "campaign": campaign,
        "membership": membership,
        "state": state,
        "guideline": guideline,
        "guideline_diff": guideline_diff(acknowledged, guideline)
        if acknowledged and guideline and acknowledged != guideline
        else "",
        "rating_words": words,
        "reasons": [
            ("give_up", _("Give up"), _("Why can you not judge this solution?"), GIVE_UP_REASONS),
            ("bad_problem", _("Bad problem"), _("What is wrong with the problem?"), BAD_PROBLEM_REASONS),
            ("report_answer", _("Wrong answer"), _("What is wrong with the reference answer?"), WRONG_ANSWER_REASONS),
        ],
    }
    response = render(request, "label/page.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _pace(membership: Membership) -> str | None:
    """The person's own median, for campaigns that want it shown."""
    seconds = labeler_figures(membership).seconds_per_step
    return None if seconds is None else _("%(seconds)s s a step") % {"seconds": round(seconds)}


@require_safe
@page
def attachment(request: PageRequest, slug: str, sha256: str) -> FileResponse:
    """An image of a problem, for the members of its campaign. Only images were let in, and it is served as one."""
    found = access_attachment(request.user, slug, sha256)
    file = image_file(found.sha256)
    if not file.is_file():
        raise Http404("The file of this image is not in the data folder.")
    response = FileResponse(file.open("rb"), content_type=found.content_type)
    response["Cache-Control"] = f"private, max-age={ATTACHMENT_AGE}, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
