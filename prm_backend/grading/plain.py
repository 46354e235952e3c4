"""Comparing answers without computer algebra: choices, equal text, plain numbers."""

from __future__ import annotations

import re
from fractions import Fraction

from prm_backend.grading.answers import MAX_ANSWER_CHARS, last_boxed, without_delimiters
from prm_backend.grading.choices import chosen, is_choice
from prm_backend.grading.units import units_clash, without_units
from prm_backend.grading.verdicts import Verdict

# A blank between digits stays: "1 1/2" is not 11/2.
_SPACING = re.compile(r"\\[!,;: ]|\\(?:left|right)(?![a-zA-Z])|(?<!\d)\s+|\s+(?!\d)")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")
_MIXED = re.compile(r"(?<=\d)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_PLAIN = re.compile(r"([-+]?)(?:(\d+) )?((?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?|\.\d+)(?:/(\d+))?")
_WORDS = re.compile(r"[a-zA-Z]{2,}\b[^\d\\]*")


def compare_plainly(reference: str, answer: str) -> Verdict | None:
    """The verdict where the reference is a choice, both are the same text or plain numbers, or units or words stand in
    the way; None where it takes more."""
    if reference == answer and reference.strip():
        return Verdict.CORRECT
    if max(len(reference), len(answer)) > MAX_ANSWER_CHARS:
        return Verdict.UNKNOWN
    if letter := is_choice(reference):
        choice = chosen(answer)
        return Verdict.UNKNOWN if choice is None else Verdict.CORRECT if choice == letter else Verdict.INCORRECT
    if units_clash(reference, answer):
        return Verdict.UNKNOWN
    reference, answer = without_units(_bare(reference)), without_units(_bare(answer))
    left, right = _normalized(reference), _normalized(answer)
    if not left or not right:
        return Verdict.UNKNOWN
    if left == right:
        return Verdict.CORRECT
    left_number, right_number = number(left), number(right)
    if left_number is None or right_number is None:
        value, _, words = answer.partition(" ")
        strange = left_number is not None and number(value) is not None and _WORDS.fullmatch(words)
        return Verdict.UNKNOWN if strange else None  # 3 million, 5 halves
    return Verdict.CORRECT if left_number == right_number else Verdict.INCORRECT


def number(text: str) -> Fraction | None:
    """The value of a plain number such as -1,200.50 or 3/4 or 1 1/2."""
    found = _PLAIN.fullmatch(text)
    if not found:
        return None
    sign, whole, above, below = found[1], found[2], found[3].replace(",", ""), int(found[4] or 1)
    if not below or (whole and (not found[4] or "." in above)):
        return None
    value = int(whole or 0) + Fraction(above) / below
    return -value if sign == "-" else value


def _bare(answer: str) -> str:
    answer = without_delimiters(answer)
    return without_delimiters(last_boxed(answer) or answer)


def _normalized(answer: str) -> str:
    answer = _TEXT.sub(r"\1", _SPACING.sub("", answer))
    return _FRACTION.sub(r"\1\2/\3", _MIXED.sub(r" \1/\2", answer))
