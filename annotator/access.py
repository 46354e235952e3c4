"""The only way to fetch an object on behalf of a user. What a person may not know of looks like what does not exist;
what their role may not do, in a campaign they belong to, is `Forbidden`."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from django.db.models import BigIntegerField, Model, QuerySet, SlugField, UUIDField
from django.http import Http404

from annotator.compiled import Compiled
from annotator.errors import Forbidden
from annotator.models import (
    Assignment,
    Attachment,
    Campaign,
    Checkpoint,
    DatasetVersion,
    Generation,
    ImportRun,
    Job,
    Labeling,
    Membership,
    QueueItem,
    Report,
    User,
)

Role = Membership.Role
M = TypeVar("M", bound=Model)


# With every act of every labeler comes one of these.
_MEMBERSHIP = Compiled(
    lambda slug, user: Membership.objects.select_related("campaign").filter(campaign__slug=slug, user=user),
    SlugField(),
    BigIntegerField(),
)
_ASSIGNMENT = Compiled(
    lambda pk, user: Assignment.objects.select_related("membership", "campaign", "item__generation").filter(
        pk=pk, membership__user=user
    ),
    UUIDField(),
    BigIntegerField(),
)


def access_membership(user: User, slug: str, *roles: Membership.Role) -> Membership:
    """The user's membership of a campaign, if its role is one of `roles` (any, when none is given)."""
    membership: Membership | None = _MEMBERSHIP.first(slug, user.pk)
    if membership is None:
        raise Http404("No such campaign.")
    membership.user = user
    if roles and membership.role not in roles:
        raise Forbidden("wrong_role", f"This is for {' and '.join(f'{role.label.lower()}s' for role in roles)}.")
    return membership


# Managers may label too: small teams have no one else.
LABELING = (Role.LABELER, Role.MANAGER)


def access_campaign_to_label(user: User, slug: str) -> Membership:
    membership = access_membership(user, slug, *LABELING)
    if not membership.may_label:
        raise Forbidden("paused", membership.pause_reason or "Your work on this campaign is paused.")
    return membership


def access_campaign_to_manage(user: User, slug: str) -> Campaign:
    return access_membership(user, slug, Role.MANAGER).campaign


def access_campaign_to_research(user: User, slug: str) -> Campaign:
    return access_membership(user, slug, Role.RESEARCHER, Role.MANAGER).campaign


def access_assignment(user: User, assignment_id: UUID) -> Assignment:
    """One's own assignment only, whatever one's role."""
    assignment: Assignment | None = _ASSIGNMENT.first(assignment_id, user.pk)
    if assignment is None:
        raise Http404("No such assignment.")
    return assignment


def access_labeling(user: User, slug: str, pk: int) -> Labeling:
    """What somebody said of a solution and submitted: one's own; a manager's campaign's, imported ones included."""
    membership = access_membership(user, slug, Role.LABELER, Role.MANAGER)
    said = Labeling.objects.exclude(state=Labeling.State.DRAFT)
    if membership.role != Role.MANAGER:
        said = said.filter(membership=membership)
    return _of_campaign(
        said.select_related("campaign", "solution__problem", "membership__user", "guideline", "assignment__item"),
        membership.campaign,
        pk=pk,
    )


def access_report(user: User, slug: str, pk: int) -> Report:
    return _of_campaign(
        Report.objects.select_related("campaign", "labeling__solution__problem", "labeling__membership"),
        access_campaign_to_manage(user, slug),
        pk=pk,
    )


def access_lease(user: User, slug: str, assignment_id: UUID) -> Assignment:
    """Anybody's assignment in a campaign, for its managers."""
    return _of_campaign(
        Assignment.objects.select_related("membership__user", "campaign", "item"),
        access_campaign_to_manage(user, slug),
        pk=assignment_id,
    )


def access_member(user: User, slug: str, pk: int) -> Membership:
    """Another member, for managers."""
    return _of_campaign(
        Membership.objects.select_related("user", "campaign"), access_campaign_to_manage(user, slug), pk=pk
    )


def _of_campaign(rows: QuerySet[M], campaign: Campaign, **key: object) -> M:
    row = rows.filter(campaign=campaign, **key).first()
    if row is None:
        raise Http404("No such thing in this campaign.")
    return row


def access_attachment(user: User, slug: str, sha256: str) -> Attachment:
    """An image of a problem of one of the user's campaigns."""
    membership = access_membership(user, slug)
    found = Attachment.objects.filter(problem__campaign=membership.campaign, sha256=sha256).first()
    if found is None:
        raise Http404("No such thing in this campaign.")
    return found


def access_job(user: User, slug: str, pk: int) -> Job:
    return _of_campaign(Job.objects.all(), access_campaign_to_manage(user, slug), pk=pk)


def access_import(user: User, slug: str, pk: int) -> ImportRun:
    return _of_campaign(ImportRun.objects.all(), access_campaign_to_manage(user, slug), pk=pk)


def access_generation(user: User, slug: str, number: int) -> Generation:
    return _of_campaign(
        Generation.objects.select_related("checkpoint", "campaign"),
        access_campaign_to_manage(user, slug),
        number=number,
    )


def access_queue_item(user: User, slug: str, pk: int) -> QueueItem:
    return _of_campaign(
        QueueItem.objects.select_related("solution__problem", "generation__checkpoint"),
        access_campaign_to_manage(user, slug),
        pk=pk,
    )


def access_checkpoint(user: User, slug: str, number: int) -> Checkpoint:
    return _of_campaign(Checkpoint.objects.all(), access_campaign_to_manage(user, slug), number=number)


def access_dataset_version(user: User, slug: str, number: int) -> DatasetVersion:
    return _of_campaign(DatasetVersion.objects.all(), access_campaign_to_research(user, slug), number=number)
