"""One base for every refusal that a person or a program should understand: a sentence, a machine-readable code and an
HTTP status. Pages and the API turn it into an answer; nothing has been changed when it is raised."""

from __future__ import annotations


class Refusal(Exception):
    """`code` is stable and documented; `message` is a sentence for a person."""

    status = 400

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class Invalid(Refusal):
    """The request itself is wrong."""

    status = 400


class Conflict(Refusal):
    """The request is well formed but does not fit the state of things."""

    status = 409


class Forbidden(Refusal):
    """The person is known here, but their role does not do this."""

    status = 403


def is_deadlock(error: Exception) -> bool:
    """Two transactions waited for each other, and PostgreSQL has ended this one: it may simply be tried again."""
    return getattr(error.__cause__, "sqlstate", None) == "40P01"
