"""What a model wrote, cut to one step in PRM800K's form: plain text that may end with "# Answer" and the answer."""

from __future__ import annotations

import re
import unicodedata

MAX_STEP_CHARS = 10_000
MAX_TEXT_CHARS = 4 * MAX_STEP_CHARS
MAX_CRITIQUE_CHARS = 3_000

_THINKING = re.compile(r"\A.*</think>|<think>.*\Z", re.DOTALL)
_LABEL = r"(?:#+[ \t]*)?(?:\*\*)?step[ \t]*{number}(?:[ \t]*[:.)-]+[ \t]*(?:\*\*)?|\*\*[:.]*|(?=[ \t]*$))[ \t]*"
_ANY_LABEL = re.compile(_LABEL.format(number=r"\d+"), re.IGNORECASE | re.MULTILINE)
_NUMBER = re.compile(r"(\d{1,3})[.)][ \t]+")
_HEADING = re.compile(r"#+[ \t].*|\*\*[^*]+\*\*:?")
_ANSWER = re.compile(r"(?:#+[ \t]*(?:final[ \t]+)?answer\b|\*\*(?:final[ \t]+)?answer:?\*\*):?(.*)", re.IGNORECASE)
_OPENING = re.compile(r"(?<!\\)\\(?:\[|begin\{)")
_CLOSING = re.compile(r"(?<!\\)\\(?:\]|end\{)")


def clean(text: str) -> str:
    """Without control characters (NUL cannot be stored), lone surrogates and a reasoning model's thinking; lines end in
    one newline."""
    text = _THINKING.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = (
        character for character in text if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs")
    )
    return "".join(kept).strip()


def one_critique(text: str) -> str:
    """The critique, or "" where it is too long to be one."""
    text = clean(text)
    return text if len(text) <= MAX_CRITIQUE_CHARS else ""


def one_step(text: str, *, number: int, cut: bool = False) -> str:
    """The step with this number (from 1), or "" where there is none.

    A step ends at an empty line or where the next one is labeled or numbered, but not inside displayed mathematics or
    code, and not right after a heading or a colon. A label ("Step 3:") in front goes; steps restated before the wanted
    one go too. A final answer after the step stays with it. `cut`: the text ran into a limit, so a step that nothing
    ends is incomplete.
    """
    whole = clean(text)
    text = whole[:MAX_TEXT_CHARS]
    own = re.search("^" + _LABEL.format(number=number), text, re.IGNORECASE | re.MULTILINE)
    lines, following = _unlabeled(text[own.start() :] if own else text)
    step, rest = _first_step(lines, following)
    answer = _answer(rest)
    ended = bool(answer[1] if answer else rest)
    if (cut or len(text) < len(whole)) and not ended:
        return ""
    if answer:
        step = f"{step}\n\n# Answer\n\n{answer[0]}".strip() if answer[0] else ""
    return step if len(step) <= MAX_STEP_CHARS else ""


def _unlabeled(text: str) -> tuple[list[str], re.Pattern[str]]:
    """The lines without the label in front, and how the label of the next step looks."""
    following = _ANY_LABEL
    if label := _ANY_LABEL.match(text):
        # A heading stays one, so that the step does not end after it.
        mark = "**" if label[0].count("**") == 1 else "## " if label[0].startswith("#") else ""
        text = mark + text[label.end() :]
    elif numbered := _NUMBER.match(text):
        following = re.compile(rf"{int(numbered[1]) + 1}[.)][ \t]+")
        text = text[numbered.end() :]
    lines = text.split("\n")
    while lines and not lines[0].strip("#* \t"):
        lines.pop(0)
    return lines, following


def _first_step(lines: list[str], following: re.Pattern[str]) -> tuple[str, list[str]]:
    """The first step, and the lines after it."""
    step: list[str] = []
    size = 0
    for index, line in enumerate(lines):
        goes_on = not step or step[-1].endswith(":") or bool(_HEADING.fullmatch(step[-1]))
        next_begins = bool(step and following.match(line)) or bool(_ANSWER.fullmatch(line.strip()))
        if (next_begins or not line.strip()) and not _inside_block("\n".join(step)):
            if next_begins or not goes_on:
                return "\n".join(step), lines[index:]
            continue
        step.append(line.rstrip())
        size += len(line) + 1
        if size > MAX_STEP_CHARS:
            break
    return "\n".join(step), []


def _inside_block(text: str) -> bool:
    """Whether displayed mathematics or a block of code is open at the end of the text."""
    opened, closed = len(_OPENING.findall(text)), len(_CLOSING.findall(text))
    return opened > closed or text.count("$$") % 2 == 1 or text.count("```") % 2 == 1


def _answer(rest: list[str]) -> tuple[str, bool] | None:
    """The final answer that directly follows a step, and whether more follows it; None where there is none."""
    lines = [line.strip() for line in rest]
    while lines and not lines[0]:
        lines.pop(0)
    heading = _ANSWER.fullmatch(lines[0]) if lines else None
    if heading is None:
        return None
    if heading[1].strip():
        return heading[1].strip(), len(lines) > 1
    lines.pop(0)
    while lines and not lines[0]:
        lines.pop(0)
    end = lines.index("") if "" in lines else len(lines)
    return "\n".join(lines[:end]), end < len(lines)
