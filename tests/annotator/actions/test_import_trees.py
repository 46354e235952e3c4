"""What stands beside the steps when a file comes in: alternatives, critiques, images; and the trees that phase 1 starts
from."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.actions.attachments import image_file
from annotator.actions.imports import oracle_file, undo_import
from annotator.dispatch import run_here
from annotator.models import Attachment, Campaign, Completion, Critique, ImportRun, Labeling, Problem, Solution
from annotator.queries.pool import eligible_solutions, ready_solutions, visible_solutions
from tests.annotator.cast import import_rows, make_campaign, make_user, problem_texts, simple_row

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
GIF = b"GIF89a\1\0\1\0"


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


@pytest.fixture
def phase_1() -> Campaign:
    return make_campaign("trees", phase=1)


def image(content: bytes, name: str = "figure") -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(content).decode()}


def tree(solution: Solution) -> list[tuple[int, int, str, str | None]]:
    """Step, place among the candidates there, text, and the text that it continues."""
    rows = Completion.objects.filter(solution=solution).select_related("parent")
    return [
        (row.step_index, row.completion_index, row.text, row.parent.text if row.parent else None)
        for row in rows.order_by("step_index", "completion_index")
    ]


def undo(run: ImportRun) -> None:
    run_here(undo_import(run, actor=make_user("mia"), wake=False))


def prm800k_row(steps: list[dict[str, Any]], problem: str = "What is 2+2?") -> dict[str, Any]:
    """A phase 1 record."""
    return {
        "labeler": "someone",
        "timestamp": "2022-11-22T16:51:29.980606",
        "generation": None,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {"problem": problem, "ground_truth_answer": "4"},
        "label": {"steps": steps, "total_time": 1, "finish_reason": "solution"},
    }


def step(candidates: dict[str, int] | None, chosen: int | None, human: str | None = None) -> dict[str, Any]:
    return {
        "completions": candidates
        and [{"text": text, "rating": rating, "flagged": False} for text, rating in candidates.items()],
        "human_completion": human and {"text": human, "rating": None, "source": "human", "flagged": False},
        "chosen_completion": chosen,
    }


WALK = [
    step({"A.": -1, "B.": 1}, 1),
    step({"C.": 1}, 0),
    step({"D.": -1, "E.": 0}, None, "Mine."),
    step({"F.": 1}, 0),
]


def test_alternatives_are_siblings_of_their_step_and_critiques_hang_on_it(campaign: Campaign) -> None:
    row = simple_row(
        "A?", ["One.", "Two."], alternatives=[["Uno."], ["Zwei.", "Two."]], critiques=[None, ["Wrong.", "Late."]]
    )
    run = import_rows(campaign, [row])
    assert tree(Solution.objects.get()) == [
        (0, 0, "One.", None),
        (0, 1, "Uno.", None),
        (1, 0, "Two.", "One."),
        (1, 1, "Zwei.", "One."),
        (1, 2, "Two.", "One."),
    ]
    assert [
        (c.completion.text, c.completion.completion_index, c.text) for c in Critique.objects.order_by("position")
    ] == [
        ("Two.", 0, "Wrong."),
        ("Two.", 0, "Late."),
    ]
    assert (run.report["alternatives"], run.report["critiques"]) == (3, 2)
    undo(run)
    assert not Critique.objects.exists()
    assert not Completion.objects.exists()


def test_a_repeated_solution_keeps_what_it_came_with_and_the_report_says_so(campaign: Campaign) -> None:
    import_rows(campaign, [simple_row("A?", ["One."], alternatives=[["Uno."]])])
    before = Solution.objects.get().digest
    run = import_rows(campaign, [simple_row("A?", ["One."], alternatives=[["Une."]], critiques=[["No."]])])
    assert (run.report["solutions"], run.report["repeats"], run.report["not_added"]) == (0, 1, 1)
    assert [text for _, _, text, _ in tree(Solution.objects.get())] == ["One.", "Uno."]
    assert Solution.objects.get().digest == before
    assert not Critique.objects.exists()


def test_labelings_find_the_alternatives_that_came_with_the_solution(campaign: Campaign) -> None:
    import_rows(
        campaign, [simple_row("What is 2+2?", ["One."], alternatives=[["Uno."]]) | {"ground_truth_answer": "4"}]
    )
    row = prm800k_row([step({"One.": -1, "Uno.": 1, "New.": 0}, None)])
    row["question"] |= {"ground_truth_solution": None, "pre_generated_steps": ["One."], "pre_generated_answer": None}
    row["question"] |= {"pre_generated_verifier_score": None}
    import_rows(campaign, [row])
    assert [text for _, _, text, _ in tree(Solution.objects.get())] == ["One.", "Uno.", "New."]


def test_images_are_kept_by_content_and_are_part_of_the_problem(campaign: Campaign) -> None:
    rows = [
        simple_row("What is shown?", ["One."], attachments=[image(PNG, "a"), image(GIF, "b")]),
        simple_row("What is shown?", ["Two."], attachments=[image(PNG, "a"), image(GIF, "b")]),
        simple_row("What is shown?", ["One."], attachments=[image(GIF)]),
        simple_row("What is shown?", ["One."]),
    ]
    run = import_rows(campaign, rows)
    assert (run.report["problems"], run.report["solutions"], run.report["images"]) == (3, 4, 3)
    first = Problem.objects.order_by("id").first()
    assert first is not None
    assert [(row.name, row.content_type, row.sha256) for row in first.attachments.all()] == [
        ("a", "image/png", hashlib.sha256(PNG).hexdigest()),
        ("b", "image/gif", hashlib.sha256(GIF).hexdigest()),
    ]
    for content in (PNG, GIF):
        assert image_file(hashlib.sha256(content).hexdigest()).read_bytes() == content
    assert not [file for file in image_file("x").parent.iterdir() if file.name.startswith(".")]
    assert len(set(Problem.objects.values_list("text_key", "split"))) == 1
    undo(run)
    assert not Attachment.objects.exists()
    assert image_file(hashlib.sha256(PNG).hexdigest()).exists()


def test_many_large_images_are_written_in_small_chunks(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotator.actions.imports.CHUNK_BYTES", 3 * len(PNG))
    run = import_rows(campaign, [simple_row(f"P{n}?", attachments=[image(PNG), image(GIF)]) for n in range(7)])
    assert (run.state, run.report["rows"], Attachment.objects.count()) == ("done", 7, 14)


def test_a_bare_problem_is_refused_in_phase_2_with_its_line(campaign: Campaign) -> None:
    run = import_rows(campaign, [simple_row("A?"), {"problem": "B?"}])
    assert run.state == "failed"
    assert "line 2, field steps" in run.error
    assert "phase 1" in run.error
    assert not Problem.objects.exists()


def test_in_phase_1_simple_rows_are_trees_of_candidates(phase_1: Campaign) -> None:
    rows = [
        simple_row("A?", ["One.", "Two."], alternatives=[["Uno."], None]),
        simple_row("A?", ["One.", "Two."]),
        {"problem": "A?", "ground_truth_answer": "2"},
    ]
    run = import_rows(phase_1, [*rows, rows[0], rows[2]])
    assert (run.report["problems"], run.report["solutions"], run.report["repeats"]) == (1, 3, 2)
    grown, chain, bare = Solution.objects.order_by("id")
    assert {solution.phase for solution in (grown, chain, bare)} == {1}
    assert tree(grown) == [(0, 0, "One.", None), (0, 1, "Uno.", None), (1, 0, "Two.", "One.")]
    assert [solution.step_count for solution in (grown, chain, bare)] == [2, 2, 0]
    assert tree(bare) == []
    assert visible_solutions(phase_1).count() == 3
    assert not ready_solutions(phase_1).exists()


def test_an_oracle_knows_the_trees_by_their_digest(phase_1: Campaign) -> None:
    run = import_rows(
        phase_1, [simple_row("A?", alternatives=[["b"], None, None], ratings=[1, 0, -1])], labels="oracle"
    )
    assert json.loads(oracle_file(run).read_text())["solution"] == Solution.objects.get().digest


def test_step_labels_imported_as_labelings_judge_a_ready_solution_whatever_the_campaign(phase_1: Campaign) -> None:
    text = problem_texts("train", 1)[0]
    import_rows(phase_1, [simple_row(text, ratings=[1, 1, -1]), simple_row(text, ["Unjudged."])], labels="labelings")
    assert list(Solution.objects.order_by("id").values_list("phase", flat=True)) == [2, 1]
    assert Labeling.objects.get().finish_reason == "found_error"
    assert visible_solutions(phase_1).get().step_count == 1


def test_a_phase_1_labeling_without_its_labels_is_a_tree_to_serve(phase_1: Campaign) -> None:
    text = problem_texts("train", 1)[0]
    run = import_rows(phase_1, [prm800k_row(WALK, text)], labels="ignore")
    assert run.state == "done"
    # It ends where the labeler went on with a step of their own: nobody else can follow.
    assert tree(Solution.objects.get()) == [
        (0, 0, "A.", None),
        (0, 1, "B.", None),
        (1, 0, "C.", "B."),
        (2, 0, "D.", "C."),
        (2, 1, "E.", "C."),
    ]
    assert not Labeling.objects.exists()
    assert eligible_solutions(phase_1, Problem.SplitName.TRAIN).count() == 1


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_tree_of_an_imported_phase_1_labeling_is_served_to_nobody(phase_1: Campaign, split: str) -> None:
    text = problem_texts(split, 1)[0]
    given_up = prm800k_row([step(None, None)], text)
    given_up["label"]["finish_reason"] = "give_up"
    run = import_rows(phase_1, [prm800k_row(WALK, text), given_up])
    assert run.report["labelings"] == 2
    assert visible_solutions(phase_1).count() == 2
    assert not eligible_solutions(phase_1, Problem.SplitName(split)).exists()


def test_both_phases_can_be_imported_anywhere_but_only_the_campaigns_is_served(
    campaign: Campaign, phase_1: Campaign
) -> None:
    phase_2_row = prm800k_row([step({"One.": -1}, None)])
    phase_2_row["question"]["pre_generated_steps"] = ["One.", "Two."]
    for place in (campaign, phase_1):
        run = import_rows(place, [prm800k_row(WALK), phase_2_row], labels="ignore")
        assert (run.state, run.report["solutions"]) == ("done", 2)
    assert visible_solutions(campaign).get().phase == 2
    assert visible_solutions(phase_1).get().phase == 1
    assert ready_solutions(phase_1).get().phase == 2


levels = st.lists(st.tuples(st.text("ab"), st.lists(st.text("ab"), max_size=3)), max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(phase=st.sampled_from([1, 2]), trees=st.lists(levels.filter(bool), min_size=1, max_size=3))
def test_whatever_stands_beside_the_steps_is_in_the_tree(
    db: None, phase: int, trees: list[list[tuple[str, list[str]]]]
) -> None:
    campaign = make_campaign(f"tree-{Campaign.objects.count()}", phase=phase)
    rows = [
        simple_row(f"P{number}?", [text for text, _ in steps], alternatives=[beside for _, beside in steps])
        for number, steps in enumerate(trees)
    ]
    assert import_rows(campaign, rows).state == "done"
    for number, steps in enumerate(trees):
        expected, parent = [], None
        for depth, (text, beside) in enumerate(steps):
            expected += [(depth, index, sibling, parent) for index, sibling in enumerate([text, *beside])]
            parent = text
        assert tree(Solution.objects.get(campaign=campaign, problem__text=f"P{number}?")) == expected
