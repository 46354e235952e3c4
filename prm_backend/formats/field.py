"""One value of a JSON row that knows where it stands, so that every complaint names the line and the field."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from prm_backend.errors import FormatError

T = TypeVar("T")

MAX_INTEGER = 2**63 - 1
KINDS: dict[type, str] = {
    str: "text",
    bool: "a boolean",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A parsed JSON value with its line (from 1) and its dotted path ("" for the row itself). Each reading method
    returns the value in its Python type or raises `FormatError`."""

    value: object
    line: int
    path: str = ""

    def error(self, message: str) -> FormatError:
        return FormatError(message, line=self.line, field=self.path or None)

    def expected(self, wanted: str) -> FormatError:
        found = KINDS.get(type(self.value)) or f"the number {self.value!r:.40}"
        return self.error(f"must be {wanted}, not {found}")

    def mapping(self) -> dict[str, object]:
        if not isinstance(self.value, dict):
            raise self.expected("an object")
        return self.value

    def only(self, required: Collection[str], optional: Collection[str] = ()) -> Field:
        """This object, if it has all required keys and none beyond the required and optional ones."""
        keys = self.mapping()
        for key in required:
            self[key]
        for key in keys:
            if key not in required and key not in optional:
                raise self._child(f".{key:.80}", None).error("is not a key of this format")
        return self

    def __getitem__(self, key: str) -> Field:
        """A key that must be there."""
        child = self.get(key)
        if key not in self.mapping():
            raise child.error("is missing")
        return child

    def get(self, key: str) -> Field:
        """A key that may be absent, which reads as null."""
        return self._child(f".{key}", self.mapping().get(key))

    def items(self) -> list[Field]:
        if not isinstance(self.value, list):
            raise self.expected("a list")
        return [self._child(f"[{index}]", item) for index, item in enumerate(self.value)]

    def texts(self) -> tuple[str, ...]:
        """A list of at least one text."""
        texts = tuple(item.text() for item in self.items())
        if not texts:
            raise self.error("must not be empty")
        return texts

    def text(self) -> str:
        """Text that a database can store: no NUL, no half of a surrogate pair."""
        value = self.value
        if not isinstance(value, str):
            raise self.expected("text")
        if "\0" in value:
            raise self.error("holds a NUL character (\\u0000), which cannot be stored")
        if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            raise self.error("holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character")
        return value

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.expected("true or false")
        return self.value

    def integer(self, *, least: int = 0) -> int:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self.expected("a whole number")
        if not least <= self.value <= MAX_INTEGER:
            raise self.error(f"must be a whole number from {least} to 2^63 - 1")
        return self.value

    def number(self) -> float:
        """A finite number; a whole number stays an int, so that it is written as it was read."""
        value = self.value
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self.expected("a number")
        if not (math.isfinite(value) if isinstance(value, float) else abs(value) <= MAX_INTEGER):
            raise self.error("must be a finite number")
        return value

    def rating(self) -> int:
        if type(self.value) is not int or self.value not in (-1, 0, 1):
            raise self.error(f"a rating must be -1, 0, 1 or null, not {self.value!r:.40}")
        return self.value

    def maybe(self, read: Callable[[Field], T]) -> T | None:
        """`read` of this field, or None where it is null: `row.get("id").maybe(Field.text)`."""
        return None if self.value is None else read(self)

    def _child(self, step: str, value: object) -> Field:
        return Field(value, self.line, (self.path + step).removeprefix("."))
