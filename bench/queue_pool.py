"""The database of a queue measurement: fill it with a pool and people, and check afterwards that it adds up.

    python -m bench.queue_pool fill --slug pool --solutions 10000 --labelers 32
    python -m bench.queue_pool check

Works on DATABASE_URL and prints JSON. A process of its own, because one process of Django keeps to one database.
"""

# ruff: noqa: E402 - Django is set up before its models can be imported

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "annotator.settings")

import django

django.setup()

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.backends.db import SessionStore
from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.utils import timezone

from annotator.actions.campaigns import create_campaign
from annotator.models import (
    Assignment,
    Campaign,
    Completion,
    Generation,
    Labeling,
    Membership,
    Problem,
    QueueItem,
    RatingEvent,
    Solution,
    User,
)

STEPS = 8
SOLUTIONS_PER_PROBLEM = 4
LARGE = (Problem, Solution, Completion, QueueItem)
COUNTING = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {count})"
PASSWORD = "correct horse battery"  # noqa: S105  of people who exist for a minute


def fill(slug: str, *, solutions: int, labelers: int, wanted: int, finished: int) -> dict[str, Any]:
    """A campaign with a pool that is released as a whole, and people who are logged in. With `finished`, the first of
    them has that many solutions behind them already."""
    campaign = create_campaign(
        actor=None, slug=slug, name=slug.title(), labelings_wanted=wanted, status=Campaign.Status.ACTIVE
    )
    generation = Generation.objects.create(campaign=campaign, number=0, policy=campaign.selection_policy)
    with without_indexes(), transaction.atomic():
        first_item = write_pool(campaign, generation, solutions)
    people = [make_labeler(campaign, f"{slug}-{number}") for number in range(labelers)]
    if finished:
        finish(people[0], first_item, finished)
    settle()
    return {"slug": slug, "solutions": solutions, "labelers": [log_in(person.user) for person in people]}


def write_pool(campaign: Campaign, generation: Generation, solutions: int) -> int:
    """Returns the key of the first queue item. Neighbours in the queue belong to different problems."""
    problems = max(1, solutions // SOLUTIONS_PER_PROBLEM)
    problem = insert(
        Problem,
        problems,
        campaign_id=campaign.pk,
        digest="'problem ' || n",
        text="'Sam has ' || n || ' boxes with 12 pens each and gives away a third. How many pens are left?'",
        text_key="'problem ' || n",
        reference_answer="'42'",
        split="'train'",
    )
    solution = insert(
        Solution,
        solutions,
        campaign_id=campaign.pk,
        problem_id=f"{problem} + n % {problems}",
        digest="'solution ' || n",
        phase="2",
        split="'train'",
        draw="(n % 10007) / 10007.0",
        step_count=STEPS,
        final_answer="'42'",
    )
    completion = first_free(Completion)
    insert(
        Completion,
        solutions * STEPS,
        solution_id=f"{solution} + n / {STEPS}",
        parent_id=f"CASE WHEN n % {STEPS} = 0 THEN NULL ELSE {completion} + n - 1 END",
        step_index=f"n % {STEPS}",
        completion_index="0",
        text="'In part ' || n || ' we add the two amounts that were found above, which gives their sum.'",
    )
    return insert(
        QueueItem,
        solutions,
        campaign_id=campaign.pk,
        generation_id=generation.pk,
        solution_id=f"{solution} + n",
        problem_id=f"{problem} + n % {problems}",
        arm="'random'",
        strategy="'seeded draw'",
        inclusion_probability="1.0",
        rank="n",
        place=f"{QueueItem.place_of(generation.number, 0)} + n",
        wanted=campaign.labelings_wanted,
    )


def insert(model: type[models.Model], count: int, **columns: object) -> int:
    """`count` rows with consecutive keys, each column an SQL expression over `n` = 0, 1, …; the others have the model's
    defaults. Returns the first key."""
    first = first_free(model)
    columns["id"] = f"{first} + n"
    fields = model._meta.concrete_fields
    values = [str(columns[f.attname]) if f.attname in columns else "%s" for f in fields]
    defaults = [f.get_db_prep_save(f.get_default(), connection) for f in fields if f.attname not in columns]
    names = ", ".join(connection.ops.quote_name(f.column) for f in fields)
    if defaults:
        values = [value if value == "%s" else value.replace("%", "%%") for value in values]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {model._meta.db_table} ({names}) {COUNTING.format(count=count)} "  # noqa: S608  our own words
            f"SELECT {', '.join(values)} FROM numbers",
            defaults or None,
        )
        for statement in connection.ops.sequence_reset_sql(no_style(), [model]):
            cursor.execute(statement)
    return first


def first_free(model: type[models.Model]) -> int:
    last: int | None = model._default_manager.aggregate(models.Max("pk"))["pk__max"]
    return (last or 0) + 1


