from __future__ import annotations

from django.db import models


class CandidateRequest(models.Model):
    """Something that a worker is to ask the model's endpoint for while somebody labels: steps that follow `parent` (the
    first step where there is none), or critiques of it. The row is the truth, the message only a wake-up."""

    class Kind(models.TextChoices):
        STEPS = "steps"
        CRITIQUES = "critiques"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    UNFINISHED = (State.QUEUED, State.RUNNING)
    MAX_ATTEMPTS = 3

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="candidate_requests")
    solution = models.ForeignKey("Solution", models.CASCADE, related_name="candidate_requests")
    parent = models.ForeignKey("Completion", models.CASCADE, null=True, related_name="candidate_requests")
    kind = models.CharField(max_length=16, choices=Kind)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    error = models.CharField(max_length=300, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["solution", "parent", "kind"], name="one_candidate_request_per_place"),
            # SQL holds NULL parents for distinct.
            models.UniqueConstraint(
                fields=["solution", "kind"],
                condition=models.Q(parent=None),
                name="one_candidate_request_per_first_place",
            ),
        ]
        indexes = [
            models.Index(
                fields=["state", "lease_until"],
                condition=models.Q(state__in=["queued", "running"]),
                name="unfinished_candidates",
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} for solution {self.solution_id} ({self.state})"
