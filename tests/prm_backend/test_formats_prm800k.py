from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import FormatError
from prm_backend.formats import prm800k_line, read_records, written_lines
from prm_backend.formats.field import Field
from prm_backend.formats.prm800k import PHASE_1_QUESTION, PHASE_2_QUESTION, parse
from prm_backend.types import (
    FinishReason,
    HumanCompletion,
    LabeledStep,
    LabelingRecord,
    RatedCompletion,
    SolutionRecord,
)

SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "prm800k_sample.jsonl"

PHASE_2_ROW: dict[str, Any] = {
    "labeler": "7c2e",
    "timestamp": "2023-01-22T04:34:27.052924",
    "generation": 9,
    "is_quality_control_question": False,
    "is_initial_screening_question": False,
    "question": {
        "problem": "What is 2 + 3?",
        "ground_truth_solution": None,
        "ground_truth_answer": "5",
        "pre_generated_steps": ["Add 2 and 3.", "That is 6.\n\n# Answer\n\n6"],
        "pre_generated_answer": "6",
        "pre_generated_verifier_score": 0.010779580529581414,
    },
    "label": {
        "steps": [
            {
                "completions": [{"text": "Add 2 and 3.", "rating": 1, "flagged": None}],
                "human_completion": None,
                "chosen_completion": 0,
            },
            {
                "completions": [
                    {"text": "That is 6.\n\n# Answer\n\n6", "rating": -1, "flagged": None},
                    {"text": "That is 5.", "rating": 1, "flagged": False},
                ],
                "human_completion": None,
                "chosen_completion": None,
            },
        ],
        "total_time": 278270,
        "finish_reason": "found_error",
    },
}


def read_row(row: object) -> SolutionRecord:
    return parse(Field(row, 1))


def test_a_phase_2_row_keeps_the_ready_solution_and_the_labeling_apart() -> None:
    record = read_row(PHASE_2_ROW)
    assert record.phase == 2
    assert record.steps == ("Add 2 and 3.", "That is 6.\n\n# Answer\n\n6")
    assert (record.reference_answer, record.reference_solution, record.final_answer) == ("5", None, "6")
    assert record.question_keys == PHASE_2_QUESTION
    assert record.labeling is not None
    assert record.labeling.finish_reason is FinishReason.FOUND_ERROR
    assert [c.rating for c in record.labeling.steps[1].completions or ()] == [-1, 1]


def test_a_phase_1_row_has_no_steps_but_those_of_the_labeling() -> None:
    row = deepcopy(PHASE_2_ROW) | {"generation": None, "question": {"problem": "2 + 3?", "ground_truth_answer": "5"}}
    record = read_row(row)
    assert (record.phase, record.steps, record.question_keys) == (1, (), PHASE_1_QUESTION)


def test_the_pending_step_of_a_given_up_labeling_may_lack_completions() -> None:
    row = deepcopy(PHASE_2_ROW)
    row["label"]["steps"][1] = {
        "completions": None,
        "human_completion": {
            "text": "So 5.",
            "rating": None,
            "source": "human",
            "flagged": False,
            "corrected_rating": 1,
        },
        "chosen_completion": None,
    }
    record = read_row(row)
    assert record.labeling is not None
    assert record.labeling.steps[1].completions is None
    human = record.labeling.steps[1].human_completion
    assert human is not None
    assert (human.text, human.corrected_rating) == ("So 5.", 1)
    assert prm800k_line(record) == json.dumps(row)


Edit = Callable[[dict[str, Any]], object]

