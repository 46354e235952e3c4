"""Units: the words and signs after a number that may be dropped from an answer, and which of them mean the same.

The list is closed, because a word that is not known to be a unit may change the number: halves, dozens, million.
"""

from __future__ import annotations

import re
from itertools import groupby

# The first of each row stands for all of it. Long names are read in any case and in the plural, short ones as they are.
_LONG = """degree deg|percent|dollar|cent|euro|pound lb|ounce|rupee|meter metre|centimeter centimetre
millimeter millimetre|kilometer kilometre|mile|yard|inch|foot feet|second sec|minute min|hour hr|day|week|month|year yr
gram|kilogram|liter litre|milliliter millilitre|gallon|acre|mph|unit|point|person people|child children|man men
woman women|student|boy|girl|apple|book|ticket|coin|marble|card|page|piece|time|way|problem|question|game|car|bag|box
newton|joule|watt|volt|ampere amp|ohm|hertz|pascal|mole"""
_SHORT = """meter m|centimeter cm|millimeter mm|kilometer km|mile mi|yard yd|inch in|foot ft|second s|hour h|ounce oz
gram g|kilogram kg|liter L|milliliter mL ml|newton N|joule J|watt W|volt V|ampere A|hertz Hz|pascal Pa|mole mol"""


def _names(table: str) -> dict[str, str]:
    rows = (row.split() for row in table.replace("\n", "|").split("|"))
    return {name: row[0] for row in rows for name in row}


_NAME_OF = _names(_LONG) | {name + ending: first for name, first in _names(_LONG).items() for ending in ("s", "es")}
_SYMBOL_OF = {name: first for name, first in _names(_SHORT).items() if name not in _NAME_OF}


def _any_of(names: dict[str, str]) -> str:
    return "|".join(sorted(names, key=len, reverse=True))


_POWER = r"(?:\s*\^\s*(?:\{\s*[23]\s*\}|[23](?!\d)))?"
_WORD = rf"(?:(?i:square|sq|cubic)\.?\s+)?(?:(?i:{_any_of(_NAME_OF)})|{_any_of(_SYMBOL_OF)})(?![a-zA-Z]){_POWER}"
_WORDS = rf"{_WORD}(?:\s*(?:/|\bper\b)\s*{_WORD})?"
_UNIT = re.compile(
    rf"(?<=[\d}})])(?:\s*\\(?:text|mathrm|mbox|textbf)\s*\{{\s*{_WORDS}\.?\s*\}}{_POWER}"
    # A single letter next to a number is an unknown, and so is one with more mathematics behind it.
    rf"|(?:\s*(?![a-zA-Z](?![a-zA-Z]))|\s+(?=[a-zA-Z]\s*(?:[/^,)]|$))){_WORDS})(?!\s*[/^])",
    re.ASCII,  # or the Kelvin sign would be read as a k
)
_SIGNS = {
    "percent": re.compile(r"\\?%"),
    "degree": re.compile(r"°|\^\s*\{?\s*\\circ|\\degree"),
    "dollar": re.compile(r"\\\$|^\s*-?\$(?=[^$]*$)"),
}
_BASE = re.compile(r"(?<=\d)_\s*\{?\s*(\d+)")


def without_units(answer: str) -> str:
    """The answer without the words of the list that follow a number or a bracket."""
    return _UNIT.sub("", answer)


def units_clash(reference: str, answer: str) -> bool:
    """Whether the units differ where both sides have some, or one side has several: then no comparison of the numbers
    alone tells whether the answer is right. The base of a number, as in 11_2, counts as a unit."""
    left, right = _units(reference), _units(answer)
    return left != right and (max(len(left), len(right)) > 1 or bool(left and right))


def _units(answer: str) -> list[str]:
    """In the order of the answer; what repeats at once counts once."""
    found = [(unit.start(), _canonical(unit[0])) for unit in _UNIT.finditer(answer)]
    found += [(sign.start(), name) for name, pattern in _SIGNS.items() for sign in pattern.finditer(answer)]
    found += [(base.start(), f"base {base[1]}") for base in _BASE.finditer(answer)]
    return [name for name, _ in groupby(name for _, name in sorted(found))]


def _canonical(unit: str) -> str:
    return "/".join(_canonical_word(word) for word in re.split(r"/|\bper\b", re.sub(r"\\[a-z]+", "", unit)))


def _canonical_word(unit: str) -> str:
    *kind, name = re.findall("[a-zA-Z]+", unit)
    power = re.search(r"\d", unit)
    return (_SYMBOL_OF.get(name) or _NAME_OF[name.lower()]) + (
        power[0] if power else {"s": "2", "c": "3"}[kind[0][0].lower()] if kind else ""
    )
