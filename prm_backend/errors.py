"""Every error that this library raises on purpose derives from `PrmError`, so that a caller can tell it from a bug."""

from __future__ import annotations


class PrmError(Exception):
    """Something a person can mend; the message says what and where."""


class FormatError(PrmError):
    """A file that cannot be read: names the line (from 1) and the field."""

    def __init__(self, message: str, *, line: int | None = None, field: str | None = None) -> None:
        self.message = message
        self.line = line
        self.field = field
        where = [f"line {line}"] if line is not None else []
        where += [f"field {field}"] if field is not None else []
        super().__init__(f"{', '.join(where)}: {message}" if where else message)


class CheckpointError(PrmError):
    """A checkpoint folder that is missing, incomplete, damaged or of another kind than asked for."""


class NotEnoughData(PrmError):
    """Too few labels, or labels of one class only: nothing can be trained or measured from them."""


class Cancelled(PrmError):
    """Raised by a progress callback to stop a long computation at the next safe point."""


class EndpointError(PrmError):
    """The endpoint gave nothing usable. The message is a sentence for a person and holds nothing that the server wrote;
    `detail`, for the log, holds the server's own words without the API key. `permanent`: asking again will not help."""

    def __init__(self, message: str, *, permanent: bool, detail: str = "", retry_after_s: float | None = None) -> None:
        self.permanent = permanent
        self.detail = detail
        self.retry_after_s = retry_after_s
        super().__init__(message)
