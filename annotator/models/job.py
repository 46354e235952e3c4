from __future__ import annotations

from django.db import models


class Job(models.Model):
    """The truth about one piece of background work; the message on the queue is only a wake-up."""

    class Kind(models.TextChoices):
        IMPORT = "import", "import a file"
        UNDO = "undo", "take an import back"
        GRADE = "grade", "grade final answers"
        PRETRAIN = "pretrain", "pretrain the embedded model"
        SCORE = "score", "score the pool"
        RETRAIN = "retrain", "retrain and evaluate"
        RELEASE = "release", "release the next generation"
        DATASET = "dataset", "write a dataset version"
        REWANT = "rewant", "change the labelings wanted"

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    UNFINISHED = (State.QUEUED, State.RUNNING)
    MAX_ATTEMPTS = 5

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="jobs")
    kind = models.CharField(max_length=16, choices=Kind)
    queue = models.CharField(max_length=16)
    params = models.JSONField(default=dict)
    state = models.CharField(max_length=16, choices=State, default=State.QUEUED)
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    cancel_requested = models.BooleanField(default=False)
    done = models.FloatField(default=0)
    total = models.FloatField(default=0)
    note = models.CharField(max_length=300, blank=True)
    error = models.TextField(blank=True)
    result = models.JSONField(default=dict)
    created_by = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True, help_text="When its wake-up was last put on the queue.")

    class Meta:
        constraints = [
            # Two buttons, two schedulers or a repeated message cannot start the same work twice.
            models.UniqueConstraint(
                fields=["campaign", "kind"],
                condition=models.Q(state__in=["queued", "running"]),
                name="one_unfinished_job_per_kind",
            )
        ]
        indexes = [
            models.Index(
                fields=["state", "lease_until"],
                condition=models.Q(state__in=["queued", "running"]),
                name="unfinished_jobs",
            )
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"job {self.pk}: {self.kind} ({self.state})"

    @property
    def fraction(self) -> float:
        if self.state == self.State.DONE:
            return 1.0
        return min(self.done / self.total, 1.0) if self.total else 0.0


class WorkerPulse(models.Model):
    """When a worker of a queue last reported: how a page knows that nobody will take up a job."""

    queue = models.CharField(max_length=16, unique=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.queue}: {self.seen_at}"


class AuditEvent(models.Model):
    """Append-only: who did what to what, beside the rating events the only history."""

    campaign = models.ForeignKey("Campaign", models.CASCADE, null=True, related_name="audit_events")
    actor = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    verb = models.CharField(max_length=60)
    subject = models.CharField(max_length=120, blank=True)
    data = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.verb} {self.subject}"
