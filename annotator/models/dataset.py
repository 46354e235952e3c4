from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models


class DatasetVersion(models.Model):
    """An immutable, numbered snapshot of labelings: a canonical file written once, and its manifest. Every export
    reads that file, so the same version gives the same bytes."""

    campaign = models.ForeignKey("Campaign", models.CASCADE, related_name="dataset_versions")
    number = models.PositiveIntegerField()
    file = models.CharField(max_length=300, help_text="The canonical file, relative to the data folder.")
    sha256 = models.CharField(max_length=64)
    manifest = models.JSONField()
    created_by = models.ForeignKey("User", models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["campaign", "number"], name="one_dataset_per_number")]
        ordering = ["-number"]

    def __str__(self) -> str:
        return f"{self.campaign} dataset {self.number}"

    @property
    def path(self) -> Path:
        return Path(settings.DATA_DIR) / self.file
