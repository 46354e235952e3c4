"""Finding the final answer in the last step of a solution."""

from __future__ import annotations

import re

MAX_ANSWER_CHARS = 1000

_HEADING = re.compile(r"^#+ *answer\b:?", re.IGNORECASE | re.MULTILINE)
_PHRASE = re.compile(r"\banswer(?: is|:| =)(?: *:)?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.\s|\n")
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:\d+(?:,\d{3})*(?:\.\d+)?|(?<![\w.])\.\d+)(?:/\d+)?%?")
# A dollar sign before a blank, or a closing one before a digit, is money: "from $5 to $7".
_FORMULA = re.compile(
    r"\$\$(?P<display>(?:[^$\\]|\\.)+)\$\$"
    r"|(?<!\\)\$(?!\s)(?P<inline>(?:[^$\\\n]|\\.)+)(?<!\s)\$(?!\d)"
    r"|\\\((?P<round>(?:(?!\\[()]).)+)\\\)"
    r"|\\\[(?P<square>(?:(?!\\[\[\]]).)+)\\\]",
    re.DOTALL,
)
_NAME = re.compile(r"\W*[a-zA-Z]*\W*")
_CHOICE = re.compile(
    r"(?i:\b(?:choice|option))"
    r"(?:_(?=[A-E](?![\w/]))"
    r"|[\s:]{1,9}(?=\(?[A-E]\)?[*\s]{0,9}(?:$|[.:;,(\n]|[–-]\s|is (?:the )?(?:correct|right|best)\b)))"
    r"(\([A-E]\)|[A-E])"
)
_EDGES = " \t\r\n*`."


def final_answer_of(last_step: str) -> str | None:
    r"""The final answer that the last step of a solution states, or None. The first of these that is there counts:

    1. what follows the last `# Answer` heading (PRM800K);
    2. the content of the last `\boxed{...}`;
    3. what follows the last "answer is", "answer:" or "answer =", to the end of the sentence;
    4. the letter of the last "choice B" or "option (B)" in the last two lines that stands by itself: "Choice_B: 12 cm",
       but not "option B costs 12";
    5. the last formula ($...$, $$...$$, \(...\), \[...\]), whole, or what follows its last "=", or the last number
       outside formulas, whichever comes later. A formula that is only a name, such as $n$ or $ABC$, does not count.
    """
    text = last_step[-20 * MAX_ANSWER_CHARS :]
    heading = [match.end() for match in _HEADING.finditer(text)]
    phrase = [match.end() for match in _PHRASE.finditer(text)]
    choices = _CHOICE.findall("\n".join(text.rstrip().rsplit("\n", 2)[-2:]))
    candidates = (
        text[heading[-1] :].strip() if heading else "",
        last_boxed(text),
        without_delimiters(_SENTENCE_END.split(text[phrase[-1] :], maxsplit=1)[0]) if phrase else "",
        choices[-1] if choices else "",
        _last_value(text),
    )
    return next((candidate for candidate in candidates if candidate), None)


def _last_value(text: str) -> str:
    formulas = list(_FORMULA.finditer(text))
    outside = _FORMULA.sub(lambda formula: " " * len(formula[0]), text)
    values = [(formula.start(), _right_side(formula[formula.lastgroup or 0].strip())) for formula in formulas]
    values = [(start, value) for start, value in values if not _NAME.fullmatch(value)]
    values += [(number.start(), number[0]) for number in _NUMBER.finditer(outside)]
    return max(values, default=(0, ""))[1]


def _right_side(formula: str) -> str:
    """What follows the last "=" outside braces; the formula where it has none."""
    depth, start = 0, 0
    for place, character in enumerate(formula):
        depth += (character == "{") - (character == "}")
        if character == "=" and depth == 0:
            start = place + 1
    return formula[start:].lstrip(" \r\n\t&").rstrip(" \r\n\t.,;")


def last_boxed(text: str) -> str:
    start = text.rfind("\\boxed{")
    depth = 0
    for end in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : end].strip()
    return ""


def without_delimiters(text: str) -> str:
    """The text without full stop, emphasis and the marks that switch to mathematics, all at its ends."""
    whole = text.rstrip(_EDGES)
    text = whole.lstrip(_EDGES)
    dropped = whole[: len(whole) - len(text)]
    if text[:1].isdigit() and dropped.endswith(".") and not dropped.endswith(".."):
        return "." + text  # a decimal
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            return text.removeprefix(left).removesuffix(right).strip()
    return text
