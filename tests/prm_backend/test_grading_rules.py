"""Grading without computer algebra: choices, plain numbers, and the conservative rules."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.grading import MAX_ANSWER_CHARS, Grader, Verdict, Verdicts, final_answer_of
from prm_backend.grading.choices import chosen, is_choice
from prm_backend.grading.conservative import compare_conservatively, normal_form
from prm_backend.grading.plain import compare_plainly, number
from prm_backend.grading.units import without_units

CORRECT, INCORRECT, UNKNOWN = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNKNOWN


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


# --- Multiple choice ---


@pytest.mark.parametrize(
    "reference", ["B", "(B)", "B.", "B)", "(b)", "\\text{B}", "\\textbf{(B)}", "$B$", "\\boxed{B}"]
)
@pytest.mark.parametrize(
    "answer",
    [
        "B",
        "b",
        "(B)",
        "( b )",
        "B.",
        "B. 12 cm",
        "B) 12 cm",
        "(B) 12 cm",
        "(B) a triangle and a square",
        "B: because 3 is prime",
        "**B**",
        "$\\text{(B)}$",
        "\\textbf{(B)}\\ 12",
        "\\boxed{B}",
        "\\boxed{\\text{B}}",
        "The answer is B",
        "The answer is B.",
        "The answer is (B).",
        "The answer is: B",
        "The correct option is (b)",
        "the final answer is option B, since 3 is prime",
        "Answer: B",
        "Answer: B. 12 cm",
        "Option B is right",
        "Choice_B",
        "Choice_B: 4/3 V",
        "First I thought of option A, but the answer is B, not C",
    ],
)
def test_a_choice_is_told_by_its_letter_however_it_is_written(reference: str, answer: str) -> None:
    grader = Grader()
    assert grader.grade_both(reference, answer) == Verdicts(CORRECT, CORRECT)
    other = reference.replace("B", "D").replace("b", "d") if "textbf" not in reference else "\\textbf{(D)}"
    other = other.replace("\\doxed", "\\boxed")
    assert grader.grade_both(other, answer) == Verdicts(INCORRECT, INCORRECT)


@pytest.mark.parametrize(
    "answer", ["", "12", "B or C", "B, C", "(B) and (C)", "B/C", "not B", "A triangle", "F", "Because", "x = B", "BC"]
)
def test_where_no_single_letter_is_chosen_a_person_has_to_look(answer: str) -> None:
    assert chosen(answer) is None
    assert Grader().grade_both("B", answer) == Verdicts(UNKNOWN, INCORRECT)


@pytest.mark.parametrize("reference", ["", "F", "a", "AB", "A or B", "B. 12", "x", "12", "(F)", "A'", "ABC"])
def test_what_is_no_bare_letter_from_a_to_e_is_no_choice(reference: str) -> None:
    assert is_choice(reference) is None


# --- Plain numbers ---


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("11/2", "1 1/2", INCORRECT),
        ("3/2", "1 1/2", CORRECT),
        ("11/2", "1\\frac{1}{2}", INCORRECT),
        ("3/2", "1\\frac{1}{2}", CORRECT),
        ("3/2", "1 \\frac{1}{2}", CORRECT),
        ("-3/2", "-1\\frac12", None),
        ("-3/2", "-1 1/2", CORRECT),
        ("23", "2 3", None),
        ("1/2", "5/0", None),
        ("5", ".5", INCORRECT),
        ("0.5", "$.5$", CORRECT),
        ("-0.5", "-.5.", CORRECT),
        ("5", "5.", CORRECT),
    ],
)
def test_digits_apart_do_not_grow_together(reference: str, answer: str, verdict: Verdict | None) -> None:
    assert compare_plainly(reference, answer) is verdict


@given(st.integers(-9, 9), st.integers(1, 9), st.integers(1, 9))
def test_a_mixed_number_is_the_whole_and_the_part(whole: int, above: int, below: int) -> None:
    sign = "-" if whole < 0 else ""
    value = abs(whole) + Fraction(above, below)
    assert number(f"{sign}{abs(whole)} {above}/{below}") == (-value if whole < 0 else value)


# --- Units ---


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("3 feet", "3 inches"),
        ("5 m", "5 km"),
        ("3\\text{ m}", "3\\text{ km}"),
        ("3\\text{ m}", "3 km"),
        ("12\\text{ cm}", "12\\text{ cm}^2"),
        ("12 square feet", "12 cubic feet"),
        ("\\frac{1}{2} hour", "\\frac{1}{2} minutes"),
        ("\\sqrt{2}\\text{ m}", "\\sqrt{2}\\text{ km}"),
        ("\\$5", "5 cents"),
        ("$5", "5 cents"),
        ("50\\%", "50 degrees"),
        ("90^\\circ", "90\\%"),
        ("11_2", "11_3"),
        ("5 m/s", "5 km/h"),
        ("5 miles per hour", "5\\text{ m/s}"),
        ("(3 m, 4 s)", "(3 s, 4 m)"),
        ("23", "2 feet 3 inches"),
        ("6", "2 feet 3 inches"),
    ],
)
def test_different_units_are_never_the_same_answer(reference: str, answer: str) -> None:
    assert Grader().grade_both(reference, answer) == Verdicts(UNKNOWN, INCORRECT)
    assert Grader().grade_both(answer, reference) == Verdicts(UNKNOWN, INCORRECT)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("3", "3 feet"),
        ("3 ft", "3"),
        ("3 ft", "3 FEET"),
        ("5 m", "5\\text{ meters}"),
        ("12 cm^2", "12\\text{ square centimeters}"),
        ("12", "12\\mathrm{cm}^{2}"),
        ("\\frac{1}{2}", "\\frac{1}{2}\\text{ hours}"),
        ("3, 4", "3 feet, 4 feet"),
        ("5 km/h", "5 kilometers per hour"),
        ("5", "5\\text{ m/s}^2"),
        ("42", "42 apples"),
    ],
)
def test_a_unit_may_be_left_out_or_written_another_way(reference: str, answer: str) -> None:
    assert Grader().grade_both(reference, answer) == Verdicts(CORRECT, CORRECT)


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("5", "5 halves"),
        ("2", "2 thirds"),
        ("3", "3 factorial"),
        ("4", "4 and"),
        ("5", "5 billionths"),
        ("20", "20 dozens"),
        ("3000000", "3 million"),
        ("7", "7 plus or minus"),
    ],
)
def test_a_word_that_is_no_known_unit_may_change_the_number(reference: str, answer: str) -> None:
    assert Grader().grade_both(reference, answer) == Verdicts(UNKNOWN, INCORRECT)


@pytest.mark.parametrize(
    "answer",
    [
        "5m",
        "5m+3",
        "2 s^4",
        "2 cm^{2n}",
        "3 m + 1",
        "2ab",
        "\\frac{3m}{4}",
        "halfway",
        "5 mat",
        "5 wee\u212a",
        "5 \u017fecond",
    ],
)
def test_letters_that_may_be_unknowns_stay(answer: str) -> None:
    assert without_units(answer) == answer


# --- The conservative rules ---


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (" $29$. ", "29"),
        ("x = 5", "5"),
        ("1,234,567", "1234567"),
        ("5.00", "5"),
        ("2.50", "2.5"),
        (".5", "0.5"),
        ("-.50", "-0.5"),
        ("100", "100"),
        ("\\$5.00", "5"),
        ("50\\%", "50"),
        ("90^\\circ", "90"),
        ("90^{\\circ}", "90"),
        ("90 degrees", "90"),
        ("12 cm", "12"),
        ("12\\text{ cm}^2", "12"),
        ("12 square feet", "12"),
        ("5\\text{ apples}", "5"),
        ("3\\text{ million}", "3million"),
        ("\\text{Tuesday}", "tuesday"),
        ("\\dfrac{3}{4}", "3/4"),
        ("\\frac34", "3/4"),
        ("-\\tfrac{3}{4}", "-3/4"),
        ("2^\\frac{1}{2}", "2^\\frac{1}{2}"),
        ("\\frac{1}{2}x", "\\frac{1}{2}x"),
        ("1\\frac{1}{2}", "1 1/2"),
        ("\\sqrt3", "\\sqrt{3}"),
        ("x^{2}+1", "x^2+1"),
        ("\\left( 1, 2 \\right)", "(1,2)"),
        ("2 and 3", "2,3"),
        ("2, and 3", "2,3"),
        ("2 \\text{ or } 3", "2,3"),
        ("5m+3", "5m+3"),
        ("\u22125", "-5"),
    ],
)
def test_the_normal_form_drops_what_does_not_change_an_answer(answer: str, form: str) -> None:
    assert normal_form(answer) == form


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("29", "29", CORRECT),
        ("29", "30", INCORRECT),
        ("29", "x = 29", CORRECT),
        ("29", "\\boxed{29}", CORRECT),
        ("1000", "1,000", CORRECT),
        ("5", "5.0", CORRECT),
        ("5", "\\$5.00", CORRECT),
        ("50", "50\\%", CORRECT),
        ("0.5", "50\\%", INCORRECT),
        ("12", "12 \\text{ cm}", CORRECT),
        ("12", "12 zebras", INCORRECT),
        ("1/2", "0.5", CORRECT),
        ("5", ".5", INCORRECT),
        ("1/2", ".5", CORRECT),
        ("\\frac{1}{2}", "1/2", CORRECT),
        ("1/3", "0.3333", INCORRECT),
        ("3/2", "1 1/2", CORRECT),
        ("11/2", "1 1/2", INCORRECT),
        # in lowest terms only
        ("1/2", "2/4", INCORRECT),
        ("\\frac{1}{2}", "\\frac{2}{4}", INCORRECT),
        ("0.5", "2/4", INCORRECT),
        ("3/2", "1 2/4", INCORRECT),
        # an integer is written as one
        ("2", "4/2", INCORRECT),
        ("4", "\\sqrt{16}", INCORRECT),
        ("2", "1+1", INCORRECT),
        ("5", "\\frac{5}{1}", INCORRECT),
        # in order, within the same brackets, as many
        ("(1,2)", "(1, 2)", CORRECT),
        ("(1,2)", "(2,1)", INCORRECT),
        ("(1,2)", "(1,2,3)", INCORRECT),
        ("(1,2)", "1,2", INCORRECT),
        ("[0,1)", "(0,1)", INCORRECT),
        ("(1,\\frac{1}{2})", "(1.0, 0.5)", CORRECT),
        ("1, 2", "2, 1", INCORRECT),
        ("1, 2", "1 and 2", CORRECT),
        ("(1,2),(3,4)", "(1,2),(3,4.0)", CORRECT),
        # no sets, matrices, relations: equal text alone
        ("\\{1,2\\}", "\\{1, 2\\}", CORRECT),
        ("\\{1,2\\}", "\\{2,1\\}", INCORRECT),
        ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1\\\\4/2\\end{pmatrix}", INCORRECT),
        ("x<2", "2>x", INCORRECT),
        # too much for "simple"
        ("a+b+c", "c+b+a", INCORRECT),
        ("x^{10}", "x^{5}x^{5}", INCORRECT),
        ("2^{n+1}", "2\\cdot 2^n", INCORRECT),
        ("x^(1)", "xx", INCORRECT),
        ("9^9", "9^9^9^9", INCORRECT),
        ("Tuesday", "tuesday", CORRECT),
        ("Tuesday", "\\text{Tuesday}", CORRECT),
        ("X", "x", INCORRECT),
        ("1+\\sqrt{3}", "\\sqrt3+1", [("1+\\sqrt{3}", "\\sqrt{3}+1")]),
        ("(x+1)(x-1)", "x^{2}-1", [("(x+1)(x-1)", "x^2-1")]),
        ("(1,\\pi)", "(1,\\pi\\cdot1)", [("\\pi", "\\pi\\cdot1")]),
        ("", "", INCORRECT),
        (" ", " ", INCORRECT),
        ("5", "", INCORRECT),
        ("5", "5/0", INCORRECT),
        ("5", "1" * (MAX_ANSWER_CHARS + 1), UNKNOWN),
        ("y" * 10**6, "y" * 10**6, CORRECT),
    ],
)
def test_correct_is_what_is_plainly_equal_and_only_simple_mathematics_is_asked_about(
    reference: str, answer: str, verdict: Verdict | list[tuple[str, str]]
) -> None:
    assert compare_conservatively(reference, answer) == verdict


SHARED = Path(__file__).parents[3] / "shared" / "data"


def share_of_each(name: str) -> dict[tuple[bool, Verdict | None, Verdict | None], float]:
    """Over the rows whose final answer is known to be right or wrong: how often the truth meets the verdicts."""
    rows = [json.loads(line) for line in (SHARED / f"{name}.jsonl").read_text().splitlines()]
    found: Counter[tuple[bool, Verdict | None, Verdict | None]] = Counter()
    for row in rows:
        if row["final_answer_correct"] is not None and row["ground_truth_answer"]:
            pair = (row["ground_truth_answer"], final_answer_of(row["steps"][-1]) or "")
            second = compare_conservatively(*pair)
            verdicts = (compare_plainly(*pair), second if isinstance(second, Verdict) else None)
            found[(row["final_answer_correct"], *verdicts)] += 1
    return {key: count / found.total() for key, count in found.items()}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs real solutions beside the repository")
@pytest.mark.parametrize(
    ("name", "known"),
    [("gsm8k_model_solutions", 0.999), ("mr_ben_math", 0.96), ("mr_ben_chemistry", 0.96), ("mr_ben_physics", 0.96)],
)
def test_on_real_solutions_nearly_all_answers_are_told_and_hardly_one_wrongly(name: str, known: float) -> None:
    shares = share_of_each(name)
    right = shares.get((True, CORRECT, CORRECT), 0) + shares.get((False, INCORRECT, INCORRECT), 0)
    wrong = sum(shares.get((truth, told, told), 0) for truth, told in ((True, INCORRECT), (False, CORRECT)))
    assert right >= known
    assert wrong <= 0.006  # some rows of the source itself were read wrongly


def test_both_verdicts_are_kept_and_disagreement_shows() -> None:
    verdicts = Grader().grade_both("1/2", "2/4")
    assert verdicts == Verdicts(math_verify=CORRECT, conservative=INCORRECT)
    assert not verdicts.agree
    assert Grader().grade_both("1/2", "0.5").agree


HOSTILE = [
    "9**9**9**9",
    "9^9^9^9",
    "9^{9^{9^{9}}}",
    "10^{10^{10}}",
    "((((9!)!)!)!)!",
    "__import__('os').system('id')",
    "{" * 5000 + "}" * 5000,
    "\\frac{" * 150,
    "(" * 900,
    "," * 900,
    " " * 999,
    "\\text{" * 160,
    "1" * 999,
    "." * 999,
    "0." + "0" * 990 + "1",
    "and " * 240,
    "\x00",
    "5\x00",
    "\ud800",
    "x" * 10**6,
    "1 " * 499,
    "٣",
    "²",
    "\n\r\t\v\u2028",
]


@pytest.mark.parametrize("left", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_compared_in_no_time(left: str) -> None:
    started = time.process_time()
    for right in [*HOSTILE, "5", "(1,2)", "B"]:
        for reference, answer in ((left, right), (right, left)):
            verdicts = compare_plainly(reference, answer), compare_conservatively(reference, answer)
            assert left == right or CORRECT not in verdicts
    assert time.process_time() - started < 5


@given(st.text(alphabet="\\frac{}()[],.^+-*/!$% xyandBE0159\x00'_=", max_size=80), st.text(max_size=30))
def test_every_pair_of_texts_gets_a_verdict_or_a_question_and_a_text_equals_itself(left: str, right: str) -> None:
    for pair in ((left, right), (right, left), (left, left)):
        assert compare_plainly(*pair) in (None, *Verdict)
        found = compare_conservatively(*pair)
        assert isinstance(found, Verdict) or all(len(element) == 2 for element in found)
    assert not left.strip() or compare_conservatively(left, left) is CORRECT
