from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import islice
from typing import Any

import pytest

from prm_backend.synthetic import generate_rows

SUMS = re.compile(r"\$(\d+) (\+|-|/|\\times) (\d+) = (\d+)\$")


@pytest.fixture(scope="module")
def rows() -> list[Any]:
    return list(generate_rows(seed=1))


def holds(first: str, sign: str, second: str, result: str) -> bool:
    a, b = int(first), int(second)
    return {"+": a + b, "-": a - b, "/": a / b, r"\times": a * b}[sign] == int(result)


def test_rows_are_reproducible_and_differ_by_seed(rows: list[Any]) -> None:
    assert list(islice(generate_rows(seed=1), 50)) == rows[:50]
    assert list(islice(generate_rows(seed=2), 50)) != rows[:50]


def test_four_thousand_distinct_problems_with_two_solutions_each(rows: list[Any]) -> None:
    assert set(Counter(row["problem"] for row in rows).values()) == {2}
    assert len({row["problem"] for row in rows}) == 4000
    assert len({row["id"] for row in rows}) == 8000


def test_judging_stops_at_the_first_error(rows: list[Any]) -> None:
    for row in rows:
        ratings = row["ratings"]
        assert len(ratings) == len(row["steps"])
        judged = [rating for rating in ratings if rating is not None]
        assert ratings == judged + [None] * (len(ratings) - len(judged))
        assert -1 not in judged[:-1]
        assert (
            (row["error_category"] is None) == (-1 not in ratings) == (len(judged) == len(ratings) and judged[-1] != -1)
        )


def test_a_right_solution_states_the_reference_answer_and_computes_correctly(rows: list[Any]) -> None:
    for row in rows:
        if row["error_category"] is None:
            assert row["final_answer_correct"]
            assert re.findall(r"\d+", row["steps"][-1]) == [row["ground_truth_answer"]]
            assert all(holds(*found) for step in row["steps"] for found in SUMS.findall(step))


def test_slips_are_wrong_sums_and_misreadings_are_right_sums_of_the_wrong_thing(rows: list[Any]) -> None:
    for row in rows:
        if row["error_category"] is None:
            continue
        found = SUMS.findall(row["steps"][row["ratings"].index(-1)])
        if row["error_category"] in ("slip", "two_errors"):
            assert not all(holds(*sums) for sums in found)
        elif row["error_category"].startswith("misread"):
            assert all(holds(*sums) for sums in found)


def test_about_half_of_the_solutions_are_wrong_in_many_ways(rows: list[Any]) -> None:
    kinds = Counter(row["error_category"] for row in rows)
    assert 0.4 < 1 - kinds.pop(None) / len(rows) < 0.6
    assert len(kinds) == 10
    assert min(kinds.values()) >= 50


def test_some_right_answers_come_from_two_errors(rows: list[Any]) -> None:
    assert any(row["final_answer_correct"] for row in rows if row["error_category"] == "two_errors")


def test_neutral_steps_compute_nothing(rows: list[Any]) -> None:
    neutral = [s for row in rows for s, r in zip(row["steps"], row["ratings"], strict=True) if r == 0]
    assert len(neutral) > 1000
    assert not any("=" in step for step in neutral)


def test_generating_needs_neither_torch_nor_numpy() -> None:
    code = "import sys, prm_backend.synthetic; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_follow_ups_change_nothing_else(rows: list[Any]) -> None:
    offered = {"alternatives", "critiques"}
    with_follow_ups = list(islice(generate_rows(seed=1, with_follow_ups=True), 500))
    assert [{key: row[key] for key in row.keys() - offered} for row in with_follow_ups] == rows[:500]
    assert with_follow_ups == list(islice(generate_rows(seed=1, with_follow_ups=True), 500))


def test_the_first_error_has_alternatives_and_critiques_and_no_other_step_has() -> None:
    categories = set()
    for row in islice(generate_rows(seed=1, with_follow_ups=True), 2000):
        if row["error_category"] is None:
            assert "alternatives" not in row
            continue
        categories.add(row["error_category"])
        steps: Any = row["steps"]
        ratings: Any = row["ratings"]
        alternatives: Any = row["alternatives"]
        critiques: Any = row["critiques"]
        error = ratings.index(-1)
        assert len(alternatives) == len(critiques) == len(steps)
        assert [index for index, offers in enumerate(alternatives) if offers] == [error]
        assert [index for index, offers in enumerate(critiques) if offers] == [error]
        assert steps[error] not in alternatives[error]
        assert len(set(alternatives[error])) == len(alternatives[error]) <= 2
        assert len(set(critiques[error])) == 2
    assert len(categories) == 10


def test_one_alternative_of_a_wrong_sum_is_right() -> None:
    for row in islice(generate_rows(seed=1, with_follow_ups=True), 2000):
        if row["error_category"] in ("slip", "wrong_number", "misread_bags"):
            ratings: Any = row["ratings"]
            alternatives: Any = row["alternatives"]
            right = [all(holds(*sums) for sums in SUMS.findall(text)) for text in alternatives[ratings.index(-1)]]
            assert right.count(True) == 1
