from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.models import F, OuterRef, Subquery
from django.db.models.functions import Coalesce


def fill(apps: Any, schema_editor: Any) -> None:
    QueueItem = apps.get_model("annotator", "QueueItem")
    Assignment = apps.get_model("annotator", "Assignment")
    Solution = apps.get_model("annotator", "Solution")
    Generation = apps.get_model("annotator", "Generation")
    Guideline = apps.get_model("annotator", "Guideline")
    problem_of = Subquery(Solution.objects.filter(pk=OuterRef("solution")).values("problem")[:1])
    QueueItem.objects.update(problem=problem_of)
    for generation in Generation.objects.all():
        generation.queue_items.update(place=F("rank") + (generation.number << 32))
    Assignment.objects.update(
        problem=problem_of,
        place=Coalesce(Subquery(QueueItem.objects.filter(pk=OuterRef("item")).values("place")[:1]), -1),
    )
    Assignment.objects.filter(state="returned").update(state="skipped")
    in_force = Guideline.objects.order_by("-version")
    apps.get_model("annotator", "Campaign").objects.update(
        guideline=Subquery(in_force.filter(campaign=OuterRef("pk")).values("pk")[:1])
    )
    apps.get_model("annotator", "Membership").objects.update(
        guideline=Subquery(in_force.filter(campaign=OuterRef("campaign")).values("pk")[:1])
    )
    apps.get_model("annotator", "Labeling").objects.exclude(submitted_at=None).update(revision=1)
    apps.get_model("annotator", "RatingEvent").objects.filter(flagged=None).update(flagged=False)
    # The ratings of a draft are the fold of its events now, and are written when it is submitted.
    drafts = {"labeling__state": "draft", "labeling__assignment__isnull": False}
    apps.get_model("annotator", "Rating").objects.filter(**drafts).delete()


class Migration(migrations.Migration):
    dependencies = [("annotator", "0002_workbench")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
