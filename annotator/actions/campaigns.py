from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from annotator.actions import queue
from annotator.actions.audit import record
from annotator.actions.generations import open_first_generation
from annotator.dispatch import enqueue
from annotator.errors import Conflict, Invalid
from annotator.models import Campaign, Guideline, Job, Membership, User
from annotator.queries.guideline import rating_words, stored_words
from annotator.queries.pool import visible_solutions
from prm_backend.errors import PrmError
from prm_backend.policy import parse_policy

DEFAULT_GUIDELINE = """\
# How to rate a step

Read the problem, then judge one step at a time, given the steps above it. If you are not sure, mark the step *unsure*
and give your best rating.

Use **give up** if you cannot judge the solution, and **bad problem** if the problem itself makes no sense.
A wrong reference answer is not a bad problem: report the answer, and judge the steps.
"""


@transaction.atomic
def create_campaign(*, actor: User | None, slug: str, name: str, **fields: Any) -> Campaign:
    """Create a campaign with a first guideline; its creator becomes its manager. Raises `Conflict` on a taken slug."""
    check_policy(fields.get("selection_policy"))
    try:
        with transaction.atomic():
            campaign = Campaign.objects.create(slug=slug, name=name, **fields)
    except IntegrityError as error:
        raise Conflict("slug_taken", f"There is already a campaign called {slug}.") from error
    _write_guideline(campaign, actor=actor, version=1, text=DEFAULT_GUIDELINE, words=stored_words(rating_words(None)))
    if actor:
        Membership.objects.create(
            campaign=campaign, user=actor, role=Membership.Role.MANAGER, guideline=campaign.guideline
        )
    record("create campaign", campaign=campaign, actor=actor, subject=slug)
    return campaign


@transaction.atomic
def update_campaign(campaign: Campaign, *, actor: User, **fields: Any) -> Campaign:
    """Change settings. The policy of the open generation stays as it was applied."""
    check_policy(fields.get("selection_policy"))
    changed = {name: value for name, value in fields.items() if getattr(campaign, name) != value}
    for name, value in changed.items():
        setattr(campaign, name, value)
    if changed:
        campaign.save(update_fields=list(changed))
        record("update campaign", campaign=campaign, actor=actor, **changed)
    if "labelings_wanted" in changed:
        queue.request_rewant(campaign, actor=actor)
    return campaign


def check_policy(policy: dict[str, Any] | None) -> None:
    if policy is None:
        return
    try:
        parse_policy(policy)
    except PrmError as error:
        raise Invalid("bad_policy", str(error)) from error


@transaction.atomic
def publish_guideline(
    campaign: Campaign, *, actor: User, text: str, words: dict[str, dict[str, str]] | None = None
) -> Guideline:
    """Write a new version of the guideline and put it in force; labelings made from now on carry its number. `words`
    are those of the three ratings (`Guideline.words`); without any they stay as they are. What changes nothing is no
    new version."""
    Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    last = Guideline.objects.filter(campaign=campaign).first()
    if words is None:
        words = last.words if last else stored_words(rating_words(None))
    if last and (last.text, last.words) == (text, words):
        return last
    guideline = _write_guideline(campaign, actor=actor, version=last.version + 1 if last else 1, text=text, words=words)
    # Who writes it has read it.
    Membership.objects.filter(campaign=campaign, user=actor).update(guideline=guideline)
    record("publish guideline", campaign=campaign, actor=actor, version=guideline.version)
    return guideline


def _write_guideline(
    campaign: Campaign, *, actor: User | None, version: int, text: str, words: dict[str, dict[str, str]]
) -> Guideline:
    guideline = Guideline.objects.create(campaign=campaign, version=version, text=text, words=words, author=actor)
    campaign.guideline = guideline
    campaign.save(update_fields=["guideline"])
    return guideline


@transaction.atomic
def acknowledge_guideline(membership: Membership, version: int) -> None:
    """The labeler has seen what changed. Raises `Conflict` where another version is in force by now."""
    in_force = Campaign.objects.select_related("guideline").get(pk=membership.campaign_id).guideline
    if in_force is None or in_force.version != version:
        raise Conflict("old_version", _("The guideline has changed again: read the version that is in force now."))
    if membership.guideline_id == in_force.pk:
        return
    membership.guideline = in_force
    membership.save(update_fields=["guideline"])
    record(
        "acknowledge guideline",
        campaign=membership.campaign,
        actor=membership.user,
        subject=str(membership.uuid),
        version=version,
    )


@transaction.atomic
def activate_campaign(campaign: Campaign, *, actor: User | None) -> Campaign:
    """Open the campaign for labeling. The first generation is drawn at random right here, so that people can start
    while the workers prepare the model."""
    locked = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    if locked.status == Campaign.Status.ACTIVE:
        return locked
    if not visible_solutions(locked).exists():
        raise Conflict("empty_pool", "There is nothing to label yet: import solutions first.")
    if not locked.generations.exists():
        open_first_generation(locked)
        if locked.checkpoint is None and locked.phase == Campaign.Phase.JUDGE:
            enqueue(Job.Kind.PRETRAIN, locked, actor=actor)
    locked.status = Campaign.Status.ACTIVE
    locked.save(update_fields=["status"])
    record("activate campaign", campaign=locked, actor=actor)
    return locked


def pause_campaign(campaign: Campaign, *, actor: User) -> Campaign:
    """Stop serving; leases and drafts are kept."""
    return _set_status(campaign, Campaign.Status.PAUSED, actor)


def finish_campaign(campaign: Campaign, *, actor: User) -> Campaign:
    """Stop serving for good; activating again is possible."""
    return _set_status(campaign, Campaign.Status.FINISHED, actor)


@transaction.atomic
def _set_status(campaign: Campaign, status: Campaign.Status, actor: User) -> Campaign:
    Campaign.objects.filter(pk=campaign.pk).update(status=status)
    campaign.status = status
    record(f"set campaign {status}", campaign=campaign, actor=actor)
    return campaign
