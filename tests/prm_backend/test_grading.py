from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import prm_backend.grading.grader as grading_process
from prm_backend.errors import Cancelled
from prm_backend.grading import (
    MAX_ANSWER_CHARS,
    Grader,
    GradingError,
    Verdict,
    Verdicts,
    final_answer_of,
    grade,
)
from prm_backend.grading.verdicts import Question
from prm_backend.types import Progress

CORRECT, INCORRECT, UNKNOWN = Verdict.CORRECT, Verdict.INCORRECT, Verdict.UNKNOWN
HANGS = ("9^{9^{9^{9}}}", "5")  # no interpreter lock, no signal handler gets through this


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader


@pytest.fixture
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("So one pencil costs 29.\n\n# Answer\n\n29", "29"),
        ("The answer is 3, or \\boxed{4}.\n\n# Answer\n\n5", "5"),
        ("# Answer\n\n5\n\nNo, wait.\n\n# Answer\n\n\\frac{1}{2}\n", "\\frac{1}{2}"),
        ("First \\boxed{1}, but the answer is 3: \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1 \\text{ or } \\sqrt{2}} it is.", "1 \\text{ or } \\sqrt{2}"),
        ("The answer is 6. So the answer is $x = 7$. Done, 8 steps.", "x = 7"),
        ("**Answer: 3.5**", "3.5"),
        ("The final answer is \\(\\frac{3}{4}\\).", "\\frac{3}{4}"),
        ("So the answer is (B).", "(B)"),
        ("He pays 3 times $1,200.50.", "1,200.50"),
        ("10-3 = 7 and then -12", "-12"),
        ("Solution: Choice_B", "B"),
        ("Solution: Choice_B 24", "B"),
        ("Solution: Choice B - 0.25 J", "B"),
        ("Solution: choice (B): 12 cm", "(B)"),
        ("We choose **option B**.", "B"),
        ("So option B is correct, which makes 12.", "B"),
        ("Solution: Choice_C\nConfidence: 95%", "C"),
        ("Solution: one of Choice_A/B/C, so 12", "12"),
        ("Option B costs 12", "12"),
        ("There are 2 options: A, which costs 3, and B, 4", "4"),
        ("The correct answer is Choice_C: 4/3 V.", "Choice_C: 4/3 V"),
        ("So the answer is .5.", ".5"),
        ("It costs .5", ".5"),
        ("It costs -.25 in all", "-.25"),
        ("in short:5", "5"),
        ("the end.5", "5"),
        ("It takes 2+1=<<2+1=3>>3 bolts", "3"),
        ("\\boxed{never closed, 4", "4"),
        # a formula is taken whole
        ("So the probability is $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("Hence $x^2+2$.", "x^2+2"),
        ("Hence $x = .5$.", ".5"),
        ("Thus we get $3\\sqrt{2}$", "3\\sqrt{2}"),
        ("So $f(x) = x^2+2$.", "x^2+2"),
        ("So \\(f(x) = x^2+2.\\)", "x^2+2"),
        ("Hence\n$$a = b = \\frac{3}{4}$$", "\\frac{3}{4}"),
        ("Hence\n\\[\n\\sum_{i=1}^{3} i = 6.\n\\]\n", "6"),
        ("In all $\\sum_{i=1}^{n} i$", "\\sum_{i=1}^{n} i"),
        ("It costs $\\$5.50$", "\\$5.50"),
        ("With $n = 3$ trucks he pays 12 dollars.", "12"),
        ("So it takes 12 steps for the triangle $ABC$ and for any $n$.", "12"),
        ("He pays $5 or $7, never $9", "9"),
        ("He pays $5/$7", "7"),
        ("So it is $x$.", None),
        ("# Answer\n\n", None),
        ("We do not know.", None),
        ("", None),
    ],
)
def test_the_final_answer_is_taken_from_the_clearest_statement(step: str, answer: str | None) -> None:
    assert final_answer_of(step) == answer


