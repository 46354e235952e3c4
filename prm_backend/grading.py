"""Is a final answer right? Cheap comparisons first, then Math-Verify (https://github.com/huggingface/Math-Verify).

Answers come from models and strangers, and computer algebra can hang or eat all memory on a few characters of them. So
Math-Verify runs in a disposable process of its own, with a limit on wall time, CPU time and memory, no environment, no
inherited files and no way to write or fork. It is a plain subprocess that speaks JSON lines (`python -m
prm_backend.grading`), because Celery's children may not have multiprocessing children, and alarms work in the main
thread only.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from enum import StrEnum
from fractions import Fraction
from importlib import import_module
from types import TracebackType

from prm_backend.errors import PrmError
from prm_backend.types import Progress, ReportProgress, ignore_progress

MAX_ANSWER_CHARS = 1000
START_LIMIT_S = 60.0
READY = "ready"


class GradingError(PrmError):
    """The grading process cannot be started; says why."""


class Verdict(StrEnum):
    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"


# --- Finding the final answer ---------------------------------------------------------------------------------------

_HEADING = re.compile(r"^#+ *answer\b:?", re.IGNORECASE | re.MULTILINE)
_PHRASE = re.compile(r"\banswer(?: is|:| =)(?: *:)?", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.\s|\n")
_NUMBER = re.compile(r"(?:(?<![\w)])-)?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?%?")


def final_answer_of(last_step: str) -> str | None:
    r"""The final answer that the last step of a solution states, or None. The first of these that is there counts:

    1. what follows the last `# Answer` heading (PRM800K);
    2. the content of the last `\boxed{...}`;
    3. what follows the last "answer is", "answer:" or "answer =", to the end of the sentence;
    4. the last number.
    """
    text = last_step[-20 * MAX_ANSWER_CHARS :]
    heading = [match.end() for match in _HEADING.finditer(text)]
    phrase = [match.end() for match in _PHRASE.finditer(text)]
    numbers = _NUMBER.findall(text)
    candidates = (
        text[heading[-1] :].strip() if heading else "",
        _last_boxed(text),
        _without_delimiters(_SENTENCE_END.split(text[phrase[-1] :], maxsplit=1)[0]) if phrase else "",
        numbers[-1] if numbers else "",
    )
    return next((candidate for candidate in candidates if candidate), None)


def _last_boxed(text: str) -> str:
    start = text.rfind("\\boxed{")
    depth = 0
    for end in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return text[start + len("\\boxed{") : end].strip()
    return ""


def _without_delimiters(text: str) -> str:
    """The text without full stop, emphasis and the marks that switch to mathematics, all at its ends."""
    text = text.strip(" \t\r\n*`.")
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(text) > len(left + right) and text.startswith(left) and text.endswith(right):
            return text.removeprefix(left).removesuffix(right).strip()
    return text


# --- Comparing without computer algebra -----------------------------------------------------------------------------

_SPACING = re.compile(r"\\[!,;: ]|\\(?:left|right)(?![a-zA-Z])|\s+")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox)\{([^{}]*)\}")
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
_PLAIN = re.compile(r"[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?(?:/\d+)?")
# "42 apples", but not "3 million" or "2 sin": a word that changes the number is no unit.
_UNIT = re.compile(
    r"\s+(?!(?:hundred|thousand|[mb]illion|trillion|dozen|percent|squared|cubed|sin|cos|tan|log)\b)[a-z]{3,}", re.I
)


def _normalized(answer: str) -> str:
    answer = _without_delimiters(answer)
    answer = _without_delimiters(_last_boxed(answer) or answer)
    return _FRACTION.sub(r"\1\2/\3", _TEXT.sub(r"\1", _SPACING.sub("", answer)))


def _number(normalized: str) -> Fraction | None:
    """The value of a plain number such as -1,200.50 or 3/4."""
    if not _PLAIN.fullmatch(normalized):
        return None
    numerator, _, denominator = normalized.replace(",", "").partition("/")
    below = int(denominator or 1)
    return Fraction(numerator) / below if below else None


def _without_unit(answer: str) -> str:
    """A number and one word after it: the number. Anything else stays as it is."""
    number, space, word = answer.partition(" ")
    return number if _PLAIN.fullmatch(number) and _UNIT.fullmatch(space + word) else answer


def _compare_plainly(reference: str, answer: str) -> Verdict | None:
    """The verdict where both are the same text or both are plain numbers; None where it takes more."""
    if reference == answer and reference.strip():
        return Verdict.CORRECT
    if max(len(reference), len(answer)) > MAX_ANSWER_CHARS:
        return Verdict.UNKNOWN
    left, right = _normalized(reference), _normalized(answer)
    if _number(left) is not None:
        right = _normalized(_without_unit(_without_delimiters(answer)))
    if not left or not right:
        return Verdict.UNKNOWN
    if left == right:
        return Verdict.CORRECT
    left_number, right_number = _number(left), _number(right)
    if left_number is None or right_number is None:
        return None
    return Verdict.CORRECT if left_number == right_number else Verdict.INCORRECT


# --- The caller's side of the grading process -----------------------------------------------------------------------


class Grader:
    """Grades answers; a context manager. The process starts at the first answer that needs it, is killed when an
    answer takes more than `limit_s` seconds, and then starts anew. May be shared by threads, not by forks.

    A wrong answer is `incorrect` only where both sides could be read as mathematics; `unknown` means that a person has
    to look. Raises `GradingError` where the process cannot be started.
    """

    def __init__(self, *, limit_s: float = 5.0, memory_bytes: int = 1 << 30) -> None:
        self._limit_s = limit_s
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Grader:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stop()

    def grade(self, reference: str, answer: str) -> Verdict:
        """Compare a final answer with the reference answer. The order matters: Math-Verify is not symmetric."""
        verdict = _compare_plainly(reference, answer)
        if verdict is not None:
            return verdict
        with self._lock:
            return self._ask(reference, answer)

    def grade_many(self, pairs: Iterable[tuple[str, str]], progress: ReportProgress = ignore_progress) -> list[Verdict]:
        """The verdict for each (reference, answer); equal pairs are graded once. `progress` may raise `Cancelled`."""
        pairs = list(pairs)
        known: dict[tuple[str, str], Verdict] = {}
        for done, pair in enumerate(pairs):
            progress(Progress(done, len(pairs), "grading final answers"))
            if pair not in known:
                known[pair] = self.grade(*pair)
        progress(Progress(len(pairs), len(pairs), "final answers graded"))
        return [known[pair] for pair in pairs]

    def _ask(self, reference: str, answer: str) -> Verdict:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps([reference, answer]).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            reply = ""
        else:
            reply = _read_line(process, self._limit_s)
        if reply:
            return Verdict(reply)
        self._stop()
        return Verdict.UNKNOWN

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._limit_s), str(self._memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "PYTHONUTF8": "1"},
            cwd="/",
            start_new_session=True,
        )
        greeting = _read_line(self._process, START_LIMIT_S)
        if greeting != READY:
            self._stop()
            raise GradingError(f"the grading process did not start: {greeting or 'it ended or hung without a word'}")
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _read_line(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """The next line the process writes, without its end; "" where it ends or stays silent for too long."""
    assert process.stdout is not None
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN | select.POLLHUP)
    deadline = time.monotonic() + limit_s
    line = b""
    while not line.endswith(b"\n"):
        ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        chunk = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not chunk:
            return ""
        line += chunk
    return line.decode().rstrip("\n")


# --- The grading process --------------------------------------------------------------------------------------------


def _serve(limit_s: float, memory_bytes: int) -> None:
    """Read [reference, answer] lines and write verdicts until the input ends, which it does when the parent dies."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the parser prints what it stumbles over
    try:
        import_module("math_verify")
        _verify("1+x", "x+1")  # the first answer is slow, so before any clock runs
    except ImportError as error:
        print(error, file=replies)
        return
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))
    print(READY, file=replies)
    for line in sys.stdin:
        _limit_cpu_time(limit_s)
        reference, answer = json.loads(line)
        print(_verify(reference, answer), file=replies)


def _limit_cpu_time(limit_s: float) -> None:
    """End this process when the next answer takes too long and nobody is left to kill it."""
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + limit_s) + 1, resource.RLIM_INFINITY))


def _verify(reference: str, answer: str) -> Verdict:
    from math_verify import LatexExtractionConfig, parse, verify

    # Bare LaTeX is not extracted, hence the box. No plain expressions: Math-Verify evaluates those as Python.
    try:
        gold, target = (
            parse(f"\\boxed{{{text}}}", [LatexExtractionConfig()], parsing_timeout=None, raise_on_error=True)
            for text in (_without_delimiters(reference), _without_delimiters(answer))
        )
        if verify(gold, target, timeout_seconds=None, raise_on_error=True):
            return Verdict.CORRECT
    except Exception:
        # A parser for other people's text: whatever it stumbles over, the answer was not understood.
        return Verdict.UNKNOWN
    understood = all(any(not isinstance(reading, str) for reading in readings) for readings in (gold, target))
    return Verdict.INCORRECT if understood else Verdict.UNKNOWN


if __name__ == "__main__":
    _serve(float(sys.argv[1]), int(sys.argv[2]))
