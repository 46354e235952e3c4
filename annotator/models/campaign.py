from __future__ import annotations

import datetime
from typing import Any

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

DEFAULT_POLICY: dict[str, Any] = {
    "random_share": 0.3,
    "strategies": {"disagreement": 0.6, "convincing_wrong_answer": 0.4},
    "per_problem": 1,
}


def default_policy() -> dict[str, Any]:
    return dict(DEFAULT_POLICY)


class Campaign(models.Model):
    """One labeling effort: people, pool, protocol, policy, limits."""

    class Status(models.TextChoices):
        DRAFT = "draft"
        ACTIVE = "active"
        PAUSED = "paused"
        FINISHED = "finished"

    class Phase(models.IntegerChoices):
        CHOOSE = 1, "1: choose among candidate steps"
        JUDGE = 2, "2: judge a ready solution"

    class GatePolicy(models.TextChoices):
        BETTER = "better", "promote only what is shown to be better"
        NOT_WORSE = "not_worse", "promote what is shown not to be worse"
        UNLESS_WORSE = "unless_worse", "promote unless it is shown to be worse"

    class Scope(models.TextChoices):
        WHOLE = "whole", "the whole solution, to its first error"
        TARGETED = "targeted", "only the steps that selection marked"

    class ContinueBy(models.TextChoices):
        LABELER = "labeler", "the labeler chooses"
        DRAW = "draw", "a seeded draw"

    class CandidateSource(models.TextChoices):
        IMPORTED = "imported", "what was imported"
        ENDPOINT = "endpoint", "a model behind the operator's endpoint"

    class FollowUp(models.TextChoices):
        OFF = "off", "off"
        OPTIONAL = "optional", "may be skipped"
        REQUIRED = "required", "must be answered"

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=200)
    domain = models.CharField(max_length=100, blank=True, help_text="For example: competition mathematics.")
    phase = models.PositiveSmallIntegerField(choices=Phase, default=Phase.JUDGE)
    status = models.CharField(max_length=16, choices=Status, default=Status.DRAFT)
    simulated = models.BooleanField(default=False, help_text="Labels here come from simulated labelers.")

    labelings_wanted = models.PositiveSmallIntegerField(
        "labelings per solution", default=1, validators=[MinValueValidator(1), MaxValueValidator(20)]
    )
    lease_minutes = models.PositiveSmallIntegerField(
        default=30,
        validators=[MinValueValidator(1), MaxValueValidator(24 * 60)],
        help_text="How long a solution stays with a labeler who does nothing.",
    )
    show_reference_answer = models.BooleanField(default=True)

    scope = models.CharField(max_length=16, choices=Scope, default=Scope.WHOLE)
    target_steps = models.PositiveSmallIntegerField(
        default=2,
        validators=[MinValueValidator(1), MaxValueValidator(20)],
        help_text="Steps asked of each solution in targeted labeling.",
    )
    progress = models.CharField(
        max_length=16, choices=FollowUp, default=FollowUp.OFF, help_text="After the first −: how far it had come."
    )
    critiques = models.CharField(
        max_length=16, choices=FollowUp, default=FollowUp.OFF, help_text="After the first −: what went wrong."
    )
    alternatives = models.CharField(
        max_length=16, choices=FollowUp, default=FollowUp.OPTIONAL, help_text="After the first −: other next steps."
    )
    always_grid = models.BooleanField(default=False, help_text="Phase 1: show all candidates at once.")
    continue_by = models.CharField(
        max_length=16,
        choices=ContinueBy,
        default=ContinueBy.LABELER,
        help_text="Phase 1: which of several + candidates goes on.",
    )
    candidates_shown = models.PositiveSmallIntegerField(
        default=7, validators=[MinValueValidator(1), MaxValueValidator(20)], help_text="Phase 1: at most, at one step."
    )
    candidate_source = models.CharField(max_length=16, choices=CandidateSource, default=CandidateSource.IMPORTED)
    candidate_model = models.CharField(
        max_length=200, blank=True, help_text="The model's name at the operator's endpoint."
    )
    spread_problems = models.BooleanField(
        default=True, help_text="Give one problem's solutions to different labelers where there is a choice."
    )
    idle_minutes = models.PositiveSmallIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(120)],
        help_text="How long reading without a key counts as work before the page asks.",
    )
    correction_hours = models.PositiveSmallIntegerField(
        default=24, help_text="How long a labeler may correct a submitted labeling."
    )
    show_pace = models.BooleanField(default=False, help_text="Show labelers their pace on the labeling page.")

    generation_size = models.PositiveIntegerField(
        default=200,
        validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text="Solutions served in each generation, besides the audit stream.",
    )
    audit_per_generation = models.PositiveIntegerField(
        default=20,
        validators=[MaxValueValidator(10_000)],
        help_text="Solutions of validation problems served in each generation; only they judge a checkpoint.",
    )
    selection_policy = models.JSONField(default=default_policy)
    retrain_after = models.PositiveIntegerField(
        default=50, validators=[MinValueValidator(5)], help_text="New labelings that start a retrain."
    )
    gate_policy = models.CharField(max_length=16, choices=GatePolicy, default=GatePolicy.UNLESS_WORSE)
    backbone = models.CharField(
        max_length=300,
        default="embedded",
        help_text="embedded: a small model pretrained on this campaign's own solutions; else a folder with a "
        "transformers model.",
    )

    checkpoint = models.ForeignKey(
        "Checkpoint", models.PROTECT, null=True, blank=True, related_name="+", help_text="The checkpoint in service."
    )
    guideline = models.ForeignKey(
        "Guideline", models.PROTECT, null=True, blank=True, related_name="+", help_text="The version in force."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def lease(self) -> datetime.timedelta:
        return datetime.timedelta(minutes=self.lease_minutes)

    @property
    def correction_window(self) -> datetime.timedelta:
        return datetime.timedelta(hours=self.correction_hours)

    def rules(self) -> dict[str, Any]:
        """How solutions are labeled now. A labeling keeps the rules under which it was begun."""
        return {
            "phase": self.phase,
            "always_grid": self.always_grid,
            "continue_by": self.continue_by,
            "candidates": self.candidates_shown,
            "progress": self.progress,
            "critiques": self.critiques,
            "alternatives": self.alternatives,
        }

    @property
    def is_open_for_labeling(self) -> bool:
        return self.status == self.Status.ACTIVE


class Guideline(models.Model):
    """One version of what labelers are told: Markdown, and the words for the three ratings. Never edited: a change is a
    new version."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="guidelines")
    version = models.PositiveIntegerField()
    text = models.TextField()
    words = models.JSONField(
        default=dict,
        blank=True,
        help_text='{"1": {"word", "meaning", "example"}, "0": …, "-1": …}; what lacks is usual.',
    )
    author = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "version"], name="one_text_per_guideline_version")]
        ordering = ["-version"]

    def __str__(self) -> str:
        return f"{self.campaign} guideline {self.version}"


class Generation(models.Model):
    """One labeling round. Its number advances when it closes; the checkpoint is the one that selected its items."""

    campaign = models.ForeignKey(Campaign, models.CASCADE, related_name="generations")
    number = models.PositiveIntegerField()
    checkpoint = models.ForeignKey("Checkpoint", models.PROTECT, null=True, related_name="selected_generations")
    policy = models.JSONField(help_text="The selection policy as it was applied.")
    opened_at = models.DateTimeField(auto_now_add=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["campaign", "number"], name="one_generation_per_number"),
            models.UniqueConstraint(
                fields=["campaign"], condition=models.Q(closed_at=None), name="one_open_generation_per_campaign"
            ),
        ]
        ordering = ["number"]

    def __str__(self) -> str:
        return f"{self.campaign} generation {self.number}"