@given(st.text(alphabet="\\boxed{}# Answer is:$1.,-\n", max_size=200))
def test_every_text_has_a_final_answer_that_is_part_of_it_or_none(step: str) -> None:
    answer = final_answer_of(step)
    assert answer is None or (answer != "" and answer in step)


def test_a_huge_step_is_read_quickly() -> None:
    started = time.process_time()
    for step in (
        "{" * 10**6,
        "answer is " * 10**5,
        "\\boxed{" * 10**5,
        "1," * 10**6,
        "\n" * 10**6,
        "$1" * 10**5,
        "\\(" * 10**5,
    ):
        final_answer_of(step)
    assert time.process_time() - started < 2


@pytest.mark.usefixtures("no_process")
@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("29", "29", CORRECT),
        ("29", "30", INCORRECT),
        ("29", " $29$. ", CORRECT),
        ("1,000", "1000.00", CORRECT),
        ("40,\\!000", "40000", CORRECT),
        ("\\dfrac{3}{4}", "0.75", CORRECT),
        ("-\\frac{1}{2}", "-1/2", CORRECT),
        ("\\text{Tuesday}", "Tuesday", CORRECT),
        ("\\left( 1, 2 \\right)", "(1,2)", CORRECT),
        ("\\boxed{5}", "5", CORRECT),
        ("42", "42 apples", CORRECT),
        ("42", "33 apples", INCORRECT),
        ("5", "", UNKNOWN),
        ("", "", UNKNOWN),
        (" ", " ", UNKNOWN),
        ("5", "1" * (MAX_ANSWER_CHARS + 1), UNKNOWN),
        ("5", "x" * 10**6, UNKNOWN),
        ("x" * 10**6, "x" * 10**6, CORRECT),
    ],
)
def test_equal_text_and_plain_numbers_need_no_computer_algebra(reference: str, answer: str, verdict: Verdict) -> None:
    assert Grader().grade(reference, answer) is verdict


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("1+2\\sqrt{3}", "2\\sqrt{3} + 1", CORRECT),
        ("x^2+2x+1", "(x+1)^2", CORRECT),
        ("8, 3, 1", "1, 3, 8", CORRECT),
        ("29", "x = 29", CORRECT),
        ("29", "29 cents", CORRECT),
        ("3R^2", "a^2 + b^2 + c^2 - 12R^2", INCORRECT),
        ("[0,1)", "(0,1)", INCORRECT),
        ("5", "\\infty", INCORRECT),
        ("D", "B", INCORRECT),
        ("] }", "}", UNKNOWN),
        ("5", "5m", INCORRECT),
        ("5m", "5", INCORRECT),
        ("5", "5\\text{ dozens}", INCORRECT),
        ("\\sqrt{2}", "\\sqrt{2}\\text{ halves}", INCORRECT),
        ("2\\sqrt{2}\\text{ m}", "\\sqrt{8}\\text{ meters}", CORRECT),
        ("\\sqrt{8}", "2\\sqrt{2} cm", CORRECT),
        ("5", "3/0", INCORRECT),
    ],
)
def test_other_forms_of_the_same_answer_are_told_by_computer_algebra(
    grader: Grader, reference: str, answer: str, verdict: Verdict
) -> None:
    assert grader.grade(reference, answer) is verdict


@pytest.mark.parametrize(
    ("reference", "answer", "verdict"),
    [
        ("1+\\sqrt{3}", "\\sqrt3+1", CORRECT),
        ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}", CORRECT),
        ("(x+1)(x-1)", "x^{2}-1", CORRECT),
        ("\\frac{1}{2}x", "\\frac{x}{2}", CORRECT),
        ("(1, 2\\pi)", "(1.0, \\pi+\\pi)", CORRECT),
        ("(1, 2\\pi)", "(1.0, \\pi)", INCORRECT),
        ("x+y", "y-x", INCORRECT),
        ("X", "x", INCORRECT),
        ("\\pi", "3.14159", INCORRECT),
        ("x+1", "x+", INCORRECT),
        ("x+1", "\\frac{x", INCORRECT),
        ("x+1", "x/0", INCORRECT),
    ],
)
def test_the_conservative_verdict_knows_simple_mathematics(
    grader: Grader, reference: str, answer: str, verdict: Verdict
) -> None:
    assert grader.grade_conservatively(reference, answer) is verdict


