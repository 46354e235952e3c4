"""Sample items for a first-time labeler."""

from __future__ import annotations

from typing import Any


def tutorial_items(phase: int) -> list[dict[str, Any]]:
    """The items to go through, in order."""
    return []
