from __future__ import annotations

from django.db import models
from django.utils import timezone

from prm_backend.types import FinishReason


class Labeling(models.Model):
    """Everything one labeler said about one solution. Imported labelings have no assignment and use no permit."""

    class State(models.TextChoices):
        DRAFT = "draft"
        SUBMITTED = "submitted"
        SURPLUS = "surplus", "came after its permit had gone to somebody else: outside k and training"
        WITHDRAWN = "withdrawn"

    class Scope(models.TextChoices):
        WHOLE = "whole"
        TARGETED = "targeted"

    REASON_CHOICES = [(reason.value, reason.value) for reason in FinishReason]

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="labelings")
    solution = models.ForeignKey("Solution", models.PROTECT, related_name="labelings")
    assignment = models.OneToOneField("Assignment", models.PROTECT, null=True, related_name="labeling")
    membership = models.ForeignKey("Membership", models.PROTECT, null=True, related_name="labelings")
    import_run = models.ForeignKey("ImportRun", models.CASCADE, null=True, related_name="labelings")
    guideline = models.ForeignKey("Guideline", models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=16, choices=State, default=State.DRAFT)
    scope = models.CharField(max_length=16, choices=Scope, default=Scope.WHOLE)
    revision = models.PositiveSmallIntegerField(default=0, help_text="Submits so far: 1, and 1 for each correction.")
    finish_reason = models.CharField(max_length=16, choices=REASON_CHOICES, blank=True)
    reason = models.TextField(blank=True, help_text="Why given up, or what is wrong with the problem.")
    comment = models.TextField(blank=True)
    answer_report = models.TextField(blank=True, help_text="Why the reference answer seems wrong.")
    progress = models.PositiveSmallIntegerField(null=True, help_text="How far it had come, 0 to 3.")
    own_critique = models.TextField(blank=True)
    wall_ms = models.PositiveBigIntegerField(default=0)
    active_ms = models.PositiveBigIntegerField(default=0)
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


class CritiqueRating(models.Model):
    """What a labeling says of one offered critique."""

    labeling = models.ForeignKey(Labeling, models.CASCADE, related_name="critique_ratings")
    critique = models.ForeignKey("Critique", models.PROTECT, related_name="ratings")
    value = models.SmallIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["labeling", "critique"], name="one_rating_per_critique")]

    def __str__(self) -> str:
        return f"critique rating {self.value}"


class RatingEvent(models.Model):
    """Append-only: one act of a labeler under its client-made id; a repeated id changes nothing. A labeling's state is
    the fold of its events (`annotator.protocol`), so they are the source of undo, history, time and audit."""

    class Kind(models.TextChoices):
        RATE = "rate"
        CHOOSE = "choose"
        WRITE = "write"
        PROGRESS = "progress"
        CRITIQUE = "critique"
        OWN_CRITIQUE = "own_critique"
        UNDO = "undo"
        SUBMIT = "submit"
        WITHDRAW = "withdraw"

    labeling = models.ForeignKey(Labeling, models.CASCADE, related_name="events")
    client_id = models.UUIDField()
    kind = models.CharField(max_length=16, choices=Kind)
    completion = models.ForeignKey("Completion", models.PROTECT, null=True, related_name="+")
    critique = models.ForeignKey("Critique", models.PROTECT, null=True, related_name="+")
    value = models.SmallIntegerField(null=True)
    flagged = models.BooleanField(default=False)
    text = models.TextField(blank=True)
    undoes = models.UUIDField(null=True)
    active_ms = models.PositiveIntegerField(default=0)
    wall_ms = models.PositiveIntegerField(default=0)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["labeling", "client_id"], name="rating_event_happens_once")]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.client_id}"
