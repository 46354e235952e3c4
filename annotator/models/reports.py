from __future__ import annotations

from django.db import models


class Report(models.Model):
    """Something a labeler said that a manager should look at. One list, worked off one by one."""

    class Kind(models.TextChoices):
        BAD_PROBLEM = "bad_problem", "bad problem"
        GIVE_UP = "give_up", "given up"
        WRONG_ANSWER = "wrong_answer", "wrong reference answer"
        UNSURE = "unsure", "unsure"
        COMMENT = "comment", "comment"

    class State(models.TextChoices):
        OPEN = "open"
        CLOSED = "closed"

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="reports")
    labeling = models.ForeignKey("Labeling", models.CASCADE, related_name="reports")
    completion = models.ForeignKey("Completion", models.CASCADE, null=True, related_name="+")
    kind = models.CharField(max_length=16, choices=Kind)
    text = models.TextField(blank=True)
    state = models.CharField(max_length=16, choices=State, default=State.OPEN)
    answer = models.TextField(blank=True, help_text="What the manager says to the labeler.")
    closed_by = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    closed_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "state", "-id"], name="reports_to_work_off")]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} ({self.state})"


class Message(models.Model):
    """A line from a campaign's managers to one labeler, or to all (no membership)."""

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="messages")
    membership = models.ForeignKey("Membership", models.CASCADE, null=True, related_name="messages")
    author = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["campaign", "membership", "-id"], name="messages_of_a_labeler")]
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.text[:80]
