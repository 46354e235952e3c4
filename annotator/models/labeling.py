from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone

from prm_backend.types import FinishReason


class QueueItem(models.Model):
    """One solution released in one generation, with why, and the two counters that the queue reads."""

    class Arm(models.TextChoices):
        AUDIT = "audit"
        RANDOM = "random"
        ACTIVE = "active"

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="queue_items")
    generation = models.ForeignKey("Generation", models.CASCADE, related_name="queue_items")
    solution = models.ForeignKey("Solution", models.PROTECT, related_name="queue_items")
    arm = models.CharField(max_length=16, choices=Arm)
    strategy = models.CharField(max_length=40)
    score = models.FloatField(null=True, help_text="What the strategy ranked by.")
    solution_score = models.FloatField(null=True, help_text="The checkpoint's solution score at release.")
    inclusion_probability = models.FloatField()
    rank = models.PositiveIntegerField()
    wanted = models.PositiveSmallIntegerField(help_text="Labelings wanted (k).")
    taken = models.PositiveSmallIntegerField(default=0, help_text="Labelers who hold or have finished it.")
    retired = models.BooleanField(default=False, help_text="Left over when its generation closed.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(taken__lte=models.F("wanted")), name="never_over_assigned"),
            models.UniqueConstraint(
                fields=["solution"], condition=models.Q(retired=False), name="one_live_queue_item_per_solution"
            ),
        ]
        indexes = [
            models.Index(
                fields=["campaign", "rank", "id"],
                condition=models.Q(retired=False, taken__lt=models.F("wanted")),
                name="queue_open_by_rank",
            ),
            models.Index(fields=["generation", "rank"], name="queue_of_generation"),
        ]

    def __str__(self) -> str:
        return f"{self.arm} item {self.pk}"


class Assignment(models.Model):
    """A queue item leased to one person until a time. It holds a permit (`QueueItem.taken`) while active or done; a
    skip or a give-up returns it, and an expired lease passes it on at somebody's next claim."""

    class State(models.TextChoices):
        ACTIVE = "active"
        DONE = "done"
        RETURNED = "returned"
        EXPIRED = "expired"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    item = models.ForeignKey(QueueItem, models.PROTECT, related_name="assignments")
    solution = models.ForeignKey("Solution", models.PROTECT, related_name="assignments")
    membership = models.ForeignKey("Membership", models.PROTECT, related_name="assignments")
    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="assignments")
    state = models.CharField(max_length=16, choices=State, default=State.ACTIVE)
    lease_until = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # A second tab finds the same assignment instead of taking another solution.
            models.UniqueConstraint(
                fields=["membership"], condition=models.Q(state="active"), name="one_active_assignment_per_person"
            ),
            models.UniqueConstraint(fields=["membership", "solution"], name="one_assignment_per_person_and_solution"),
        ]
        indexes = [
            models.Index(fields=["campaign", "lease_until"], condition=models.Q(state="active"), name="leases_by_end")
        ]

    def __str__(self) -> str:
        return f"assignment {self.pk}"

    @property
    def is_expired(self) -> bool:
        return self.lease_until <= timezone.now()


