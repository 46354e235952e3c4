"""What the simple form may carry besides steps: alternatives, critiques, images, an agent's turns; and hostile rows."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import FormatError
from prm_backend.formats import read_records
from prm_backend.formats.attachments import MAX_IMAGE_BYTES
from prm_backend.formats.field import Field
from prm_backend.formats.simple import parse
from prm_backend.types import SolutionRecord

GUIDE = Path(__file__).parents[2] / "docs" / "formats.md"
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF"
GIF = b"GIF89a\1\0\1\0"
WEBP = b"RIFF\x24\0\0\0WEBPVP8 "
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def simple(**changes: Any) -> SolutionRecord:
    return parse(Field({"problem": "?", "steps": ["a", "b", "c"]} | changes, 1))


def image(content: bytes = PNG, **changes: Any) -> dict[str, Any]:
    return {"name": "figure.png", "data": base64.b64encode(content).decode()} | changes


def test_alternatives_and_critiques_stand_beside_their_steps() -> None:
    record = simple(alternatives=[None, ["b2", "b3"], []], critiques=[["too short"], None, ["wrong", "unclear"]])
    assert record.alternatives == ((), ("b2", "b3"), ())
    assert record.critiques == (("too short",), (), ("wrong", "unclear"))


@pytest.mark.parametrize("value", [None, [None, None, None], [[], None, []]])
def test_nothing_beside_any_step_reads_as_absent(value: object) -> None:
    assert simple(alternatives=value, critiques=value) == simple()


@given(st.lists(st.tuples(st.text("ab"), st.none() | st.lists(st.text("cd")), st.none() | st.lists(st.text("ef")))))
def test_what_is_written_is_what_is_read(rows: list[tuple[str, list[str] | None, list[str] | None]]) -> None:
    steps, alternatives, critiques = ([row[part] for row in rows] for part in range(3))
    record = simple(steps=steps, alternatives=alternatives, critiques=critiques)
    assert list(record.steps) == steps
    assert [list(texts) for texts in record.alternatives] == (
        [texts or [] for texts in alternatives] if any(alternatives) else []
    )
    assert [list(texts) for texts in record.critiques] == (
        [texts or [] for texts in critiques] if any(critiques) else []
    )


def test_a_turn_of_an_agent_becomes_a_text() -> None:
    record = simple(
        steps=[
            {"thought": "I should look.", "action": "open", "action_input": "a.txt", "observation": "empty\nfile"},
            {"observation": "done", "thought": None},
            "Plain words.",
        ],
        alternatives=[[{"action": "close"}], None, None],
    )
    assert record.steps == (
        "Thought: I should look.\nAction: open\nAction Input: a.txt\nObservation: empty\nfile",
        "Observation: done",
        "Plain words.",
    )
    assert record.alternatives[0] == ("Action: close",)


@pytest.mark.parametrize("row", [{"problem": "?"}, {"problem": "?", "steps": []}, {"problem": "?", "steps": None}])
def test_a_row_without_steps_is_a_bare_problem_for_phase_1(row: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    (record,) = read_records(tmp_path / "rows.jsonl")
    assert (record.phase, record.steps, record.labeling) == (1, (), None)
    assert simple().phase == 2


@pytest.mark.parametrize(
    ("data", "content_type"),
    [(PNG, "image/png"), (JPEG, "image/jpeg"), (GIF, "image/gif"), (WEBP, "image/webp")],
)
def test_an_image_is_what_its_bytes_say(data: bytes, content_type: str) -> None:
    claimed, unclaimed = simple(attachments=[image(data, type=content_type), image(data)]).attachments
    assert claimed == unclaimed
    assert (claimed.content_type, claimed.data, claimed.name) == (content_type, data, "figure.png")


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"alternatives": [["x"]]}, "alternatives", "has 1 entries for 3 steps"),
        ({"alternatives": []}, "alternatives", "has 0 entries for 3 steps"),
        ({"steps": [], "critiques": [["x"]]}, "critiques", "has 1 entries for 0 steps"),
        ({"steps": [], "ratings": [1]}, "ratings", "has 1 entries for 0 steps"),
        ({"alternatives": [None, "b2", None]}, "alternatives[1]", "must be a list"),
        ({"alternatives": [None, [[["deep"]]], None]}, "alternatives[1][0]", "must be text"),
        ({"critiques": [None, [{"text": "wrong"}], None]}, "critiques[1][0]", "must be text"),
        ({"critiques": [None, None, ["\0"]]}, "critiques[2][0]", "NUL"),
        ({"critiques": {"0": ["x"]}}, "critiques", "must be a list"),
        ({"steps": ["a", {}]}, "steps[1]", "one of thought, action, action_input, observation"),
        ({"steps": [{"thought": None}]}, "steps[0]", "one of thought"),
        ({"steps": [{"thought": "a", "tool": "b"}]}, "steps[0].tool", "not a key"),
        ({"steps": [{"action_input": {"path": "a"}}]}, "steps[0].action_input", "must be text"),
        ({"steps": [["a"]]}, "steps[0]", "must be text"),
        ({"attachments": image()}, "attachments", "must be a list"),
        ({"attachments": [image()] * 9}, "attachments", "a problem may have 8"),
        (
            {"attachments": [image(), image(SVG, type="image/png")]},
            "attachments[1].data",
            "not a PNG, JPEG, GIF or WebP",
        ),
        ({"attachments": [image(JPEG, type="image/png")]}, "attachments[0].type", "the data is image/jpeg"),
        ({"attachments": [image(b"")]}, "attachments[0].data", "not a PNG"),
        ({"attachments": [image(b"RIFF\x24\0\0\0WAVE")]}, "attachments[0].data", "not a PNG"),
        ({"attachments": [image(b" " + PNG)]}, "attachments[0].data", "not a PNG"),
        (
            {"attachments": [image(data="data:image/png;base64,iVBORw0KGgo=")]},
            "attachments[0].data",
            "without a prefix",
        ),
        ({"attachments": [image(data="ümlaut")]}, "attachments[0].data", "base64"),
        ({"attachments": [image(data="iVBO=w0KGgo")]}, "attachments[0].data", "base64"),
        ({"attachments": [image(data=None)]}, "attachments[0].data", "must be text"),
        ({"attachments": [{"data": "iVBORw0KGgo="}]}, "attachments[0].name", "is missing"),
        ({"attachments": [image(name="a\r\nSet-Cookie: b")]}, "attachments[0].name", "one line"),
        ({"attachments": [image(name=" ")]}, "attachments[0].name", "one line"),
        ({"attachments": [image(name="a" * 201)]}, "attachments[0].name", "200"),
        ({"attachments": [image(url="http://example.org/a.png")]}, "attachments[0].url", "not a key"),
        ({"attachments": [image(PNG.ljust(MAX_IMAGE_BYTES + 1))]}, "attachments[0].data", "2 MiB"),
    ],
)
def test_a_hostile_row_is_refused_with_its_field(changes: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(FormatError, match=r"^line 1, field") as caught:
        simple(**changes)
    assert caught.value.field == field
    assert words in caught.value.message


def test_an_image_of_exactly_the_limit_is_taken() -> None:
    assert len(simple(attachments=[image(PNG.ljust(MAX_IMAGE_BYTES))]).attachments[0].data) == MAX_IMAGE_BYTES


def test_a_hundred_megabytes_of_base64_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="2 MiB"):
        simple(attachments=[image(data="A" * (100 << 20))])
    rows = tmp_path / "rows.jsonl"
    with rows.open("w") as file:
        file.write('{"problem": "?", "attachments": [{"name": "a", "data": "')
        for _ in range(100):
            file.write("A" * (1 << 20))
        file.write('"}]}\n')
    with pytest.raises(FormatError, match=r"^line 1: the line is longer than 16 MiB$"):
        list(read_records(rows))


def test_the_example_of_the_guide_is_a_row() -> None:
    example = GUIDE.read_text().partition("```json\n")[2].partition("```")[0]
    record = parse(Field(json.loads(example), 1))
    assert record.alternatives == ((), ("That makes 2.\n\n# Answer\n\n2", "That makes 11."))
    assert record.critiques == ((), ("The sum is wrong.",))
