from __future__ import annotations

from django.db import models


class GoldLabel(models.Model):
    """A trusted rating of one completion, to compare labelers and checkpoints with. Never shown to labelers."""

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="gold_labels")
    completion = models.OneToOneField("Completion", models.CASCADE, related_name="gold_label")
    import_run = models.ForeignKey("ImportRun", models.CASCADE, null=True, related_name="gold_labels")
    value = models.SmallIntegerField(null=True)
    not_bad = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(value__in=[-1, 0, 1], not_bad=False) | models.Q(value=None, not_bad=True),
                name="gold_label_says_one_thing",
            )
        ]

    def __str__(self) -> str:
        return f"gold {'not bad' if self.not_bad else self.value}"
