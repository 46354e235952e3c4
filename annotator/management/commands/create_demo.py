from __future__ import annotations

import json
import os
import tempfile
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from annotator.actions.campaigns import activate_campaign, create_campaign
from annotator.actions.imports import fail_import, start_import
from annotator.actions.people import create_user, one_time_password
from annotator.dispatch import run_here
from annotator.errors import Refusal
from annotator.models import Campaign, ImportRun, Job, Membership, User
from prm_backend.synthetic import generate_rows

PEOPLE = {
    "labeler": Membership.Role.LABELER,
    "manager": Membership.Role.MANAGER,
    "researcher": Membership.Role.RESEARCHER,
}


class Command(BaseCommand):
    help = (
        "Create the demo: generated word problems with model-like solutions, and a labeler, a manager and a researcher "
        "whose passwords are made here and written to demo_logins.txt in the data folder."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--slug", default="demo")
        parser.add_argument("--problems", type=int, default=4000)
        parser.add_argument("--solutions", type=int, default=2, help="for each problem")
        parser.add_argument("--seed", type=int, default=0)

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["slug"]
        if Campaign.objects.filter(slug=slug).exclude(status=Campaign.Status.DRAFT).exists():
            raise CommandError(f"There is a campaign {slug} already.")
        try:
            people = self._people()
            # In draft is a demo whose making was cut short: go on with it.
            campaign = Campaign.objects.filter(slug=slug).first() or self._campaign(slug, people)
            self._finish_import(campaign)
            if not campaign.imports.filter(state=ImportRun.State.DONE).exists():
                self._import(campaign, options)
            activate_campaign(campaign, actor=people["manager"])
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(f"Created the campaign {slug}: {campaign.solutions.count()} solutions.")

    def _people(self) -> dict[str, User]:
        """Made once; a second demo in the same database shares them."""
        known = {user.username: user for user in User.objects.filter(username__in=PEOPLE)}
        passwords = {name: one_time_password() for name in PEOPLE if name not in known}
        if passwords:
            file = Path(settings.DATA_DIR) / "demo_logins.txt"
            with open(file, "w", opener=lambda path, flags: os.open(path, flags, 0o600)) as logins:
                logins.writelines(f"{name} {password}\n" for name, password in passwords.items())
        # All of them or none: the file holds the only copy of their passwords.
        with transaction.atomic():
            for name, password in passwords.items():
                known[name] = create_user(username=name, email=f"{name}@example.org", password=password)
        return known

    def _finish_import(self, campaign: Campaign) -> None:
        """Go on with an import that was cut short, or clear it away if its job is gone."""
        for run in campaign.imports.filter(state__in=ImportRun.UNFINISHED):
            job = Job.objects.filter(campaign=campaign, params__import_run=run.pk, state__in=Job.UNFINISHED).first()
            if job is None:
                fail_import(run, "It was cut short.")
            else:
                run_here(job)

    @transaction.atomic
    def _campaign(self, slug: str, people: dict[str, User]) -> Campaign:
        campaign = create_campaign(
            actor=people["manager"],
            slug=slug,
            name="Demo: word problems",
            domain="generated arithmetic word problems",
            generation_size=100,
            audit_per_generation=20,
            retrain_after=30,
            progress=Campaign.FollowUp.OPTIONAL,
            critiques=Campaign.FollowUp.OPTIONAL,
            alternatives=Campaign.FollowUp.OPTIONAL,
        )
        for name in ("labeler", "researcher"):
            Membership.objects.create(
                campaign=campaign, user=people[name], role=PEOPLE[name], guideline=campaign.guideline
            )
        return campaign

    def _import(self, campaign: Campaign, options: dict[str, Any]) -> None:
        rows = generate_rows(
            problems=options["problems"],
            solutions_per_problem=options["solutions"],
            seed=options["seed"],
            with_follow_ups=True,
        )
        with tempfile.TemporaryFile("w+b") as file:
            file.writelines(json.dumps(row).encode() + b"\n" for row in rows)
            file.seek(0)
            run = start_import(
                campaign,
                actor=None,
                upload=file,
                file_name="generated.jsonl",
                format="simple",
                labels="oracle",
                wake=False,
            )
        job = run_here(Job.objects.get(campaign=campaign, kind=Job.Kind.IMPORT, params__import_run=run.pk))
        if job.state != Job.State.DONE:
            raise CommandError(f"The generated solutions could not be imported: {job.error}")
