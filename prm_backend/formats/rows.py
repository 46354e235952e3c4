"""Rows of a JSONL file, or of a file that is one JSON array, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from os import PathLike
from typing import BinaryIO

from prm_backend.errors import FormatError
from prm_backend.formats.field import Field

MAX_ROW_BYTES = 16 * 1024 * 1024
BLANK = " \t\r\n"


def read_rows(path: str | PathLike[str]) -> Iterator[Field]:
    """Yield each row with its line; blank lines are skipped, a byte order mark is tolerated.

    Memory stays within a few times `MAX_ROW_BYTES`. Raises `FormatError` for a file without rows, a line that is too
    long, not UTF-8 or not JSON; `OSError` where the file cannot be opened.
    """
    with open(path, "rb") as file:
        found = False
        for line, text in _lines(file):
            if not found and text.lstrip(BLANK).startswith("["):
                yield from _array_rows(file)
                return
            found = True
            yield Field(_decode(text, line), line)
    if not found:
        raise FormatError("the file is empty")


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    line = 0
    while raw := file.readline(MAX_ROW_BYTES + 1):
        line += 1
        if len(raw) > MAX_ROW_BYTES:
            raise FormatError(f"the line is longer than {MAX_ROW_BYTES >> 20} MiB", line=line)
        text = _utf8(raw.removeprefix(b"\xef\xbb\xbf") if line == 1 else raw, line)
        if text.strip(BLANK):
            yield line, text


def _array_rows(file: BinaryIO) -> Iterator[Field]:
    """The items of a file that is one JSON array; each keeps the line it starts on and its index as its path."""
    file.seek(0)
    raw = file.read(MAX_ROW_BYTES + 1)
    if len(raw) > MAX_ROW_BYTES:
        raise FormatError(f"a JSON array may have {MAX_ROW_BYTES >> 20} MiB; write one record on each line instead")
    text = _utf8(raw.removeprefix(b"\xef\xbb\xbf"), 1)
    position = _skip_blank(text, 0) + 1
    line, counted, index = 1, 0, 0
    while True:
        position = _skip_blank(text, position)
        line, counted = line + text.count("\n", counted, position), position
        if index == 0 and text.startswith("]", position):
            raise FormatError("the file is empty")
        value, position = _decode_at(text, position, line)
        yield Field(value, line, f"[{index}]")
        index += 1
        position = _skip_blank(text, position)
        if text.startswith("]", position):
            break
        if not text.startswith(",", position):
            raise FormatError(f"broken JSON: expected ',' or ']' after item {index}", line=line)
        position += 1
    if text[position + 1 :].strip(BLANK):
        raise FormatError("broken JSON: text after the end of the array", line=line)


def _skip_blank(text: str, position: int) -> int:
    while position < len(text) and text[position] in BLANK:
        position += 1
    return position


def _utf8(raw: bytes, line: int) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line += raw.count(b"\n", 0, error.start)
        raise FormatError("not valid UTF-8", line=line) from None


def _decode(text: str, line: int) -> object:
    text = text.strip(BLANK)
    value, end = _decode_at(text, 0, line)
    if end != len(text):
        raise FormatError(
            f"broken JSON: text after the end of the record, at column {end + 1}",
            line=line,
        )
    return value


def _decode_at(text: str, position: int, line: int) -> tuple[object, int]:
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        line += text.count("\n", position, error.pos)
        raise FormatError(f"broken JSON: {error.msg} at column {error.colno}", line=line) from None
    except RecursionError:
        raise FormatError("broken JSON: nested too deeply", line=line) from None
    except ValueError as error:
        raise FormatError(f"broken JSON: {error}", line=line) from None


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object_without_duplicates)