def test_two_verdicts_may_disagree(grader: Grader) -> None:
    assert grader.grade_both("8, 3, 1", "1, 3, 8") == Verdicts(math_verify=CORRECT, conservative=INCORRECT)
    assert grader.grade_both("a+b+c", "c+b+a") == Verdicts(math_verify=CORRECT, conservative=INCORRECT)
    seen: list[Progress] = []
    pairs = [("4", "\\sqrt{16}"), ("x+1", "1+x")] * 2
    found = grader.grade_both_many(pairs, seen.append)
    assert [verdicts.agree for verdicts in found] == [False, True] * 2
    assert (seen[-1].done, seen[-1].total) == (4, 4)


def test_one_answer_may_be_graded_without_ceremony() -> None:
    assert grade("5", "5.0") == Verdicts(CORRECT, CORRECT)


@pytest.mark.slow
@pytest.mark.parametrize("question", Question)
def test_the_process_itself_survives_or_comes_back_whatever_it_is_asked(question: Question, tmp_path: Path) -> None:
    """Asked past the cheap comparisons and the guards before it."""
    trace = tmp_path / "trace"
    hostile = [
        "9^{9^{9^{9}}}",
        "9**9**9**9",
        "10^{10^{10}}",
        "((((9!)!)!)!)!",
        "\\binom{10^9}{5 \\cdot 10^8}",
        f"__import__('os').system('touch {trace}')",
        f"\\text{{__import__('os').system('touch {trace}')}}",
        "{" * 3000 + "}" * 3000,
        "(" * 3000 + ")" * 3000,
        "x" * 10**6,
        "5\x00",
        "\ud800",
        "\n",
    ]
    with Grader(limit_s=1.0, memory_bytes=1 << 29) as grader:
        for text in hostile:
            grader._ask(question, "x+1", "1+x")  # the clock below runs without the start
            started = time.monotonic()
            assert grader._ask(question, "x+5", text) is not CORRECT, text[:40]
            assert time.monotonic() - started < 4, text[:40]
        assert grader._ask(question, "x+1", "1+x") is CORRECT
    assert not trace.exists()


