from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotator.actions.imports import start_import
from annotator.dispatch import run_here
from annotator.errors import Refusal
from annotator.models import Campaign, ImportRun, Job
from prm_backend.errors import FormatError

COUNTED = ("rows", "problems", "solutions", "repeats", "labelings", "gold_labels")


class Command(BaseCommand):
    help = "Import a file of solutions into a campaign: all of it, or nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file")
        parser.add_argument("--campaign", required=True, help="slug")
        parser.add_argument("--format", default="auto", help="auto, prm800k, processbench or simple")
        parser.add_argument(
            "--labels",
            default="",
            choices=["", *ImportRun.Labels.values],
            help="what becomes of the file's labels (default: labelings for prm800k, ignore for the others)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(slug=options["campaign"]).first()
        if campaign is None:
            raise CommandError(
                f"There is no campaign {options['campaign']}: create it with `manage.py create_campaign`."
            )
        try:
            with open(options["file"], "rb") as file:
                run = start_import(
                    campaign,
                    actor=None,
                    upload=file,
                    file_name=options["file"],
                    format=options["format"],
                    labels=options["labels"],
                    wake=False,
                )
        except OSError as error:
            raise CommandError(f"{options['file']}: {error.strerror}") from error
        except FormatError as error:
            raise CommandError(str(error)) from error
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        run_here(Job.objects.get(campaign=campaign, kind=Job.Kind.IMPORT, params__import_run=run.pk))
        run.refresh_from_db()
        if run.state != ImportRun.State.DONE:
            raise CommandError(f"{options['file']}: {run.error or 'the import did not finish'}")
        counts = dict.fromkeys(COUNTED, 0) | dict(sorted(run.report.items()))
        self.stdout.write(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items()))
