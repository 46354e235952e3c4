"""What holds for every file, whatever its format: encoding, size, JSON, detection."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prm_backend.errors import FormatError
from prm_backend.formats import detect_format, read_records, written_lines
from prm_backend.formats.rows import MAX_ROW_BYTES

ROW = {"problem": "2 + 3?", "steps": ["5"]}
PROCESSBENCH = {"id": "gsm8k-0", "problem": "2 + 3?", "steps": ["5"], "label": -1}


def file_of(tmp_path: Path, content: bytes | str) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def refused(tmp_path: Path, content: bytes | str, format: str = "auto") -> FormatError:
    with pytest.raises(FormatError) as caught:
        list(read_records(file_of(tmp_path, content), format=format))
    return caught.value


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"question": {}, "label": {}}, "prm800k"),
        (PROCESSBENCH, "processbench"),
        (ROW, "simple"),
        (PROCESSBENCH | {"ratings": [1]}, "simple"),
    ],
)
def test_the_format_is_told_by_the_keys_of_the_first_row(row: object, name: str, tmp_path: Path) -> None:
    assert detect_format(file_of(tmp_path, f"\n  \n{json.dumps(row)}\n")) == name


def test_a_row_of_no_known_format_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    error = refused(tmp_path, '\n{"prompt": "2 + 3?"}\n')
    assert error.line == 2
    assert "prm800k, processbench, simple" in str(error)


@pytest.mark.parametrize("name", ["csv", "trl"])
def test_a_format_that_cannot_be_read_is_refused_before_the_file_is_opened(name: str) -> None:
    with pytest.raises(FormatError, match="prm800k, processbench, simple"):
        read_records("no such file", format=name)


def test_a_format_that_cannot_be_written_is_refused_before_any_record_is_asked_for() -> None:
    with pytest.raises(FormatError, match="known are prm800k, trl"):
        written_lines(iter([]), format="simple")


@pytest.mark.parametrize("content", ["", "\n \n\t\r\n", "[]", "[ \n ]", b"\xef\xbb\xbf"])
def test_a_file_without_rows_is_refused(content: bytes | str, tmp_path: Path) -> None:
    assert "empty" in str(refused(tmp_path, content))


def test_a_byte_order_mark_windows_line_ends_and_a_missing_last_one_are_tolerated(tmp_path: Path) -> None:
    row = json.dumps(ROW)
    read = list(read_records(file_of(tmp_path, f"\ufeff{row}\r\n\r\n{row}")))
    assert [(record.line, record.steps) for record in read] == [(1, ("5",)), (3, ("5",))]


def test_a_json_array_is_read_with_the_line_of_each_item(tmp_path: Path) -> None:
    read = list(read_records(file_of(tmp_path, json.dumps([PROCESSBENCH] * 3, indent=1))))
    assert len(read) == 3
    assert read[0].line == 2
    assert read[1].line > 8


def test_a_bad_item_of_an_array_is_named_by_its_index(tmp_path: Path) -> None:
    error = refused(tmp_path, json.dumps([ROW, ROW, ROW | {"steps": [1]}]))
    assert (error.line, error.field) == (1, "[2].steps[0]")


@pytest.mark.parametrize(
    "content",
    ["[", "[1", "[1,", "[1 2]", "[,]", '[{"problem": "a", "steps": ["b"]}] x', '[{"problem": "a", "steps": ["b"]},]'],
)
def test_a_broken_array_is_refused(content: str, tmp_path: Path) -> None:
    refused(tmp_path, content, "simple")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"problem": "a"', "broken JSON"),
        ('{"problem": "a", "steps": ["b"]} {}', "after the end of the record"),
        ('{"problem": "a", "problem": "b", "steps": ["c"]}', "'problem' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"problem": "a", "steps": ["b"], "n": ' + "9" * 5000 + "}", "broken JSON"),
        ("7", "must be an object, not the number 7"),
        ("null", "must be an object, not null"),
    ],
)
def test_a_line_that_is_not_one_json_object_is_named(line: str, message: str, tmp_path: Path) -> None:
    error = refused(tmp_path, f"{json.dumps(ROW)}\n{line}\n")
    assert error.line == 2
    assert message in str(error)


@pytest.mark.parametrize("rest", [b"\xff\xfe", b'{"problem": "\xc3("}', b"\x80"])
def test_invalid_utf_8_is_named_by_its_line(rest: bytes, tmp_path: Path) -> None:
    error = refused(tmp_path, json.dumps(ROW).encode() + b"\n\n" + rest)
    assert error.line == 3
    assert "UTF-8" in str(error)


def test_an_endless_line_is_refused_without_reading_all_of_it(tmp_path: Path) -> None:
    file = file_of(tmp_path, json.dumps(ROW) + "\n\n")
    with file.open("ab") as stream:
        stream.truncate(64 * MAX_ROW_BYTES)  # a sparse gigabyte of NULs
    with pytest.raises(FormatError, match=r"^line 3: the line is longer than 16 MiB$"):
        list(read_records(file))


def test_an_array_beyond_the_limit_is_refused_with_what_to_do(tmp_path: Path) -> None:
    error = refused(tmp_path, "[\n" + " " * MAX_ROW_BYTES + "\n" + json.dumps(ROW) + "]")
    assert "one record on each line" in str(error)


def test_records_are_streamed(tmp_path: Path) -> None:
    records = read_records(file_of(tmp_path, f"{json.dumps(ROW)}\nbroken\n"))
    assert next(records).line == 1
    with pytest.raises(FormatError, match=r"^line 2: broken JSON"):
        next(records)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0problemsteps1-e ', max_size=200).map(str.encode))
def test_whatever_the_bytes_nothing_but_a_format_error_is_raised(tmp_path: Path, content: bytes) -> None:
    with suppress(FormatError):
        list(read_records(file_of(tmp_path, content)))
