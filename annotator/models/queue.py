from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone


class QueueItem(models.Model):
    """One solution released in one generation, with why, and the two counters that the queue reads."""

    class Arm(models.TextChoices):
        AUDIT = "audit"
        RANDOM = "random"
        ACTIVE = "active"

    class Lane(models.TextChoices):
        MAIN = "main", "as it was released"
        RETURNED = "returned", "came back: served before the others"
        REVIEW = "review", "given up twice: waits for a reviewer"
        HELD = "held", "its problem was reported as bad: waits for a manager"

    GIVE_UPS_BEFORE_REVIEW = 2

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="queue_items")
    generation = models.ForeignKey("Generation", models.CASCADE, related_name="queue_items")
    solution = models.ForeignKey("Solution", models.PROTECT, related_name="queue_items")
    problem = models.ForeignKey("Problem", models.PROTECT, related_name="+")
    arm = models.CharField(max_length=16, choices=Arm)
    strategy = models.CharField(max_length=40)
    score = models.FloatField(null=True, help_text="What the strategy ranked by.")
    solution_score = models.FloatField(null=True, help_text="The checkpoint's solution score at release.")
    inclusion_probability = models.FloatField()
    target_steps = models.JSONField(null=True, help_text="Targeted labeling: the steps to ask about.")
    rank = models.PositiveIntegerField()
    lane = models.CharField(max_length=16, choices=Lane, default=Lane.MAIN)
    place = models.BigIntegerField(help_text="Order in its lane; grows from generation to generation.")
    wanted = models.PositiveSmallIntegerField(help_text="Labelings wanted (k).")
    taken = models.PositiveSmallIntegerField(default=0, help_text="Labelers who hold or have finished it.")
    give_ups = models.PositiveSmallIntegerField(default=0)
    retired = models.BooleanField(default=False, help_text="Left over when its generation closed.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(taken__lte=models.F("wanted")), name="never_over_assigned"),
            models.UniqueConstraint(
                fields=["solution"], condition=models.Q(retired=False), name="one_live_queue_item_per_solution"
            ),
        ]
        indexes = [
            # What a claim reads: only open items are in it, so its cost does not grow with what is done.
            models.Index(
                fields=["campaign", "lane", "place", "id"],
                condition=models.Q(retired=False, taken__lt=models.F("wanted")),
                name="queue_open_by_place",
            ),
            models.Index(fields=["generation", "rank"], name="queue_of_generation"),
        ]

    def __str__(self) -> str:
        return f"{self.arm} item {self.pk}"

    @staticmethod
    def place_of(generation_number: int, rank: int) -> int:
        """Later generations stand behind earlier ones."""
        return (generation_number << 32) + rank


class Assignment(models.Model):
    """A queue item leased to one person until a time. It holds a permit (`QueueItem.taken`) while active or done. A
    lease that ran out stays active until somebody else's claim takes its permit over; other ends give it back."""

    class State(models.TextChoices):
        ACTIVE = "active"
        DONE = "done"
        RELEASED = "released", "given back to all, to this person first"
        POSTPONED = "postponed", "comes back to this person after other work"
        SKIPPED = "skipped", "given to others"
        EXPIRED = "expired", "the lease ran out and somebody else took over"
        LATE = "late", "submitted after somebody else had taken over: surplus"

    # Ends after which the same person may go on, while there is a free permit.
    RESUMABLE = (State.RELEASED, State.EXPIRED, State.POSTPONED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    item = models.ForeignKey(QueueItem, models.PROTECT, related_name="assignments")
    solution = models.ForeignKey("Solution", models.PROTECT, related_name="assignments")
    problem = models.ForeignKey("Problem", models.PROTECT, related_name="+")
    membership = models.ForeignKey("Membership", models.PROTECT, related_name="assignments")
    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="assignments")
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    ahead = models.BooleanField(default=False, help_text="Fetched while the current one was on the page.")
    place = models.BigIntegerField(help_text="The item's place when it was claimed from the main lane; else -1.")
    rules = models.JSONField(
        null=True, help_text="The campaign's rules and the target steps at the claim: what is said is read by them."
    )
    returned_by = models.UUIDField(null=True, help_text="The request that gave it back; the same one may come again.")
    lease_until = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # A second tab finds the same assignments instead of taking other solutions.
            models.UniqueConstraint(
                fields=["membership", "ahead"],
                condition=models.Q(state="active"),
                name="one_current_and_one_ahead_per_person",
            ),
            models.UniqueConstraint(fields=["membership", "solution"], name="one_assignment_per_person_and_solution"),
        ]
        indexes = [
            models.Index(fields=["campaign", "lease_until"], condition=models.Q(state="active"), name="leases_by_end"),
            models.Index(fields=["membership", "-place"], name="cursor_of_membership"),
            models.Index(fields=["membership", "problem"], name="problems_of_membership"),
            models.Index(
                fields=["membership"],
                condition=models.Q(state__in=["active", "released", "expired", "postponed"]),
                name="unfinished_of_membership",
            ),
        ]

    def __str__(self) -> str:
        return f"assignment {self.pk}"

    @property
    def is_expired(self) -> bool:
        return self.lease_until <= timezone.now()
