from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_slug

from annotator.actions.campaigns import create_campaign
from annotator.errors import Refusal
from annotator.models import User


class Command(BaseCommand):
    help = "Create a campaign in draft."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug", help="short name, used in addresses")
        parser.add_argument("--name", help="the name people see (default: the slug)")
        parser.add_argument("--phase", type=int, choices=[1, 2], default=2)
        parser.add_argument("--manager", help="user name of its manager")

    def handle(self, *args: Any, **options: Any) -> None:
        slug = options["slug"]
        manager = User.objects.filter(username=options["manager"]).first() if options["manager"] else None
        if options["manager"] and manager is None:
            raise CommandError(f"There is no user {options['manager']}: create one with `manage.py create_user`.")
        try:
            validate_slug(slug)
            create_campaign(actor=manager, slug=slug, name=options["name"] or slug, phase=options["phase"])
        except ValidationError as error:
            raise CommandError(f"{slug!r} is not a slug: letters, digits, hyphens and underscores only.") from error
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(f"Created campaign {slug} (phase {options['phase']}).")
