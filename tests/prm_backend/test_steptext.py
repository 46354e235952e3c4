"""What models write, cut to one step."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.steptext import MAX_CRITIQUE_CHARS, MAX_STEP_CHARS, clean, one_critique, one_step


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("So $x=2$.", "So $x=2$."),
        ("So $x=2$.\nHence $y=3$.", "So $x=2$.\nHence $y=3$."),
        ("So $x=2$.\n\nThen $y=3$.\n\nThen $z=4$.", "So $x=2$."),
        ("Step 3: So $x=2$.\nStep 4: Then $y=3$.", "So $x=2$."),
        ("**Step 3:** So $x=2$.", "So $x=2$."),
        ("**Step 3**: So $x=2$.", "So $x=2$."),
        ("### Step 3\n\nSo $x=2$.\n\n### Step 4\n\nMore.", "So $x=2$."),
        ("### Step 3: Find x\n\nSo $x=2$.\n\nMore.", "## Find x\nSo $x=2$."),
        ("**Step 3: Find x**\n\nSo $x=2$.\n\nMore.", "**Find x**\nSo $x=2$."),
        ("3. So $x=2$.\n4. Then $y=3$.", "So $x=2$."),
        ("We need three things:\n1. one\n2. two", "We need three things:\n1. one\n2. two"),
        ("Step 3 shows that we are done.", "Step 3 shows that we are done."),
        ("So $x=2$.\nStep 2 gave the rest.", "So $x=2$.\nStep 2 gave the rest."),
        ("Step 1: Think.\n\nStep 2: Try.\n\nStep 3: So $x=2$.\n\nStep 4: Then.", "So $x=2$."),
        ("We have:\n\n$$x=2$$\n\nThen $y=3$.", "We have:\n$$x=2$$"),
        ("$$\nx=2\n\ny=3\n$$\n\nThen.", "$$\nx=2\n\ny=3\n$$"),
        ("\\[\nx\n\ny\n\\]\n\nThen.", "\\[\nx\n\ny\n\\]"),
        ("$\\begin{aligned}a\\\\[4pt]\nb\\end{aligned}$\n\nThen.", "$\\begin{aligned}a\\\\[4pt]\nb\\end{aligned}$"),
        ("```\nx = 1\n\ny = 2\n```\n\nThen.", "```\nx = 1\n\ny = 2\n```"),
        ("<think>Hm.\n\nWell.</think>\n\nSo $x=2$.", "So $x=2$."),
        ("<think>Hm, this takes long", ""),
        ("So\x00 $x\x07=2$.\ud800\r\nYes.", "So $x=2$.\nYes."),
        ("", ""),
        ("  \n\n ", ""),
        ("Step 3:", ""),
    ],
)
def test_the_third_step(text: str, step: str) -> None:
    assert one_step(text, number=3) == step


@pytest.mark.parametrize(
    "text",
    [
        "So it is 2.\n\n# Answer\n\n2",
        "So it is 2.\n# Answer\n2\n\nThat was fun.",
        "So it is 2.\n\n## Answer: 2",
        "So it is 2.\n\n### Final Answer\n\n2",
        "So it is 2.\n\n**Answer:** 2",
        "So it is 2.\n\n**Final answer**: 2",
    ],
)
def test_a_final_answer_stays_with_its_step_as_prm800k_writes_it(text: str) -> None:
    assert one_step(text, number=1) == "So it is 2.\n\n# Answer\n\n2"


def test_an_answer_that_follows_a_later_step_does_not_belong_to_this_one() -> None:
    assert one_step("So $x=1$.\n\nHence it is 2.\n\n# Answer\n\n2", number=1) == "So $x=1$."


def test_an_answer_may_stand_alone_but_not_be_missing() -> None:
    assert one_step("# Answer\n\n2", number=1) == "# Answer\n\n2"
    assert one_step("So it is 2.\n\n# Answer\n\n", number=1) == ""


@pytest.mark.parametrize(
    ("text", "step"),
    [
        ("So $x=2$. Then", ""),
        ("So $x=2$.\n\nThen", "So $x=2$."),
        ("Done.\n\n# Answer\n\n1", ""),
        ("Done.\n\n# Answer\n\n12\n\nI ho", "Done.\n\n# Answer\n\n12"),
    ],
)
def test_of_a_text_that_was_cut_off_only_what_something_ends_is_whole(text: str, step: str) -> None:
    assert one_step(text, number=1, cut=True) == step


def test_a_text_that_is_too_long_is_no_step_and_no_critique() -> None:
    assert one_step("x" * MAX_STEP_CHARS, number=1) != ""
    assert one_step("x" * (MAX_STEP_CHARS + 1), number=1) == ""
    assert one_critique("x" * MAX_CRITIQUE_CHARS) != ""
    assert one_critique("x" * (MAX_CRITIQUE_CHARS + 1)) == ""


@pytest.mark.parametrize("piece", ["\n", "a\n", ":\n\n", "$$\n\n", "# Answer\n", "Step 1:\n", "**", "<think>", "\\["])
def test_a_hostile_length_costs_little(piece: str) -> None:
    started = time.process_time()
    one_step("Well:" + piece * (2_000_000 // len(piece)), number=1)
    assert time.process_time() - started < 3


@given(st.text(st.one_of(st.characters(), st.sampled_from("\n\n\n$#*:.\\[]123")), max_size=200), st.booleans())
def test_any_text_becomes_something_that_can_be_stored(text: str, cut: bool) -> None:
    step = one_step(text, number=1, cut=cut)
    assert "\x00" not in step
    step.encode()
    assert step == step.strip() == clean(step)
    assert len(step) <= MAX_STEP_CHARS
