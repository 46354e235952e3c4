from __future__ import annotations

from typing import Any

from annotator.models import AuditEvent, Campaign, User


def record(verb: str, *, campaign: Campaign | None, actor: User | None, subject: str = "", **data: Any) -> None:
    """Write the audit row of an action; call it inside the action's transaction."""
    AuditEvent.objects.create(campaign=campaign, actor=actor, verb=verb, subject=subject, data=data)
