"""Labelings read again: a labeler's own list, and one labeling with all that was said and done."""

from __future__ import annotations

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from annotator.access import access_campaign_to_manage, access_labeling, access_membership
from annotator.actions.labeling import withdraw_labeling
from annotator.models import Labeling
from annotator.queries.figures import labeler_figures
from annotator.queries.guideline import rating_words
from annotator.queries.history import PROGRESS_WORDS, acts_of, correctable_until, my_labelings, path_ratings, said_steps
from annotator.views.pages import PageRequest, Role, page, page_of, show

ROWS = 25


@require_safe
@page
def history(request: PageRequest, slug: str) -> HttpResponse:
    """What I said, newest first."""
    membership = access_membership(request.user, slug, Role.LABELER, Role.MANAGER)
    rows = page_of(request, my_labelings(membership), ROWS)
    context = {
        "page": rows,
        "rows": [(labeling, path_ratings(labeling), _may_correct(labeling)) for labeling in rows],
        "figures": labeler_figures(membership),
    }
    return show(request, membership, "campaign/history.html", "history", context)


@require_safe
@page
def labeling(request: PageRequest, slug: str, pk: int) -> HttpResponse:
    """One labeling: every step with its rating, the follow-ups, and each act with its time. A labeler sees what the
    labeling page showed them and no more."""
    found = access_labeling(request.user, slug, pk)
    viewer = access_membership(request.user, slug)
    mine = found.membership_id == viewer.pk
    context = {
        "labeling": found,
        "mine": mine,
        "correctable_until": correctable_until(found) if mine and _may_correct(found) else None,
        "answer": found.solution.problem.answer if not mine or found.campaign.show_reference_answer else None,
        "steps": said_steps(found),
        "critiques": found.critique_ratings.select_related("critique"),
        "progress": PROGRESS_WORDS[found.progress] if found.progress is not None else "",
        "words": rating_words(found.guideline),
        "acts": acts_of(found),
        "may_withdraw": viewer.role == Role.MANAGER
        and found.import_run_id is None
        and found.state != Labeling.State.WITHDRAWN,
    }
    return show(request, viewer, "campaign/labeling.html", "history" if mine else "generations", context)


@require_POST
@page
def withdraw(request: PageRequest, slug: str, pk: int) -> HttpResponseRedirect:
    """Take a labeling out of what counts; nothing is deleted, and its place in the queue opens again."""
    access_campaign_to_manage(request.user, slug)
    found = access_labeling(request.user, slug, pk)
    withdraw_labeling(found, actor=request.user, reason=request.POST.get("reason", "").replace("\0", "").strip())
    return redirect("labeling", slug, pk)


def _may_correct(labeling: Labeling) -> bool:
    until = correctable_until(labeling)
    return until is not None and until > timezone.now()
