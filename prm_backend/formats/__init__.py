"""File formats: one module for each, one registry. Files are streamed, never held whole."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from os import PathLike

from prm_backend.errors import FormatError
from prm_backend.formats import prm800k, processbench, simple, trl
from prm_backend.formats.field import Field
from prm_backend.formats.prm800k import prm800k_line
from prm_backend.formats.rows import read_rows
from prm_backend.formats.trl import rated_path, trl_line
from prm_backend.types import SolutionRecord

__all__ = [
    "FORMATS",
    "Format",
    "detect_format",
    "prm800k_line",
    "rated_path",
    "read_records",
    "trl_line",
    "written_lines",
]


@dataclass(frozen=True, slots=True)
class Format:
    """What can be done with a format: `parse` a row, `write` a record as a line (None where the record has nothing to
    say in this format), or both. `recognises` looks at the keys of a file's first row."""

    about: str
    recognises: Callable[[Collection[str]], bool] = lambda _keys: False
    parse: Callable[[Field], SolutionRecord] | None = None
    write: Callable[[SolutionRecord], str | None] | None = None


FORMATS: dict[str, Format] = {
    "prm800k": Format(prm800k.ABOUT, prm800k.recognises, prm800k.parse, prm800k_line),
    "processbench": Format(processbench.ABOUT, processbench.recognises, processbench.parse),
    "simple": Format(simple.ABOUT, simple.recognises, simple.parse),
    "trl": Format(trl.ABOUT, write=trl_line),
}


def detect_format(path: str | PathLike[str]) -> str:
    """The name of the file's format, by the keys of its first row. Raises `FormatError`, `OSError`."""
    return _detected(next(read_rows(path)))


def read_records(path: str | PathLike[str], *, format: str = "auto") -> Iterator[SolutionRecord]:
    """Stream the records of a file. An unknown `format` raises at once; a bad row raises `FormatError` when it is
    reached, with its line and field; a file that cannot be opened raises `OSError`."""
    if format != "auto":
        _parser(format)
    return _records(path, format)


def _records(path: str | PathLike[str], format: str) -> Iterator[SolutionRecord]:
    rows = read_rows(path)
    first = next(rows)
    parse = _parser(_detected(first) if format == "auto" else format)
    for row in chain([first], rows):
        yield parse(row)


def written_lines(records: Iterable[SolutionRecord], *, format: str) -> Iterator[str]:
    """Stream the lines of a file, each with its line end. Raises `FormatError` for an unknown format at once."""
    write = FORMATS[format].write if format in FORMATS else None
    if write is None:
        raise _unknown(format, [name for name, known in FORMATS.items() if known.write])
    return (f"{line}\n" for line in map(write, records) if line is not None)


def _detected(row: Field) -> str:
    keys = row.mapping()
    for name, known in FORMATS.items():
        if known.recognises(keys):
            return name
    readable = [name for name, known in FORMATS.items() if known.parse]
    raise FormatError(
        f"the keys of the first row fit none of the formats {', '.join(readable)}",
        line=row.line,
    )


def _parser(format: str) -> Callable[[Field], SolutionRecord]:
    parse = FORMATS[format].parse if format in FORMATS else None
    if parse is None:
        raise _unknown(format, [name for name, known in FORMATS.items() if known.parse])
    return parse


def _unknown(format: str, known: list[str]) -> FormatError:
    return FormatError(f"unknown format {format!r:.40}; known are {', '.join(known)}")
