"""What grading says of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    CORRECT = "correct"
    INCORRECT = "incorrect"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Two opinions on one answer. `math_verify` knows much mathematics, and says unknown where it could not read both
    sides. `conservative` follows PRM800K's grader: correct only where equality is plain, unknown only where it ran out
    of time. Where they do not agree, a person should look."""

    math_verify: Verdict
    conservative: Verdict

    @property
    def agree(self) -> bool:
        return self.math_verify is self.conservative


READY = "ready"  # the first line that the grading process writes


class Question(StrEnum):
    """What the grading process is asked."""

    MATH_VERIFY = "math_verify"
    SYMBOLIC = "symbolic"
