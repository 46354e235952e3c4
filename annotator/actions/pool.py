"""The two statements of a claim, in SQL: what is already somebody's, and what the pool has. Their cost depends neither
on the pool's size nor on what the labeler has done, and the ORM could not say the second and would take longer over the
first than the database."""
# ruff: noqa: S608 - table names and constants alone go into the statement; values are parameters

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any

from django.db import connection

from annotator.models import Assignment, Membership, QueueItem

Lane = QueueItem.Lane
State = Assignment.State

# So many open items are looked at for a problem that the labeler has not had yet.
WINDOW = 50


@dataclass(frozen=True, slots=True)
class Taken:
    """An item whose permit has been taken. `place` is -1 where it did not come from the main lane, so that the cursor
    stays."""

    item_id: int
    solution_id: int
    problem_id: int
    targets: list[int] | None
    place: int = -1


def unfinished_and_run_out(membership: Membership, now: datetime.datetime) -> list[Assignment]:
    """At most four assignments, locked: this person's (in hand, ahead, what they may resume), then run-out leases of
    others on solutions that they have not had, or have begun (`begun`) and may resume. Rows that are just being written
    are passed over."""
    values = {
        "me": membership.pk,
        "campaign": membership.campaign_id,
        "now": connection.ops.adapt_datetimefield_value(now),
    }
    return list(Assignment.objects.raw(_near(reviewer=membership.role == Membership.Role.MANAGER), values))


def _near(*, reviewer: bool) -> str:
    kept_back = _words(Lane.HELD) if reviewer else _words(Lane.HELD, Lane.REVIEW)
    assignments = Assignment._meta.db_table
    return f"""
        SELECT a.*, EXISTS (
            SELECT 1 FROM {assignments} h WHERE h.membership_id = %(me)s AND h.solution_id = a.solution_id
        ) AS begun
        FROM {assignments} a JOIN {QueueItem._meta.db_table} q ON q.id = a.item_id
        WHERE (
            a.membership_id = %(me)s AND a.state IN ({_words(State.ACTIVE, *Assignment.RESUMABLE)}) AND (
                a.state = '{State.ACTIVE}' OR (
                    a.state IN ({_words(State.RELEASED, State.EXPIRED)}) AND NOT q.retired AND q.taken < q.wanted
                    AND q.lane IN ({_words(Lane.MAIN, Lane.RETURNED)})
                )
            )
        ) OR (
            a.campaign_id = %(campaign)s AND a.state = '{State.ACTIVE}' AND a.lease_until <= %(now)s
            AND a.membership_id <> %(me)s AND NOT q.retired AND q.lane NOT IN ({kept_back}) AND NOT EXISTS (
                SELECT 1 FROM {assignments} h WHERE h.membership_id = %(me)s AND h.solution_id = a.solution_id
                AND h.state NOT IN ({_words(*Assignment.RESUMABLE)})
            )
        )
        ORDER BY CASE WHEN a.membership_id = %(me)s THEN 0 ELSE 1 END,
            CASE WHEN a.state = '{State.ACTIVE}' THEN 0 ELSE 1 END, a.lease_until
        LIMIT 4 {_skip_locked("a")}
    """


def _words(*constants: str) -> str:
    return ", ".join(f"'{constant}'" for constant in constants)


def _skip_locked(table: str) -> str:
    return f"FOR UPDATE OF {table} SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""


def take_from_pool(membership: Membership, *, anywhere: bool = False) -> Taken | None:
    """Take a permit of the next open item: what came back first, then the main lane from the labeler's cursor on. With
    `anywhere` the whole queue is searched, and what the labeler had put off or lost counts too: the last resort of a
    claim that found nothing. None where nothing is open. Call it inside a transaction."""
    reviewer = membership.role == Membership.Role.MANAGER
    values: dict[str, Any] = {
        "me": membership.pk,
        "campaign": membership.campaign_id,
        "window": WINDOW,
        "spread": membership.campaign.spread_problems,
    }
    with connection.cursor() as cursor:
        cursor.execute(_statement(reviewer=reviewer, anywhere=anywhere), values)
        row = cursor.fetchone()
    if row is None:
        return None
    item_id, solution_id, problem_id, targets, place, lane = row
    if isinstance(targets, str):
        targets = json.loads(targets)
    return Taken(item_id, solution_id, problem_id, targets, place if lane == Lane.MAIN and not anywhere else -1)


def _statement(*, reviewer: bool, anywhere: bool) -> str:
    lanes = _words(Lane.REVIEW, Lane.RETURNED) if reviewer else _words(Lane.RETURNED)
    mine = f"{Assignment._meta.db_table} a WHERE a.membership_id = %(me)s"
    had = f"SELECT 1 FROM {mine} AND a.solution_id = q.solution_id"
    if anywhere:
        had += f" AND a.state NOT IN ({_words(*Assignment.RESUMABLE)})"
    start = "-1" if anywhere else f"(SELECT COALESCE(MAX(a.place), -1) FROM {mine})"
    items = QueueItem._meta.db_table
    open_items = "q.campaign_id = %(campaign)s AND NOT q.retired AND q.taken < q.wanted"
    return f"""
        WITH returned AS (
            SELECT q.id, q.problem_id, 0 AS turn FROM {items} q
            WHERE {open_items} AND q.lane IN ({lanes}) AND NOT EXISTS ({had})
            ORDER BY q.place, q.id LIMIT %(window)s
        ),
        main AS (
            SELECT q.id, q.problem_id, 1 AS turn FROM {items} q
            WHERE {open_items} AND q.lane = '{Lane.MAIN}' AND q.place >= {start} AND NOT EXISTS ({had})
            ORDER BY q.place, q.id LIMIT %(window)s
        ),
        near AS (SELECT * FROM returned UNION ALL SELECT * FROM main)
        UPDATE {items} SET taken = taken + 1 WHERE id = (
            SELECT q.id FROM {items} q JOIN near ON near.id = q.id
            WHERE NOT q.retired AND q.taken < q.wanted AND q.lane IN ({lanes}, '{Lane.MAIN}')
            ORDER BY near.turn,
                CASE WHEN %(spread)s AND EXISTS (SELECT 1 FROM {mine} AND a.problem_id = near.problem_id)
                THEN 1 ELSE 0 END,
                q.place, q.id
            LIMIT 1 {_skip_locked("q")}
        )
        RETURNING id, solution_id, problem_id, target_steps, place, lane
    """
