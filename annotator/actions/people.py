from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.crypto import get_random_string
from django.utils.translation import gettext as _
from rest_framework.authtoken.models import Token

from annotator.actions.audit import record
from annotator.errors import Conflict, Invalid
from annotator.models import Campaign, Membership, Message, User

# No look-alikes: a one-time password is read aloud and typed once.
ONE_TIME_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def one_time_password() -> str:
    return "-".join(get_random_string(4, ONE_TIME_ALPHABET) for _part in range(4))


@transaction.atomic
def create_user(*, username: str, email: str, password: str, must_change_password: bool = False) -> User:
    """Create a person. Raises `Invalid` on a bad e-mail or weak password, `Conflict` on a name or e-mail in use."""
    try:
        validate_email(email)
        User.username_validator(username)
        if not must_change_password:
            validate_password(password, User(username=username, email=email))
    except ValidationError as error:
        raise Invalid("bad_person", " ".join(error.messages)) from error
    try:
        with transaction.atomic():
            user = User.objects.create_user(
                username=username, email=email, password=password, must_change_password=must_change_password
            )
    except IntegrityError as error:
        raise Conflict("person_exists", f"Somebody already uses the name {username} or the e-mail {email}.") from error
    record("create user", campaign=None, actor=None, subject=username)
    return user


@transaction.atomic
def add_member(
    campaign: Campaign, *, actor: User | None, username: str, email: str, role: Membership.Role
) -> tuple[Membership, str | None]:
    """Bring a person into a campaign. Somebody new gets an account with a one-time password, returned once and stored
    nowhere in the clear; somebody known by both name and e-mail keeps theirs."""
    user = User.objects.filter(username=username, email__iexact=email).first()
    password = None
    if user is None:
        password = one_time_password()
        user = create_user(username=username, email=email, password=password, must_change_password=True)
    try:
        with transaction.atomic():
            membership = Membership.objects.create(
                campaign=campaign, user=user, role=role, guideline=campaign.guideline
            )
    except IntegrityError as error:
        raise Conflict("already_member", f"{username} already belongs to this campaign.") from error
    record("add member", campaign=campaign, actor=actor, subject=username, role=role)
    return membership, password


@transaction.atomic
def renew_one_time_password(membership: Membership, *, actor: User) -> str:
    """A new one-time password for a member who never chose their own. People with a password of their own, of another
    campaign or of the staff are none of this manager's business. Raises `Conflict`."""
    user = membership.user
    if not user.must_change_password:
        raise Conflict("has_own_password", f"{user.username} has chosen a password; only they can change it.")
    if user.is_staff or user.is_superuser or user.memberships.exclude(pk=membership.pk).exists():
        raise Conflict("not_yours", f"{user.username} belongs to others too: an administrator can help.")
    password = one_time_password()
    user.set_password(password)
    user.save(update_fields=["password"])
    Token.objects.filter(user=user).delete()
    record("renew one-time password", campaign=membership.campaign, actor=actor, subject=user.username)
    return password


@transaction.atomic
def own_password_chosen(user: User) -> None:
    """The one-time password is behind them; whatever was opened with it is closed."""
    user.must_change_password = False
    user.save(update_fields=["must_change_password"])
    Token.objects.filter(user=user).delete()
    record("choose password", campaign=None, actor=user, subject=user.username)


@transaction.atomic
def set_member_state(membership: Membership, *, actor: User, state: Membership.State, reason: str = "") -> None:
    """Pause a member, with a reason that they will read, or let them go on."""
    membership.state, membership.pause_reason = state, reason if state == Membership.State.PAUSED else ""
    membership.save(update_fields=["state", "pause_reason"])
    record(f"set member {state}", campaign=membership.campaign, actor=actor, subject=membership.user.username)


@transaction.atomic
def send_message(campaign: Campaign, *, actor: User | None, text: str, to: Membership | None = None) -> Message:
    """A line to one labeler, or to all of the campaign. Raises `Invalid` where it says nothing."""
    if not text.strip():
        raise Invalid("text_missing", _("Write something first."))
    message = Message.objects.create(campaign=campaign, membership=to, author=actor, text=text.strip())
    record("send message", campaign=campaign, actor=actor, subject=to.user.username if to else "all labelers")
    return message


def mark_messages_read(membership: Membership, *, until: Message) -> None:
    """The labeler has read this message and all before it. What came meanwhile stays unread."""
    unread = Q(messages_read_at=None) | Q(messages_read_at__lt=until.created_at)
    Membership.objects.filter(unread, pk=membership.pk).update(messages_read_at=until.created_at)