def test_hostile_answers_are_not_correct_and_nothing_in_them_runs(grader: Grader, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    hostile = [
        "9**9**9**9",
        "((9!)!)!",
        "\x00",
        f"__import__('os').system('touch {trace}')",
        f"\\text{{__import__('os').system('touch {trace}')}}",
        f"exec(\"open('{trace}','w')\")",
        "().__class__.__bases__[0].__subclasses__()",
        "{" * 200 + "}" * 200,
        "\\frac{" * 100,
        "\\begin{pmatrix}",
        "\ud800",
        "a\nb\r\nc",
        '"]\n["5", "5"]',
    ]
    started = time.monotonic()
    found = grader.grade_both_many([("5", answer) for answer in hostile])
    assert not [verdicts for verdicts in found if CORRECT in (verdicts.math_verify, verdicts.conservative)]
    assert time.monotonic() - started < 8 * len(hostile)
    assert not trace.exists()
    assert grader.grade("5", "x = 5") is CORRECT


def test_an_answer_that_never_ends_is_unknown_in_time_and_the_next_one_is_graded() -> None:
    with Grader(limit_s=2.0) as grader:
        grader.grade("5", "x = 5")  # the clock runs without the start
        started = time.monotonic()
        assert grader.grade(*HANGS) is UNKNOWN
        assert time.monotonic() - started < 5
        assert grader.grade("5", "y = 5") is CORRECT


def test_threads_may_share_a_grader(grader: Grader) -> None:
    with ThreadPoolExecutor(4) as pool:
        verdicts = pool.map(lambda n: grader.grade(str(n), f"x = {n - n % 2}"), range(12))
    assert list(verdicts) == [CORRECT, INCORRECT] * 6


def test_a_worker_killed_from_outside_is_replaced(grader: Grader) -> None:
    grader.grade("5", "x = 5")
    assert grader._process is not None
    grader._process.kill()
    grader._process.wait()
    assert grader.grade("5", "x = 5") is CORRECT


@pytest.mark.parametrize("lines_read", [0, 1], ids=["while the process starts", "while it thinks"])
def test_an_interrupted_question_leaves_no_reply_behind_for_the_next(
    lines_read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = grading_process._read_line, iter(range(9))

    def interrupted(process: subprocess.Popen[bytes], limit_s: float) -> str:
        if next(calls) == lines_read:
            raise KeyboardInterrupt
        return read(process, limit_s)

    monkeypatch.setattr(grading_process, "_read_line", interrupted)
    with Grader() as grader:
        with pytest.raises(KeyboardInterrupt):
            grader.grade("x+1", "1+x")
        assert grader.grade("\\sqrt{3}", "\\sqrt{5}") is INCORRECT
        assert grader.grade("5", "x = 5") is CORRECT


def test_equal_pairs_are_graded_once_and_progress_may_cancel(grader: Grader, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(_question: str, _reference: str, answer: str) -> Verdict:
        asked.append(answer)
        return CORRECT

    monkeypatch.setattr(grader, "_ask", ask)
    seen: list[Progress] = []
    assert grader.grade_many([("5", "x = 5")] * 3 + [("5", "6")], seen.append) == [CORRECT] * 3 + [INCORRECT]
    assert asked == ["x = 5"]
    assert [(p.done, p.total) for p in seen] == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]

    def cancel(progress: Progress) -> None:
        if progress.done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        grader.grade_many([("5", "5")] * 3, cancel)


def test_a_process_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(GradingError, match="did not start"):
        Grader().grade("5", "x = 5")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc")
def test_the_process_inherits_no_sockets_and_no_secrets_and_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    with socket.socket() as listening, Grader(memory_bytes=1 << 30) as grader:
        listening.bind(("127.0.0.1", 0))
        listening.set_inheritable(True)
        grader.grade("5", "x = 5")
        assert grader._process is not None
        process = Path(f"/proc/{grader._process.pid}")
        assert not [fd for fd in (process / "fd").iterdir() if "socket:" in os.readlink(fd)]
        assert b"hunter2" not in (process / "environ").read_bytes()
        limits = {line[:26].strip(): line[26:].split() for line in (process / "limits").read_text().splitlines()}
        assert limits["Max address space"][:2] == [str(1 << 30)] * 2
        assert limits["Max file size"][:2] == ["0", "0"]
        assert int(limits["Max cpu time"][0]) < 60


def _grade_in_child(verdicts: SimpleQueue[str]) -> None:
    with Grader() as grader:
        verdicts.put(grader.grade("5", "x = 5"))


def test_a_daemonic_process_may_grade_as_celery_workers_are() -> None:
    spawn = multiprocessing.get_context("spawn")
    verdicts: SimpleQueue[str] = spawn.SimpleQueue()
    child = spawn.Process(target=_grade_in_child, args=(verdicts,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert verdicts.get() == CORRECT


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_the_process_dies_with_its_parent_even_in_the_middle_of_an_answer() -> None:
    program = (
        "import os, signal, threading\n"
        "from prm_backend.grading import Grader\n"
        "grader = Grader(limit_s=1.0)\n"
        "grader.grade('5', 'x = 5')\n"
        "print(grader._process.pid, flush=True)\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()\n"
        f"grader.grade(*{HANGS!r})\n"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root, check=False)
    stat = Path(f"/proc/{int(parent.stdout)}/stat")
    deadline = time.monotonic() + 15
    while _alive(stat):
        assert time.monotonic() < deadline, "the grading process outlived its parent"
        time.sleep(0.1)


def _alive(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
