from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models


class Checkpoint(models.Model):
    """Weights, adapter and metadata in a folder that never changes after it is written."""

    class Kind(models.TextChoices):
        BACKBONE = "backbone", "before any label"
        HEADS = "heads", "trained on labels"

    class State(models.TextChoices):
        CANDIDATE = "candidate"
        PROMOTED = "promoted"
        REJECTED = "rejected"

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="checkpoints")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    state = models.CharField(max_length=16, choices=State, default=State.CANDIDATE)
    parent = models.ForeignKey("self", models.PROTECT, null=True, related_name="children")
    folder = models.CharField(max_length=300, help_text="Relative to the data folder.")
    labelings = models.PositiveIntegerField(default=0, help_text="Labelings it was trained on.")
    judged_steps = models.PositiveIntegerField(default=0)
    metadata = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict, help_text="On the audit stream, baselines beside.")
    gate = models.JSONField(default=dict, help_text="The comparison with the checkpoint in service, and the verdict.")
    pool_scored_at = models.DateTimeField(null=True, help_text="When the whole visible pool had its scores.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "number"], name="one_checkpoint_per_number")]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"checkpoint {self.number}"

    @property
    def path(self) -> Path:
        return Path(settings.DATA_DIR) / self.folder


class SolutionScore(models.Model):
    """What one checkpoint says of one solution: the step probabilities, and a column for each ranked quantity."""

    checkpoint = models.ForeignKey(Checkpoint, models.CASCADE, related_name="scores")
    solution = models.ForeignKey("Solution", models.CASCADE, related_name="scores")
    steps = models.JSONField(help_text="For each step [p(-), p(0), p(+), spread of p(-)].")
    solution_score = models.FloatField(help_text="Product over the steps of 1 - p(-).")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["checkpoint", "solution"], name="one_score_per_solution")]

    def __str__(self) -> str:
        return f"score of solution {self.solution_id}"
