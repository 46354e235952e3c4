r"""Comparing answers as PRM800K's grader does (openai/prm800k, `prm800k/grading`): correct only where it is plain.

Both sides are brought to a normal form: spacing, units, degrees, per cent and dollar signs dropped (two different units
are not equal), "and" and "or" read as commas. They are compared element by element, in order, within the same brackets.
A fraction must be in lowest terms, and where the reference is an integer the answer must be written as one (5.0 is).
What is left over may be equal as mathematics only if it is simple: the same unknowns, no more than two, no exponents of
more than one digit. Nothing of the text is ever evaluated here: computer algebra is the worker's business.
"""

from __future__ import annotations

import math
import re

from prm_backend.grading.answers import MAX_ANSWER_CHARS, last_boxed, without_delimiters
from prm_backend.grading.choices import chosen, is_choice
from prm_backend.grading.plain import number
from prm_backend.grading.units import units_clash, without_units
from prm_backend.grading.verdicts import Verdict

# In this order; each is applied to what the one before has left.
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), into)
    for pattern, into in (
        (r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\\[!,;:]", ""),
        (r"\\ |~", " "),
        ("\u2212", "-"),
        (r"\\?\$|\\?%|\^\s*\{?\s*\\circ\s*\}?|\^\s*\{?\s*\\degree\s*\}?|\\degree|°", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\(?:text|mathrm|mbox|textbf)\s*\{\s*(and|or)\s*\}", r" \1 "),
        (r"\\(?:text|mathrm|mbox|textbf)\s*\{([^{}]*)\}", r"\1"),
        (r"\s*\b(?:and|or)\b\s*", ","),
        (r",(?:\s*,)+", ","),
        (r"^\s*[a-zA-Z]\s*=(?!=)", ""),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\frac\s*\{([^{}]*)\}\s*(\d)", r"\\frac{\1}{\2}"),
        (r"\\sqrt\s*(\w)", r"\\sqrt{\1}"),
        (r"(\d)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}(?=\s*(?:$|[,)\]]))", r"\1 \2/\3"),
        (r"(^|[,(\[+\-\s])\\frac\s*\{\s*(-?\d+)\s*\}\s*\{\s*(\d+)\s*\}(?=\s*(?:$|[,)\]]))", r"\1\2/\3"),
        (r"\^\s*\{\s*(\w)\s*\}", r"^\1"),
        (r"(?<!\d)\s+|\s+(?!\d)", ""),
        (r"(?<![\d.])\.(?=\d)", "0."),
        (r"(\.\d*?)0+(?!\d)", r"\1"),
        (r"(?<=\d)\.(?!\d)", ""),
    )
)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_BRACKETS = re.compile(r"[(\[].*[)\]]", re.DOTALL)
_INTEGER = re.compile(r"[-+]?\d+")
_FRACTION = re.compile(r"[-+]?(?:\d+ )?(\d+)/(\d+)")
_WORD = re.compile(r"[a-zA-Z]{2,}")
_SIMPLE = re.compile(r"(?:\\(?:frac|sqrt|pi|cdot|times)(?![a-zA-Z])|[0-9a-zA-Z.+\-*/^(){}])+")
_COMMAND = re.compile(r"\\[a-z]+")
_RISKY = re.compile(r"\^\{|\^\(|\^[-+]?\d{2}|\^[-+]?\w\^|\*\*")
_MOST_UNKNOWNS = 2
_LONGEST_NUMBER = re.compile(r"\d{16}")

Pairs = list[tuple[str, str]]


def compare_conservatively(reference: str, answer: str) -> Verdict | Pairs:
    """The verdict, or the elements whose equality as mathematics decides it: all of them must be equal."""
    if reference == answer and reference.strip():
        return Verdict.CORRECT
    if max(len(reference), len(answer)) > MAX_ANSWER_CHARS:
        return Verdict.UNKNOWN
    if letter := is_choice(reference):
        return Verdict.CORRECT if chosen(answer) == letter else Verdict.INCORRECT
    if units_clash(reference, answer):
        return Verdict.INCORRECT
    left, right = normal_form(reference), normal_form(answer)
    if not left.strip(",") or not right.strip(","):
        return Verdict.INCORRECT
    if left == right:
        return Verdict.CORRECT
    left_elements, right_elements = _elements(left), _elements(right)
    if len(left_elements) != len(right_elements) or _outer(left) != _outer(right):
        return Verdict.INCORRECT
    open_pairs: Pairs = []
    for pair in zip(left_elements, right_elements, strict=True):
        equal = _equal(*pair)
        if equal is False:
            return Verdict.INCORRECT
        if equal is None:
            open_pairs.append(pair)
    return open_pairs or Verdict.CORRECT


def normal_form(answer: str) -> str:
    """The answer as it is compared."""
    text = without_units(without_delimiters(last_boxed(answer) or answer))
    for pattern, into in _REWRITES:
        text = pattern.sub(into, text)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    return text.casefold() if _WORD.fullmatch(text) else text.strip()


def _outer(text: str) -> str:
    """The brackets around a tuple or an interval; a list without them has none, and neither has a product of sums."""
    return text[0] + text[-1] if _BRACKETS.fullmatch(text) and len(_split(text[1:-1])) > 1 else ""


def _elements(text: str) -> list[str]:
    return _split(text[1:-1] if _outer(text) else text)


def _split(text: str) -> list[str]:
    """At the commas outside all brackets."""
    elements, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            elements.append("")
        else:
            elements[-1] += character
    return elements


def _equal(reference: str, answer: str) -> bool | None:
    """Whether two elements are equal; None where computer algebra may say."""
    if reference == answer:
        return reference != ""
    fraction = _FRACTION.fullmatch(answer)
    if fraction and math.gcd(int(fraction[1]), int(fraction[2])) != 1:
        return False
    if _INTEGER.fullmatch(reference):
        return bool(_INTEGER.fullmatch(answer)) and int(reference) == int(answer)
    truth, given = number(reference), number(answer)
    if truth is not None and given is not None:
        return truth == given
    letters = _letters(reference)
    two_cases = len({letter.lower() for letter in letters}) < len(letters)  # computer algebra takes X for x
    same_letters = letters == _letters(answer) and not two_cases
    return None if _is_simple(reference) and _is_simple(answer) and same_letters else False


def _is_simple(element: str) -> bool:
    if not _SIMPLE.fullmatch(element) or _RISKY.search(element) or _LONGEST_NUMBER.search(element):
        return False
    return len(_letters(element)) <= _MOST_UNKNOWNS


def _letters(element: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z]", _COMMAND.sub("", element)))
