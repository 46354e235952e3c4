"""The grading process: reads [question, reference, answer] as JSON lines and writes a verdict for each."""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from prm_backend.grading.answers import without_delimiters
from prm_backend.grading.verdicts import READY, Question, Verdict


def _serve(limit_s: float, memory_bytes: int) -> None:
    """Read questions and write verdicts until the input ends, which it does when the parent dies."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the parser prints what it stumbles over
    try:
        import_module("math_verify")
        for judge in JUDGES.values():
            judge("1+x", "x+1")  # the first answer is slow, so before any clock runs
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
        question, reference, answer = json.loads(line)
        print(JUDGES[question](reference, answer), file=replies)


def _limit_cpu_time(limit_s: float) -> None:
    """End this process when the next answer takes too long and nobody is left to kill it."""
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used + limit_s) + 1, resource.RLIM_INFINITY))


def _verify(reference: str, answer: str) -> Verdict:
    from math_verify import verify

    try:
        gold, target = (_readings(without_delimiters(text)) for text in (reference, answer))
        if verify(gold, target, timeout_seconds=None, raise_on_error=True):
            return Verdict.CORRECT
    except Exception:
        # A parser for other people's text: whatever it stumbles over, the answer was not understood.
        return Verdict.UNKNOWN
    understood = all(any(not isinstance(reading, str) for reading in readings) for readings in (gold, target))
    return Verdict.INCORRECT if understood else Verdict.UNKNOWN


def _symbolically_equal(reference: str, answer: str) -> Verdict:
    """Whether the difference of two expressions is 0 after simplification; what is no expression equals nothing."""
    sympy = import_module("sympy")

    try:
        left, right = (
            next((reading for reading in _readings(text) if isinstance(reading, sympy.Expr)), None)
            for text in (reference, answer)
        )
        equal = left is not None and right is not None and sympy.simplify(left - right) == 0
    except Exception:
        return Verdict.INCORRECT  # as above; this judge knows nothing between equal and not shown to be equal
    return Verdict.CORRECT if equal else Verdict.INCORRECT


def _readings(text: str) -> list[Any]:
    """What a LaTeX expression may mean: sympy objects, and at last the text itself."""
    from math_verify import LatexExtractionConfig, parse

    # Bare LaTeX is not extracted, hence the box. No plain expressions: Math-Verify evaluates those as Python. Units are
    # the caller's business: Math-Verify would drop "m" on one side and "km" on the other.
    latex = LatexExtractionConfig()
    latex = replace(latex, normalization_config=replace(latex.normalization_config, units=False))
    readings: list[Any] = parse(f"\\boxed{{{text}}}", [latex], parsing_timeout=None, raise_on_error=True)
    return readings


JUDGES: dict[str, Callable[[str, str], Verdict]] = {
    Question.MATH_VERIFY: _verify,
    Question.SYMBOLIC: _symbolically_equal,
}


if __name__ == "__main__":
    _serve(float(sys.argv[1]), int(sys.argv[2]))
