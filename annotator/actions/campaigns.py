from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from annotator.actions.audit import record
from annotator.actions.generations import open_first_generation
from annotator.dispatch import enqueue
from annotator.errors import Conflict, Invalid
from annotator.models import Campaign, Guideline, Job, Membership, User
from annotator.queries.pool import visible_solutions
from prm_backend.errors import PrmError
from prm_backend.policy import parse_policy

DEFAULT_GUIDELINE = """\
# How to rate a step

Read the problem, then judge one step at a time, given the steps above it.

- **+ good**: right, easy to check, and it takes the solution forward.
- **0 neutral**: right, but it does not help: it repeats, stalls or only announces.
- **− bad**: wrong, unclear, or impossible to check in half a minute.

The item ends at the first bad step. If you are not sure, mark the step *unsure* and give your best rating.
Use **give up** if you cannot judge the solution, and **bad problem** if the problem itself makes no sense.
A wrong reference answer is not a bad problem: judge the steps.
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
    Guideline.objects.create(campaign=campaign, version=1, text=DEFAULT_GUIDELINE, author=actor)
    if actor:
        Membership.objects.create(campaign=campaign, user=actor, role=Membership.Role.MANAGER)
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
    return campaign


def check_policy(policy: dict[str, Any] | None) -> None:
    if policy is None:
        return
    try:
        parse_policy(policy)
    except PrmError as error:
        raise Invalid("bad_policy", str(error)) from error


@transaction.atomic
def publish_guideline(campaign: Campaign, *, actor: User, text: str) -> Guideline:
    """Write a new version of the guideline; labelings made from now on carry its number."""
    last = Guideline.objects.filter(campaign=campaign).order_by("-version").first()
    if last and last.text == text:
        return last
    version = last.version + 1 if last else 1
    guideline = Guideline.objects.create(campaign=campaign, version=version, text=text, author=actor)
    record("publish guideline", campaign=campaign, actor=actor, version=version)
    return guideline


@transaction.atomic
def activate_campaign(campaign: Campaign, *, actor: User | None) -> Campaign:
    """Open the campaign for labeling. The first generation is drawn at random right here, so that people can start
    while the workers prepare the model."""
    locked = Campaign.objects.select_for_update().get(pk=campaign.pk)
    if locked.status == Campaign.Status.ACTIVE:
        return locked
    if locked.phase != Campaign.Phase.JUDGE:
        raise Conflict("phase_not_served", "Phase 1 labelings can be imported and exported, but not yet labeled here.")
    if not visible_solutions(locked).exists():
        raise Conflict("empty_pool", "There is nothing to label yet: import solutions first.")
    if not locked.generations.exists():
        open_first_generation(locked)
        if locked.checkpoint is None:
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