BROKEN: list[tuple[str, Edit, str, str]] = [
    ("missing key", lambda r: r.pop("labeler"), "labeler", "is missing"),
    ("missing question key", lambda r: r["question"].pop("problem"), "question.problem", "is missing"),
    ("unknown key", lambda r: r.update(worker="x"), "worker", "not a key"),
    ("unknown step key", lambda r: r["label"]["steps"][0].update(note=1), "label.steps[0].note", "not a key"),
    (
        "rating out of range",
        lambda r: r["label"]["steps"][1]["completions"][0].update(rating=2),
        "label.steps[1].completions[0].rating",
        "-1, 0, 1 or null, not 2",
    ),
    (
        "rating true",
        lambda r: r["label"]["steps"][0]["completions"][0].update(rating=True),
        "label.steps[0].completions[0].rating",
        "not True",
    ),
    (
        "rating as float",
        lambda r: r["label"]["steps"][0]["completions"][0].update(rating=1.0),
        "label.steps[0].completions[0].rating",
        "not 1.0",
    ),
    (
        "flagged as number",
        lambda r: r["label"]["steps"][0]["completions"][0].update(flagged=0),
        "label.steps[0].completions[0].flagged",
        "true or false",
    ),
    ("finish reason", lambda r: r["label"].update(finish_reason="done"), "label.finish_reason", "found_error"),
    (
        "chosen out of range",
        lambda r: r["label"]["steps"][1].update(chosen_completion=2),
        "label.steps[1].chosen_completion",
        "2 completions",
    ),
    (
        "chosen negative",
        lambda r: r["label"]["steps"][1].update(chosen_completion=-1),
        "label.steps[1].chosen_completion",
        "from 0",
    ),
    (
        "human completion as text",
        lambda r: r["label"]["steps"][1].update(human_completion="So 5."),
        "label.steps[1].human_completion",
        "an object, not text",
    ),
    ("no steps", lambda r: r["question"].update(pre_generated_steps=[]), "question.pre_generated_steps", "empty"),
    (
        "step as number",
        lambda r: r["question"].update(pre_generated_steps=["a", 7]),
        "question.pre_generated_steps[1]",
        "text, not the number 7",
    ),
    (
        "more labels than steps",
        lambda r: r["question"].update(pre_generated_steps=["a"]),
        "label.steps",
        "2 entries for 1 pre-generated",
    ),
    (
        "not a number",
        lambda r: r["question"].update(pre_generated_verifier_score=float("nan")),
        "question.pre_generated_verifier_score",
        "finite",
    ),
    (
        "infinite",
        lambda r: r["question"].update(pre_generated_verifier_score=float("-inf")),
        "question.pre_generated_verifier_score",
        "finite",
    ),
    (
        "integer beyond any float",
        lambda r: r["question"].update(pre_generated_verifier_score=10**400),
        "question.pre_generated_verifier_score",
        "finite",
    ),
    ("time as NaN", lambda r: r["label"].update(total_time=float("nan")), "label.total_time", "whole number"),
    ("time too large for a database", lambda r: r["label"].update(total_time=2**63), "label.total_time", "2^63"),
    ("timestamp", lambda r: r.update(timestamp="yesterday"), "timestamp", "ISO 8601"),
    ("generation below -1", lambda r: r.update(generation=-2), "generation", "from -1"),
    ("NUL", lambda r: r["question"].update(problem="a\0b"), "question.problem", "NUL"),
    ("lone surrogate", lambda r: r["question"].update(problem="a\ud800"), "question.problem", "surrogate"),
    ("label as list", lambda r: r.update(label=[]), "label", "an object, not a list"),
]


