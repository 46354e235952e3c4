"""What a person sets for themselves on the labeling page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.utils import timezone

from annotator.errors import Invalid
from annotator.models import Membership, User

# The acts that have keys; the page knows their usual ones (static/js/label/keys.js).
ACTS = (
    "bad",
    "neutral",
    "good",
    "fourth",
    "unsure",
    "undo",
    "up",
    "down",
    "submit",
    "earlier",
    "comment",
    "report_answer",
    "bad_problem",
    "give_up",
    "skip",
    "guideline",
    "keys",
)


def set_keys(user: User, keys: Mapping[str, Sequence[str]]) -> None:
    """Store a person's own keys. Raises `Invalid` for an unknown act, or a key that means two things."""
    if unknown := sorted(set(keys) - set(ACTS)):
        raise Invalid("unknown_act", f"There is no act called {unknown[0]}.")
    given = [key.lower() for several in keys.values() for key in several]
    if twice := sorted({key for key in given if given.count(key) > 1}):
        raise Invalid("key_taken", f"The key {twice[0]} is given to two acts.")
    user.keys = {act: list(several) for act, several in keys.items()}
    user.save(update_fields=["keys"])


def finish_tutorial(membership: Membership) -> None:
    """The labeler has gone through the tutorial, or left it: it does not come by itself again."""
    if membership.tutorial_done_at is None:
        membership.tutorial_done_at = timezone.now()
        membership.save(update_fields=["tutorial_done_at"])
