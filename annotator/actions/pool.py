"""Taking a permit from the pool: one statement, whose cost depends neither on the pool's size nor on what the labeler
has done. Every claim starts where the labeler's last one ended (its cursor), looks at the next few open items, and
takes the first that nobody else is just taking."""
# ruff: noqa: S608 - table names and constants alone go into the statement; values are parameters

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from annotator.models import Assignment, Membership, QueueItem

Lane = QueueItem.Lane

# So many open items are looked at for a problem that the labeler has not had yet.
WINDOW = 50


@dataclass(frozen=True, slots=True)
class Taken:
    """An item whose permit has been taken."""

    item_id: int
    solution_id: int
    problem_id: int
    place: int
    lane: str


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
    return Taken(*row) if row else None


def _statement(*, reviewer: bool, anywhere: bool) -> str:
    returned = [Lane.REVIEW, Lane.RETURNED] if reviewer else [Lane.RETURNED]
    lanes = ", ".join(f"'{lane}'" for lane in returned)
    resumable = ", ".join(f"'{state}'" for state in Assignment.RESUMABLE)
    mine = f"{Assignment._meta.db_table} a WHERE a.membership_id = %(me)s"
    had = f"SELECT 1 FROM {mine} AND a.solution_id = q.solution_id"
    if anywhere:
        had += f" AND a.state NOT IN ({resumable})"
    start = "-1" if anywhere else f"(SELECT COALESCE(MAX(a.place), -1) FROM {mine})"
    skip_locked = "FOR UPDATE OF q SKIP LOCKED" if connection.features.has_select_for_update_skip_locked else ""
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
            WHERE NOT q.retired AND q.taken < q.wanted
            ORDER BY near.turn,
                CASE WHEN %(spread)s AND EXISTS (SELECT 1 FROM {mine} AND a.problem_id = near.problem_id)
                THEN 1 ELSE 0 END,
                q.place, q.id
            LIMIT 1 {skip_locked}
        )
        RETURNING id, solution_id, problem_id, place, lane
    """