@contextlib.contextmanager
def without_indexes() -> Iterator[None]:
    """Plain indexes of the large tables are made after their rows, and their references are taken on trust."""
    tables = tuple(model._meta.db_table for model in LARGE)
    places = ", ".join(["%s"] * len(tables))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica; SET maintenance_work_mem = '256MB'")
            cursor.execute(
                "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "  # noqa: S608  placeholders
                f"WHERE indrelid::regclass::text IN ({places}) AND NOT indisunique",
                tables,
            )
        else:
            cursor.execute("PRAGMA foreign_keys = OFF")
            cursor.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql LIKE 'CREATE INDEX%%' "  # noqa: S608  the same
                f"AND tbl_name IN ({places})",
                tables,
            )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        yield
        for _, definition in indexes:
            cursor.execute(definition)
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = origin")
        else:
            cursor.execute("PRAGMA foreign_keys = ON")


def settle() -> None:
    """As a database is after a night: statistics made, nothing left to write."""
    with connection.cursor() as cursor:
        for statement in (
            ("VACUUM (ANALYZE)", "CHECKPOINT")
            if connection.vendor == "postgresql"
            else ("PRAGMA wal_checkpoint(TRUNCATE)",)
        ):
            cursor.execute(statement)


def make_labeler(campaign: Campaign, name: str) -> Membership:
    user = User.objects.create(username=name, email=f"{name}@example.org", password=QUICK_HASH)
    return Membership.objects.create(
        campaign=campaign,
        user=user,
        role=Membership.Role.LABELER,
        guideline=campaign.guideline,
        tutorial_done_at=timezone.now(),
    )


QUICK_HASH = make_password(PASSWORD)  # one for all: what a login costs is not measured


def log_in(user: User) -> dict[str, str]:
    """The two cookies that a browser has after the login form."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    assert session.session_key is not None
    return {"name": user.username, "session": session.session_key, "csrf": secrets.token_hex(16)}


@transaction.atomic
def finish(person: Membership, first_item: int, count: int) -> None:
    """The first `count` items of the queue as this person's finished work."""
    now = datetime.now(UTC)
    items = list(QueueItem.objects.filter(pk__gte=first_item, pk__lt=first_item + count))
    assignments = Assignment.objects.bulk_create(
        Assignment(
            item=item,
            solution_id=item.solution_id,
            problem_id=item.problem_id,
            membership=person,
            campaign_id=item.campaign_id,
            state=Assignment.State.DONE,
            place=item.place,
            lease_until=now,
            ended_at=now,
        )
        for item in items
    )
    Labeling.objects.bulk_create(
        Labeling(
            campaign_id=assignment.campaign_id,
            solution_id=assignment.solution_id,
            assignment=assignment,
            membership=person,
            state=Labeling.State.SUBMITTED,
            revision=1,
            finish_reason="solution",
            submitted_at=now,
        )
        for assignment in assignments
    )
    QueueItem.objects.filter(pk__in=[item.pk for item in items]).update(taken=models.F("taken") + 1)


def check() -> dict[str, int]:
    """What must be zero (more labelers than wanted, two current items in one hand, counters that differ from the rows),
    and what was stored."""
    held = models.Q(assignments__state__in=[Assignment.State.ACTIVE, Assignment.State.DONE])
    items = QueueItem.objects.filter(taken__gt=0).annotate(
        holders=models.Count("assignments__membership", filter=held, distinct=True)
    )
    submitted = Labeling.objects.filter(state=Labeling.State.SUBMITTED, assignment__isnull=False)
    twice = submitted.values("solution").annotate(
        people=models.Count("membership", distinct=True), wanted=models.F("campaign__labelings_wanted")
    )
    in_hand = Assignment.objects.filter(state=Assignment.State.ACTIVE).values("membership", "ahead")
    return {
        "held_by_too_many": items.filter(holders__gt=models.F("wanted")).count(),
        "labeled_by_too_many": twice.filter(people__gt=models.F("wanted")).count(),
        "two_in_one_hand": in_hand.annotate(rows=models.Count("pk")).filter(rows__gt=1).count(),
        "miscounted": items.exclude(holders=models.F("taken")).count(),
        "labelings": submitted.exclude(events=None).distinct().count(),
        "rating_events": RatingEvent.objects.filter(kind=RatingEvent.Kind.RATE).count(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    filling = commands.add_parser("fill")
    filling.add_argument("--slug", required=True)
    filling.add_argument("--solutions", type=int, required=True)
    filling.add_argument("--labelers", type=int, required=True)
    filling.add_argument("--wanted", type=int, default=1)
    filling.add_argument("--finished", type=int, default=0)
    commands.add_parser("check")
    arguments = vars(parser.parse_args())
    json.dump(fill(**arguments) if arguments.pop("command") == "fill" else check(), sys.stdout)


if __name__ == "__main__":
    main()
