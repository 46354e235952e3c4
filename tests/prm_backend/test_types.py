from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.errors import FormatError
from prm_backend.types import (
    LabeledSolution,
    Solution,
    StepLabel,
    StepScores,
    problem_key,
    solution_score,
    split_of_problem,
)

SCORES = StepScores(bad=(0.1, 0.5), neutral=(0.4, 0.0), good=(0.5, 0.5), spread=(0.0, 0.0))


@pytest.mark.parametrize(
    ("how", "score"), [("product", 0.45), ("min", 0.5), ("mean", 0.7), ("sum", 1.4), ("last", 0.5)]
)
def test_a_solution_score_counts_neutral_as_correct(how: str, score: float) -> None:
    assert math.isclose(solution_score(SCORES, how), score)  # type: ignore[arg-type]


def test_a_labeled_solution_needs_one_label_for_each_step() -> None:
    with pytest.raises(ValueError, match="key-7: 1 labels for 2 steps"):
        LabeledSolution(Solution("key-7", "p", "?", ("a", "b")), (StepLabel.BAD,))


@pytest.mark.parametrize("again", ["what  IS\n2 + 3 ?", " What is 2 + 3 ? ", "What is ２ + 3 ?"])
def test_the_same_problem_has_the_same_key_however_it_is_typed(again: str) -> None:
    assert problem_key(again) == problem_key("What is 2 + 3 ?")


def test_splits_are_80_10_10() -> None:
    splits = [split_of_problem(f"problem {number}") for number in range(5000)]
    assert abs(splits.count("train") / 5000 - 0.8) < 0.02
    assert abs(splits.count("validation") / 5000 - 0.1) < 0.02


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_has_a_split_that_does_not_depend_on_case_or_blanks(text: str) -> None:
    assert split_of_problem(text) == split_of_problem(f" {text}\n")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FormatError("is missing", line=3, field="label.steps[3]"), "line 3, field label.steps[3]: is missing"),
        (FormatError("is missing", line=3), "line 3: is missing"),
        (FormatError("the file is empty"), "the file is empty"),
    ],
)
def test_a_format_error_says_where(error: FormatError, message: str) -> None:
    assert str(error) == message
