"""The words of a guideline: what the three ratings are called, what they mean, and an example of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

from annotator.models import Guideline

# In the order of the keys, from bad to good. A campaign that says nothing else uses these.
USUAL_WORDS: dict[int, dict[str, Any]] = {
    -1: {
        "word": _("bad"),
        "meaning": _("wrong, unclear, or impossible to check in half a minute"),
        "example": _("“Half of 14 is 6, so 6 apples are left.”"),
    },
    0: {
        "word": _("neutral"),
        "meaning": _("right, but it does not help: it repeats, stalls or only announces"),
        "example": _("“Let us read the problem again.”"),
    },
    1: {
        "word": _("good"),
        "meaning": _("right, easy to check, and it takes the solution forward"),
        "example": _("“Half of 14 is 7, so 7 apples are left.”"),
    },
}
RATING_SIGNS = {-1: "−", 0: "0", 1: "+"}
PARTS = ("word", "meaning", "example")


@dataclass(frozen=True, slots=True)
class RatingWords:
    """How one guideline speaks of one rating."""

    value: int
    word: str
    meaning: str
    example: str

    @property
    def mark(self) -> str:
        """The shape that stands for it on a page."""
        return {-1: "bad", 0: "neutral", 1: "good"}[self.value]

    @property
    def sign(self) -> str:
        return RATING_SIGNS[self.value]


def rating_words(guideline: Guideline | None) -> list[RatingWords]:
    """The words for −, 0 and +, in this order; what the guideline leaves out is as usual."""
    own = guideline.words if guideline else {}
    return [
        RatingWords(value, **{part: str(own.get(str(value), {}).get(part) or usual[part]) for part in PARTS})
        for value, usual in USUAL_WORDS.items()
    ]


def stored_words(words: list[RatingWords]) -> dict[str, dict[str, str]]:
    """The words as `Guideline.words` keeps them: complete, so that a version says the same for ever."""
    return {str(row.value): {part: getattr(row, part) for part in PARTS} for row in words}
