from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotator.actions.datasets import COMPANION, export_lines, request_dataset
from annotator.dispatch import run_here
from annotator.errors import Refusal
from annotator.models import Campaign, DatasetVersion, Job


class Command(BaseCommand):
    help = "Write a new dataset version of a campaign, or export an existing one, to a file (or standard output)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--campaign", required=True, help="slug")
        parser.add_argument("--format", default="prm800k", help="prm800k, trl or companion")
        parser.add_argument("--output", default="-", help="file to write; - for standard output")
        parser.add_argument(
            "--companion", help="file for the version's companion: critiques, progress, comments, times"
        )
        parser.add_argument("--number", type=int, help="an existing version (default: make a new one)")
        parser.add_argument(
            "--include-simulated", action="store_true", help="allow a campaign of simulated labelers to be exported"
        )
        parser.add_argument(
            "--include-targeted", action="store_true", help="a new version takes labelings of single steps too"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        campaign = Campaign.objects.filter(slug=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign {options['campaign']}.")
        if campaign.simulated and not options["include_simulated"]:
            raise CommandError(
                f"{campaign.slug} holds simulated labels, not people's: say --include-simulated if you want them."
            )
        try:
            version = self._version(campaign, options["number"], include_targeted=options["include_targeted"])
            lines = export_lines(version, options["format"])
            if options["companion"]:
                self._write(options["companion"], export_lines(version, COMPANION))
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        if options["output"] == "-":
            sys.stdout.writelines(lines)
            return
        target = self._write(options["output"], lines)
        self.stdout.write(f"Dataset {version.number}: {version.manifest['counts'].get('records', 0)} records, {target}")

    def _write(self, name: str, lines: Iterator[str]) -> Path:
        target = Path(name)
        try:
            write_lines(target, lines)
        except OSError as error:
            raise CommandError(f"{target}: {error.strerror}") from error
        return target

    def _version(self, campaign: Campaign, number: int | None, *, include_targeted: bool) -> DatasetVersion:
        if number is not None:
            version = DatasetVersion.objects.filter(campaign=campaign, number=number).first()
            if version is None:
                raise CommandError(f"{campaign.slug} has no dataset {number}.")
            return version
        job = run_here(
            request_dataset(campaign, actor=None, wake=False, include_simulated=True, include_targeted=include_targeted)
        )
        if job.state != Job.State.DONE:
            raise CommandError(f"The dataset could not be written: {job.error or job.state}")
        return DatasetVersion.objects.get(campaign=campaign, number=job.result["number"])


def write_lines(target: Path, lines: Iterator[str]) -> None:
    """A file appears when it is whole; a pipe, a device or a link is written to, not replaced."""
    if target.is_symlink() or (target.exists() and not target.is_file()):
        with target.open("w", encoding="utf-8", newline="") as stream:
            stream.writelines(lines)
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    draft.replace(target)
