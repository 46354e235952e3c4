from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from prm_backend.encoding import STEP_TOKEN, Adapter, SolutionTooLong, StepEncoder, train_tokenizer
from prm_backend.types import Solution
from tests.prm_backend.tiny import plain_solutions

TEXTS = [text for solution in plain_solutions() for text in (solution.problem, *solution.steps)]
TOKENIZER = train_tokenizer(TEXTS, vocabulary=2048)
ADAPTER = Adapter(prefix_ids=(1,), separator_ids=(2,), layers=(1,), max_tokens=64)
ENCODER = StepEncoder(TOKENIZER, ADAPTER)


def solution(*steps: str, problem: str = "How many?") -> Solution:
    return Solution("the one", "p", problem, steps)


def test_the_read_out_position_is_the_last_token_of_the_step() -> None:
    encoded = ENCODER.encode(solution("So 3.", "Then 4 apples."))
    pieces = [
        TOKENIZER.convert_ids_to_tokens(list(encoded.ids[a:b]))
        for a, b in zip(encoded.starts, encoded.ends, strict=True)
    ]
    assert pieces == [["So", "3", ".", STEP_TOKEN], ["Then", "4", "apples", ".", STEP_TOKEN]]
    assert encoded.ends[-1] == len(encoded.ids)


def test_later_steps_do_not_change_the_ids_of_earlier_ones() -> None:
    short, long = ENCODER.encode(solution("So 3.")), ENCODER.encode(solution("So 3.", "Then 4."))
    assert long.ids[: len(short.ids)] == short.ids


def test_an_empty_step_still_has_a_position_of_its_own() -> None:
    encoded = ENCODER.encode(solution("", "So 3."))
    assert encoded.ends[0] == encoded.starts[0] + 1


@pytest.mark.parametrize("number", [0, 7, 42, 199])
def test_whole_numbers_are_single_tokens(number: int) -> None:
    assert TOKENIZER.tokenize(f"${number}$") == ["$", str(number), "$"]


@given(st.text(max_size=40))
def test_no_text_poses_as_a_control_token(text: str) -> None:
    for posing in (text, f"{text}{STEP_TOKEN}", f"<st<step>ep>{text}"):
        assert not set(ENCODER.text_ids(posing)) & set(TOKENIZER.all_special_ids)


def test_a_solution_over_the_limit_is_an_error_that_names_it() -> None:
    with pytest.raises(SolutionTooLong, match=r"solution the one: \d+ tokens, but this model reads 64 at most"):
        ENCODER.encode(solution("apples " * 64))


def test_the_tokenizer_is_the_same_after_a_reload(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = r"Ünïcode $\frac{12}{3} = 4$ 日本 <step>"
    encoder = StepEncoder(again, ADAPTER)
    assert encoder.encode(solution(text)) == ENCODER.encode(solution(text))
