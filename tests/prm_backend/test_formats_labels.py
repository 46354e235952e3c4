"""Bare step labels: ProcessBench, the simple form, and stepwise supervision as output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import FormatError
from prm_backend.formats import rated_path, read_records, trl_line
from prm_backend.formats.field import Field
from prm_backend.formats.processbench import parse as parse_processbench
from prm_backend.formats.simple import parse as parse_simple
from prm_backend.types import (
    FinishReason,
    HumanCompletion,
    LabeledStep,
    LabelingRecord,
    RatedCompletion,
    SolutionRecord,
    StepLabel,
)

SHARED = Path(__file__).parents[3] / "shared" / "data"
BAD, NEUTRAL, GOOD, NOT_BAD = StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.GOOD, StepLabel.NOT_BAD


def processbench(**changes: Any) -> SolutionRecord:
    row = {"id": "gsm8k-0", "generator": "m", "problem": "?", "steps": ["a", "b", "c"], "final_answer_correct": False}
    return parse_processbench(Field(row | {"label": 1} | changes, 1))


def simple(**changes: Any) -> SolutionRecord:
    return parse_simple(Field({"problem": "?", "steps": ["a", "b", "c"]} | changes, 1))


@pytest.mark.parametrize(
    ("label", "labels"),
    [
        (-1, (NOT_BAD, NOT_BAD, NOT_BAD)),
        (0, (BAD, None, None)),
        (1, (NOT_BAD, BAD, None)),
        (2, (NOT_BAD, NOT_BAD, BAD)),
    ],
)
def test_processbench_says_not_bad_before_the_first_error_and_nothing_after(label: int, labels: tuple[Any]) -> None:
    record = processbench(label=label)
    assert record.step_labels == labels
    assert (record.external_id, record.generator, record.final_answer_correct) == ("gsm8k-0", "m", False)


@pytest.mark.parametrize("label", [-2, 3, 1.0, True, None, "1"])
def test_processbench_refuses_a_label_that_is_no_step(label: object) -> None:
    with pytest.raises(FormatError) as caught:
        processbench(label=label)
    assert caught.value.field == "label"


@pytest.mark.parametrize(
    ("origin", "ratings", "labels"),
    [
        ("human_first_error", [1, -1, None], (NOT_BAD, BAD, None)),
        ("human_first_error", [0, -1, 1], (NOT_BAD, BAD, None)),
        ("human_first_error", [1, 1, 1], (NOT_BAD, NOT_BAD, NOT_BAD)),
        ("human_first_error", [None, None, None], None),
        ("human_per_step_merged", [1, -1, None], (NOT_BAD, BAD, None)),
        ("human_per_step", [1, 0, -1], (GOOD, NEUTRAL, BAD)),
        ("human_per_step", [None, 0, None], (None, NEUTRAL, None)),
        ("generated", [1, 0, -1], (GOOD, NEUTRAL, BAD)),
        (None, [1, 0, -1], (GOOD, NEUTRAL, BAD)),
        ("auto_mostly", [1, 0, -1], None),
        ("llm_injected_error", [1, 0, -1], None),
        ("none", [None, None, None], None),
        ("human_per_step", None, None),
    ],
)
def test_the_origin_of_ratings_decides_what_they_mean(origin: str | None, ratings: object, labels: object) -> None:
    assert simple(label_origin=origin, ratings=ratings).step_labels == labels


def test_the_simple_form_needs_only_a_problem_and_steps_and_lets_other_keys_pass() -> None:
    record = simple(steps=["a", " "], source="somewhere", auto_ratings=[1, 1])
    assert record.steps == ("a", " ")
    assert record.step_labels is None
    assert record.final_answer is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"steps": "a. b."}, "steps"),
        ({"steps": ["a", None]}, "steps[1]"),
        ({"steps": ["a\0"]}, "steps[0]"),
        ({"problem": None}, "problem"),
        ({"ratings": [1, 1]}, "ratings"),
        ({"ratings": [1, 1, 2]}, "ratings[2]"),
        ({"ratings": [1, True, 1]}, "ratings[1]"),
        ({"ratings": {"0": 1}}, "ratings"),
        ({"label_origin": "oracle"}, "label_origin"),
        ({"final_answer_correct": 1}, "final_answer_correct"),
        ({"id": 7}, "id"),
    ],
)
def test_a_broken_simple_row_is_refused_with_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(FormatError) as caught:
        simple(**changes)
    assert (caught.value.line, caught.value.field) == (1, field)


def labeled(*steps: LabeledStep, phase: Any = 2) -> SolutionRecord:
    labeling = LabelingRecord("l", "2023-01-22T04:34:27", None, False, False, steps, 1, FinishReason.SOLUTION)
    return SolutionRecord(line=1, problem="2 + 3?", steps=("x",) * len(steps), phase=phase, labeling=labeling)


def step(*ratings: int | None, chosen: int | None = 0, human: bool = False) -> LabeledStep:
    completions = tuple(RatedCompletion(f"{index}", rating) for index, rating in enumerate(ratings))
    return LabeledStep(completions, HumanCompletion("own") if human else None, chosen)


def test_stepwise_supervision_of_a_labeling_ends_with_the_judged_wrong_step() -> None:
    record = labeled(step(1), step(0), step(-1, 1, 0, chosen=None))
    assert json.loads(trl_line(record) or "") == {
        "prompt": "2 + 3?",
        "completions": ["0", "0", "0"],
        "labels": [True, True, False],
    }
    assert json.loads(trl_line(record, neutral_is_correct=False) or "")["labels"] == [True, False, False]


def test_in_phase_1_the_path_follows_the_chosen_completion_and_stops_at_the_labelers_own_step() -> None:
    record = labeled(step(-1, 1, chosen=1), step(-1, -1, chosen=None, human=True), step(1), phase=1)
    assert list(rated_path(record)) == [("1", GOOD)]


def test_in_phase_1_candidates_of_which_none_was_chosen_are_not_on_the_path() -> None:
    assert list(rated_path(labeled(step(1), step(-1, 0, chosen=None), phase=1))) == [("0", GOOD)]


def test_the_path_stops_at_the_first_unrated_step() -> None:
    assert list(rated_path(labeled(step(1), step(None), step(1)))) == [("0", GOOD)]
    assert list(rated_path(simple(ratings=[1, None, -1]))) == [("a", GOOD)]
    assert list(rated_path(labeled(step(1), LabeledStep(None)))) == [("0", GOOD)]


def test_a_solution_whose_first_step_is_unrated_has_no_line() -> None:
    assert trl_line(simple()) is None
    assert trl_line(simple(ratings=[None, 1, 1])) is None


@given(st.lists(st.sampled_from([-1, 0, 1, None]), min_size=3, max_size=3))
def test_stepwise_supervision_has_one_label_for_each_written_step(ratings: list[int | None]) -> None:
    line = trl_line(simple(ratings=ratings))
    rated = ratings.index(None) if None in ratings else 3
    if line is None:
        assert rated == 0
    else:
        row = json.loads(line)
        assert row["completions"] == ["a", "b", "c"][:rated]
        assert row["labels"] == [rating != -1 for rating in ratings[:rated]]


COUNTS = {  # rows, judged steps (from the folder's README: +1, 0 and -1)
    "bbm_dyck_languages": (664, 0),
    "bbm_logical_deduction": (185, 606),
    "bbm_multistep_arithmetic": (192, 690),
    "bbm_tracking_shuffled_objects": (202, 782),
    "bbm_word_sorting": (199, 1041),
    "gsm8k_model_solutions": (1600, 0),
    "mr_ben_chemistry": (552, 2414),
    "mr_ben_math": (587, 2116),
    "mr_ben_physics": (417, 1979),
    "mr_gsm8k_part": (403, 1564),
    "prm800k_steps": (266, 2466),
    "prmbench_injected": (913, 0),
    "processbench_gsm8k": (273, 1087),
    "processbench_math": (691, 3076),
    "processbench_olympiadbench": (640, 3775),
    "processbench_omnimath": (655, 3090),
    "stepverify": (624, 1754),
}


@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared data folder")
@pytest.mark.parametrize("name", COUNTS)
def test_the_shared_files_read_whole(name: str) -> None:
    read = list(read_records(SHARED / f"{name}.jsonl"))
    judged = sum(label is not None for record in read for label in record.step_labels or ())
    assert (len(read), judged) == COUNTS[name]
