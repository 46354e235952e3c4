"""The caller's side of the grading process.

Answers come from models and strangers, and computer algebra can hang or eat all memory on a few characters of them. So
it runs in a disposable process of its own, with a limit on wall time, CPU time and memory, no environment, no inherited
files and no way to write or fork. It is a plain subprocess that speaks JSON lines (`grading/worker.py`), because
Celery's children may not have multiprocessing children, and alarms work in the main thread only.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypeVar

from prm_backend.errors import PrmError
from prm_backend.grading.conservative import compare_conservatively
from prm_backend.grading.plain import compare_plainly
from prm_backend.grading.units import without_units
from prm_backend.grading.verdicts import READY, Question, Verdict, Verdicts
from prm_backend.types import Progress, ReportProgress, ignore_progress

START_LIMIT_S = 60.0
WORKER = "prm_backend.grading.worker"

Found = TypeVar("Found")


class GradingError(PrmError):
    """The grading process cannot be started; says why."""


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
        """Math-Verify's verdict on a final answer; cheap comparisons come first. The order matters: Math-Verify is not
        symmetric."""
        verdict = compare_plainly(reference, answer)
        if verdict is not None:
            return verdict
        return self._ask(Question.MATH_VERIFY, without_units(reference), without_units(answer))

    def grade_conservatively(self, reference: str, answer: str) -> Verdict:
        """The verdict by PRM800K's rules (`grading/conservative.py`)."""
        verdict = compare_conservatively(reference, answer)
        if isinstance(verdict, Verdict):
            return verdict
        for pair in verdict:
            equal = self._ask(Question.SYMBOLIC, *pair)
            if equal is not Verdict.CORRECT:
                return equal
        return Verdict.CORRECT

    def grade_both(self, reference: str, answer: str) -> Verdicts:
        return Verdicts(self.grade(reference, answer), self.grade_conservatively(reference, answer))

    def grade_many(self, pairs: Iterable[tuple[str, str]], progress: ReportProgress = ignore_progress) -> list[Verdict]:
        """`grade` for each (reference, answer); equal pairs are graded once. `progress` may raise `Cancelled`."""
        return _each(pairs, self.grade, progress)

    def grade_both_many(
        self, pairs: Iterable[tuple[str, str]], progress: ReportProgress = ignore_progress
    ) -> list[Verdicts]:
        """`grade_both` for each (reference, answer), as `grade_many`."""
        return _each(pairs, self.grade_both, progress)

    def _ask(self, question: Question, reference: str, answer: str) -> Verdict:
        with self._lock:
            return self._asked(json.dumps([question, reference, answer]))

    def _asked(self, line: str) -> Verdict:
        try:
            reply = _reply(self._running(), line, self._limit_s)
        except BaseException:
            self._stop()  # or the reply to this question would be taken for the reply to the next
            raise
        if reply:
            return Verdict(reply)
        self._stop()
        return Verdict.UNKNOWN

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        self._process = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(self._limit_s), str(self._memory_bytes)],
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
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def grade(reference: str, answer: str) -> Verdicts:
    """Both verdicts on one answer. For many, share a `Grader`: its process takes seconds to start."""
    with Grader() as grader:
        return grader.grade_both(reference, answer)


def _each(
    pairs: Iterable[tuple[str, str]], graded: Callable[[str, str], Found], progress: ReportProgress
) -> list[Found]:
    pairs = list(pairs)
    known: dict[tuple[str, str], Found] = {}
    for done, pair in enumerate(pairs):
        progress(Progress(done, len(pairs), "grading final answers"))
        if pair not in known:
            known[pair] = graded(*pair)
    progress(Progress(len(pairs), len(pairs), "final answers graded"))
    return [known[pair] for pair in pairs]


def _reply(process: subprocess.Popen[bytes], line: str, limit_s: float) -> str:
    """What the process says to a line; "" where it ends or stays silent for too long."""
    assert process.stdin is not None
    try:
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    return _read_line(process, limit_s)


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
