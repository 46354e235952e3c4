"""Multiple-choice answers: which letter was chosen. Math-Verify takes such letters for unknowns, so it is not asked."""

from __future__ import annotations

import re

from prm_backend.grading.answers import last_boxed, without_delimiters

_MARKUP = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}|\\[!,;: ]|\\left|\\right|[*`$]")
_BARE = re.compile(r"\(\s*([A-Ea-e])\s*\)|([A-E])\s*[.):]?")
_ALONE = re.compile(r"([a-e])\s*[.):]?")
_LEADING = re.compile(r"\(\s*([A-Ea-e])\s*\)|([A-E])\s*[.):]")
_PHRASE = re.compile(r"\b(?:answer|option|choice)(?![a-zA-Z])(?:\s+is\b)?[\s:_]*", re.IGNORECASE)
_AFTER_PHRASE = re.compile(r"\(\s*([A-Ea-e])\s*\)|([A-E])\b")
_ANOTHER = re.compile(r"\s*(?:,|/|&|and\b|or\b)\s*\(?[A-Ea-e]\b(?!')|.*\([A-Ea-e]\)", re.DOTALL)


def is_choice(reference: str) -> str | None:
    """The letter, upper case, where a reference answer is a bare choice: B, B., (B), (b), \\text{B}."""
    return _letter(_BARE.fullmatch(_bare_text(reference)))


def chosen(answer: str) -> str | None:
    """The letter that an answer chooses, or None where it names none or several: B, (b), "B. text", "(B) text",
    "The answer is B", "Option B is right"."""
    text = _bare_text(answer)
    alone = _letter(_BARE.fullmatch(text) or _ALONE.fullmatch(text))
    if alone:
        return alone
    leading = _LEADING.match(text)
    phrases = list(_PHRASE.finditer(text))
    if leading is None and phrases:
        leading = _AFTER_PHRASE.match(text, phrases[-1].end())
    if leading is None or _ANOTHER.match(text, leading.end()):
        return None
    return _letter(leading)


def _bare_text(text: str) -> str:
    text = without_delimiters(last_boxed(text) or text)
    return _MARKUP.sub(lambda found: found[1] or "", text).strip()


def _letter(found: re.Match[str] | None) -> str | None:
    return next(group for group in found.groups() if group).upper() if found else None
