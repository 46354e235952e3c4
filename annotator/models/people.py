from __future__ import annotations

import uuid

from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    email = models.EmailField("e-mail", unique=True)
    must_change_password = models.BooleanField(
        default=False, help_text="Set with a one-time password: every page asks for a new password first."
    )
    keys = models.JSONField(default=dict, blank=True, help_text="Keys of the labeling page that are not the usual.")


class Membership(models.Model):
    """One person in one campaign. Its UUID stands for the person in exports and is never shared between campaigns."""

    class Role(models.TextChoices):
        LABELER = "labeler"
        MANAGER = "manager"
        RESEARCHER = "researcher"

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    pause_reason = models.CharField(max_length=200, blank=True)
    guideline = models.ForeignKey(
        "Guideline",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        help_text="The version last acknowledged.",
    )
    tutorial_done_at = models.DateTimeField(null=True, blank=True)
    messages_read_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "user"], name="one_membership_per_person")]

    def __str__(self) -> str:
        return f"{self.user} ({self.role})"

    @property
    def may_label(self) -> bool:
        """Managers may label too: small teams have no one else."""
        return self.state == self.State.ACTIVE and self.role in (self.Role.LABELER, self.Role.MANAGER)