class Labeling(models.Model):
    """Everything one labeler said about one solution. Imported labelings have no assignment and use no permit."""

    class State(models.TextChoices):
        DRAFT = "draft"
        SUBMITTED = "submitted"
        SURPLUS = "surplus"
        WITHDRAWN = "withdrawn"

    REASON_CHOICES = [(reason.value, reason.value) for reason in FinishReason]

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="labelings")
    solution = models.ForeignKey("Solution", models.PROTECT, related_name="labelings")
    assignment = models.OneToOneField(Assignment, models.PROTECT, null=True, related_name="labeling")
    membership = models.ForeignKey("Membership", models.PROTECT, null=True, related_name="labelings")
    import_run = models.ForeignKey("ImportRun", models.CASCADE, null=True, related_name="labelings")
    guideline = models.ForeignKey("Guideline", models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=16, choices=State, default=State.DRAFT)
    finish_reason = models.CharField(max_length=16, choices=REASON_CHOICES, blank=True)
    reason = models.TextField(blank=True, help_text="Why given up, or what is wrong with the problem.")
    comment = models.TextField(blank=True)
    wall_ms = models.PositiveBigIntegerField(default=0)
    active_ms = models.PositiveBigIntegerField(default=0)
    submit_client_id = models.UUIDField(null=True, help_text="The submit that ended it; the same one may come again.")
    started_at = models.DateTimeField(default=timezone.now)
    submitted_at = models.DateTimeField(null=True)

    # What PRM800K's record carries besides; for our own labelings set at submit, for imported ones kept as they came.
    source_labeler = models.TextField(blank=True)
    source_timestamp = models.TextField(blank=True)
    source_final_answer = models.TextField(null=True, help_text="Where it is not the solution's.")
    generation_number = models.BigIntegerField(null=True)
    is_quality_control = models.BooleanField(default=False)
    is_initial_screening = models.BooleanField(default=False)
    verifier_score = models.FloatField(null=True)
    question_keys = models.JSONField(null=True, help_text="Question keys of an imported record that are not the usual.")
    digest = models.CharField(max_length=64, blank=True, help_text="Hash of an imported record.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["campaign", "digest"],
                condition=~models.Q(digest=""),
                name="one_labeling_per_imported_record",
            )
        ]
        indexes = [models.Index(fields=["campaign", "state", "id"], name="labelings_by_state")]

    def __str__(self) -> str:
        return f"labeling {self.pk} ({self.state})"


class LabelingStep(models.Model):
    """The labeling's way through the tree: which completion continued it, or which step the labeler wrote. Phase 2
    labelings that follow the ready solution need no rows: their path is the solution."""

    labeling = models.ForeignKey(Labeling, models.CASCADE, related_name="steps")
    step_index = models.PositiveIntegerField()
    chosen = models.ForeignKey("Completion", models.PROTECT, null=True, related_name="+")
    human = models.ForeignKey("Completion", models.PROTECT, null=True, related_name="+")
    human_record = models.JSONField(null=True, help_text="Unusual fields of an imported written step.")
    pending = models.BooleanField(default=False, help_text="Reached, but no candidate had come (PRM800K: null).")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["labeling", "step_index"], name="one_choice_per_step")]
        ordering = ["step_index"]

    def __str__(self) -> str:
        return f"step {self.step_index} of labeling {self.labeling_id}"


class Rating(models.Model):
    """What a labeling says of one completion; `position` is its place among the completions shown at that step."""

    labeling = models.ForeignKey(Labeling, models.CASCADE, related_name="ratings")
    completion = models.ForeignKey("Completion", models.PROTECT, related_name="ratings")
    step_index = models.PositiveIntegerField()
    position = models.PositiveIntegerField(default=0)
    value = models.SmallIntegerField(null=True)
    not_bad = models.BooleanField(default=False)
    flagged = models.BooleanField(null=True, help_text="Unsure. Null where the source could not say.")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["labeling", "completion"], name="one_rating_per_completion"),
            models.CheckConstraint(
                condition=models.Q(value=None) | models.Q(value__in=[-1, 0, 1], not_bad=False),
                name="rating_is_minus_zero_or_plus",
            ),
        ]
        ordering = ["step_index", "position"]

    def __str__(self) -> str:
        return f"rating {self.value} of step {self.step_index}"


class RatingEvent(models.Model):
    """Append-only: what a labeler changed, when, under which client-made id. A repeated id changes nothing."""

    labeling = models.ForeignKey(Labeling, models.CASCADE, related_name="events")
    completion = models.ForeignKey("Completion", models.PROTECT, related_name="+")
    client_id = models.UUIDField()
    value = models.SmallIntegerField(null=True)
    flagged = models.BooleanField(null=True)
    previous_value = models.SmallIntegerField(null=True)
    active_ms = models.PositiveIntegerField(default=0)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["labeling", "client_id"], name="rating_event_happens_once")]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"event {self.client_id}"
