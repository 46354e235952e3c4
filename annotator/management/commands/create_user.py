from __future__ import annotations

import getpass
import os
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotator.actions.people import add_member, create_user, one_time_password
from annotator.errors import Refusal
from annotator.models import Campaign, Membership


class Command(BaseCommand):
    help = (
        "Create a person. Without --campaign the password comes from STEPMARK_PASSWORD, else it is asked for; with "
        "--campaign the person gets a one-time password, which is printed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--email", required=True)
        parser.add_argument("--campaign", help="slug of a campaign to join")
        parser.add_argument("--role", choices=Membership.Role.values, default=Membership.Role.LABELER)
        parser.add_argument("--staff", action="store_true", help="may create campaigns and use the admin pages")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["campaign"]:
                self._join(options)
            else:
                self._create(options)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal

    def _create(self, options: dict[str, Any]) -> None:
        password = os.environ.get("STEPMARK_PASSWORD") or (getpass.getpass() if os.isatty(0) else "")
        given = bool(password)
        password = password or one_time_password()
        user = create_user(
            username=options["username"], email=options["email"], password=password, must_change_password=not given
        )
        if options["staff"]:
            user.is_staff = user.is_superuser = True
            user.save(update_fields=["is_staff", "is_superuser"])
        self.stdout.write(f"Created {user.username}." + ("" if given else f" One-time password: {password}"))

    def _join(self, options: dict[str, Any]) -> None:
        campaign = Campaign.objects.filter(slug=options["campaign"]).first()
        if campaign is None:
            raise CommandError(f"There is no campaign {options['campaign']}.")
        membership, password = add_member(
            campaign,
            actor=None,
            username=options["username"],
            email=options["email"],
            role=Membership.Role(options["role"]),
        )
        known = "known already, keeps the password" if password is None else f"one-time password: {password}"
        self.stdout.write(f"{membership.user.username} joins {campaign.slug} as {membership.role}; {known}")