@pytest.mark.parametrize(("edit", "field", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_a_broken_row_is_refused_with_its_line_and_field(edit: Edit, field: str, message: str, tmp_path: Path) -> None:
    row = deepcopy(PHASE_2_ROW)
    edit(row)
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{json.dumps(PHASE_2_ROW)}\n\n{json.dumps(row)}\n")
    with pytest.raises(FormatError) as caught:
        list(read_records(file, format="prm800k"))
    assert (caught.value.line, caught.value.field) == (3, field)
    assert message in str(caught.value)


def test_a_solution_without_a_labeling_cannot_be_written() -> None:
    with pytest.raises(FormatError, match="line 4: a solution without a labeling"):
        prm800k_line(SolutionRecord(line=4, problem="2 + 3?", steps=("5",)))


def test_a_record_made_here_is_written_with_all_question_keys_of_its_phase() -> None:
    record = read_row(PHASE_2_ROW)
    made = SolutionRecord(line=1, problem="2 + 3?", steps=("5",), labeling=record.labeling)
    assert tuple(json.loads(prm800k_line(made))["question"]) == PHASE_2_QUESTION


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ratings = st.sampled_from([-1, 0, 1, None])
flags = st.sampled_from([True, False, None])
optional_texts = st.none() | texts


@st.composite
def human_completions(draw: st.DrawFn) -> HumanCompletion:
    keys = draw(st.permutations(["text", "rating", "source", "flagged"]))
    corrected = draw(st.none() | st.tuples(ratings))
    return HumanCompletion(
        text=draw(texts),
        rating=draw(ratings),
        flagged=draw(flags),
        source=draw(texts),
        corrected_rating=corrected[0] if corrected else None,
        keys=(*keys, "corrected_rating") if corrected else tuple(keys),
    )


@st.composite
def labeled_steps(draw: st.DrawFn) -> LabeledStep:
    completions = draw(st.none() | st.lists(st.builds(RatedCompletion, texts, ratings, flags), max_size=4))
    choices = st.none() | st.integers(0, len(completions) - 1) if completions else st.none()
    human = draw(st.none() | human_completions())
    return LabeledStep(None if completions is None else tuple(completions), human, draw(choices))


@st.composite
def records(draw: st.DrawFn) -> SolutionRecord:
    labeled = draw(st.lists(labeled_steps(), max_size=4))
    labeling = LabelingRecord(
        labeler=draw(texts),
        timestamp=draw(st.datetimes()).isoformat(),
        generation=draw(st.none() | st.integers(-1, 20)),
        is_quality_control_question=draw(st.booleans()),
        is_initial_screening_question=draw(st.booleans()),
        steps=tuple(labeled),
        total_time=draw(st.integers(0, 2**63 - 1)),
        finish_reason=draw(st.sampled_from(FinishReason)),
    )
    in_phase_2 = draw(st.booleans())
    if not in_phase_2:
        keys = tuple(draw(st.permutations(PHASE_1_QUESTION)))
        answer = draw(optional_texts)
        return SolutionRecord(1, draw(texts), (), 1, reference_answer=answer, labeling=labeling, question_keys=keys)
    return SolutionRecord(
        line=1,
        problem=draw(texts),
        steps=tuple(draw(st.lists(texts, min_size=max(1, len(labeled)), max_size=6))),
        phase=2,
        reference_answer=draw(optional_texts),
        reference_solution=draw(optional_texts),
        final_answer=draw(optional_texts),
        verifier_score=draw(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 9)),
        labeling=labeling,
        question_keys=tuple(draw(st.permutations(PHASE_2_QUESTION))),
    )


@given(records())
def test_what_is_written_reads_back_as_the_same_record_and_the_same_bytes(record: SolutionRecord) -> None:
    line = prm800k_line(record)
    assert line.isascii()
    assert "\n" not in line
    again = read_row(json.loads(line))
    assert again == record
    assert prm800k_line(again) == line


@pytest.mark.skipif(not SAMPLE.exists(), reason="needs the shared sample of genuine PRM800K rows")
def test_genuine_rows_come_back_byte_for_byte() -> None:
    read = list(read_records(SAMPLE))
    assert [record.phase for record in read].count(1) == 6
    assert "".join(written_lines(read, format="prm800k")) == SAMPLE.read_text()
    for record in read:
        if record.phase == 2:
            assert record.labeling is not None
            judged = [step.completions[0].text for step in record.labeling.steps if step.completions]
            assert judged == list(record.steps[: len(judged)])
