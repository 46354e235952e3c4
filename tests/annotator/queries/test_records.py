"""Labelings made here in PRM800K's words: each way in which one can end, and what stays at home."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annotator.actions.datasets import export_lines, request_dataset
from annotator.dispatch import run_here
from annotator.models import Campaign, Completion, DatasetVersion, Labeling, LabelingStep, Problem, Solution
from tests.annotator.cast import import_file, make_campaign
from tests.annotator.rows import completion_of, labeler_in, labeling_of, one_solution, rate, walk, write_step

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


@pytest.fixture
def phase_1() -> Campaign:
    return make_campaign("trees", phase=1)


def version_of(campaign: Campaign, **options: bool) -> DatasetVersion:
    job = run_here(request_dataset(campaign, actor=None, wake=False, **options))
    assert job.state == "done", job.error
    return DatasetVersion.objects.get(campaign=campaign, number=job.result["number"])


def records(campaign: Campaign, **options: bool) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(version_of(campaign, **options))]


def said(text: str, rating: int | None, flagged: bool | None = None) -> dict[str, Any]:
    return {"text": text, "rating": rating, "flagged": flagged}


def step(completions: list[dict[str, Any]] | None, chosen: int | None, human: str | None = None) -> dict[str, Any]:
    return {
        "completions": completions,
        "human_completion": human and {"text": human, "rating": None, "source": "human", "flagged": False},
        "chosen_completion": chosen,
    }


def comes_back(campaign: Campaign, **options: bool) -> bool:
    """What is exported can be imported and exported again, to the byte."""
    text = "".join(export_lines(version_of(campaign, **options)))
    other = make_campaign(f"{campaign.slug}-again")
    assert import_file(other, text.encode()).state == "done"
    return "".join(export_lines(version_of(other))) == text


def test_the_error_step_has_the_original_first_and_the_rated_alternatives_after_it(campaign: Campaign) -> None:
    solution = one_solution(campaign, steps=["One.", "Two.", "Three."], alternatives=[None, ["B.", "C."], None])
    rate(labeling_of(solution), {"One.": 1, "Two.": -1, "B.": 0, "C.": 1}, B=True, C=False)
    (row,) = records(campaign)
    assert row["label"]["finish_reason"] == "found_error"
    assert row["label"]["steps"] == [
        step([said("One.", 1)], 0),
        step([said("Two.", -1), said("B.", 0, True), said("C.", 1, False)], None),
    ]
    assert row["question"]["pre_generated_steps"] == ["One.", "Two.", "Three."]
    assert row["timestamp"] == "2026-03-01T12:30:00.000000"
    assert version_of(campaign).manifest["counts"]["alternatives"] == 2
    assert comes_back(campaign)


def test_a_phase_1_walk_has_every_candidate_shown_in_its_order_and_the_one_that_continued(phase_1: Campaign) -> None:
    solution = one_solution(phase_1, steps=["A.", "D."], alternatives=[["B.", "C."], None])
    labeling = labeling_of(solution, finish_reason="solution", generation_number=4)
    rate(labeling, {"C.": 0, "A.": 1, "D.": 1}, C=True, A=False, D=False)
    walk(labeling, "A.", "D.")
    (row,) = records(phase_1)
    assert row["question"] == {"problem": "A?", "ground_truth_answer": "2"}
    assert row["label"]["finish_reason"] == "solution"
    assert row["label"]["steps"] == [
        step([said("C.", 0, True), said("A.", 1, False)], 1),
        step([said("D.", 1, False)], 0),
    ]
    assert comes_back(phase_1)


def test_a_written_step_is_the_human_completion_though_nobody_rates_it(phase_1: Campaign) -> None:
    solution = one_solution(phase_1, steps=["A.", "B."])
    write_step(solution, "Mine.", after="A.")
    Completion.objects.create(
        solution=solution, parent=completion_of(solution, "Mine."), step_index=2, completion_index=0, text="C."
    )
    labeling = labeling_of(solution, finish_reason="solution")
    rate(labeling, {"A.": 1, "B.": -1, "C.": 1}, A=False, B=False, C=False)
    walk(labeling, "A.", "Mine.", "C.")
    (row,) = records(phase_1)
    assert row["label"]["steps"] == [
        step([said("A.", 1, False)], 0),
        step([said("B.", -1, False)], None, "Mine."),
        step([said("C.", 1, False)], 0),
    ]
    assert version_of(phase_1).manifest["counts"]["human completions"] == 1
    assert comes_back(phase_1)


def test_a_give_up_before_candidates_came_ends_with_a_pending_step(phase_1: Campaign) -> None:
    solution = one_solution(phase_1, steps=["A."])
    labeling = labeling_of(solution, finish_reason="give_up")
    rate(labeling, {"A.": 1}, A=False)
    walk(labeling, "A.")
    LabelingStep.objects.create(labeling=labeling, step_index=1, pending=True)
    (row,) = records(phase_1)
    assert row["label"]["steps"] == [step([said("A.", 1, False)], 0), step(None, None)]
    assert comes_back(phase_1)


def test_a_give_up_among_candidates_has_nothing_chosen(phase_1: Campaign) -> None:
    solution = one_solution(phase_1, steps=["A."], alternatives=[["B."]])
    rate(labeling_of(solution, finish_reason="give_up"), {"A.": 0}, A=False)
    (row,) = records(phase_1)
    assert row["label"]["steps"] == [step([said("A.", 0, False)], None)]


@pytest.mark.parametrize("reason", ["give_up", "bad_problem"])
def test_what_was_broken_off_keeps_its_reason_and_what_was_rated(campaign: Campaign, reason: str) -> None:
    rate(labeling_of(one_solution(campaign), finish_reason=reason), {"One.": 1})
    (row,) = records(campaign)
    assert (row["label"]["finish_reason"], row["label"]["steps"]) == (reason, [step([said("One.", 1)], 0)])


def targeted(campaign: Campaign, values: dict[str, int | None], reason: str) -> Labeling:
    solution = one_solution(campaign, steps=["One.", "Two.", "Three.", "Four."])
    labeling = labeling_of(solution, scope="targeted", finish_reason=reason, item={"target_steps": [1, 2]})
    rate(labeling, values)
    return labeling


def test_targeted_labelings_stay_at_home_unless_they_are_asked_for(campaign: Campaign) -> None:
    targeted(campaign, {"Two.": 1, "Three.": -1}, "found_error")
    version = version_of(campaign)
    assert list(export_lines(version)) == []
    assert version.manifest["left_out"] == {"not expressible in PRM800K": 0, "targeted": 1}
    assert version.manifest["include_targeted"] is False


def test_a_targeted_record_shows_the_steps_that_were_not_asked_for_as_unrated(campaign: Campaign) -> None:
    targeted(campaign, {"Two.": 1, "Three.": -1}, "found_error")
    (row,) = records(campaign, include_targeted=True)
    assert row["label"]["steps"] == [
        step([said("One.", None)], 0),
        step([said("Two.", 1)], 0),
        step([said("Three.", -1)], None),
    ]
    manifest = version_of(campaign, include_targeted=True).manifest
    assert manifest["counts"]["targeted"] == 1
    assert manifest["left_out"]["targeted"] == 0
    assert comes_back(campaign, include_targeted=True)


def test_a_targeted_record_without_an_error_has_no_finish_reason(campaign: Campaign) -> None:
    targeted(campaign, {"Two.": 1, "Three.": 0}, "")
    version = version_of(campaign, include_targeted=True)
    (row,) = map(json.loads, export_lines(version))
    assert row["label"]["finish_reason"] is None
    assert version.manifest["counts"]["finish none"] == 1
    assert list(export_lines(version, "trl")) == []  # its first step is unrated


def test_a_corrected_answer_is_in_what_was_labeled_here_and_imported_records_stay_as_they_came(
    campaign: Campaign,
) -> None:
    solution = one_solution(campaign, "What is 1+1?", ["One.", "Two."])
    rate(labeling_of(solution), {"One.": -1})
    ours = "".join(export_lines(version_of(campaign)))
    foreign = json.loads(ours) | {"labeler": "someone else"}
    import_file(campaign, (json.dumps(foreign) + "\n").encode())
    assert Problem.objects.get().reference_answer == "2"
    Problem.objects.update(corrected_answer="3")
    here, imported = records(campaign)
    assert here["question"]["ground_truth_answer"] == "3"
    assert imported == foreign
    Problem.objects.update(corrected_answer="")
    assert records(campaign)[0]["question"]["ground_truth_answer"] == ""


@pytest.mark.parametrize("state", ["draft", "surplus", "withdrawn"])
def test_what_does_not_count_does_not_leave(campaign: Campaign, state: str) -> None:
    rate(labeling_of(one_solution(campaign), state=state), {"One.": -1})
    assert records(campaign) == []


def test_a_solution_labeled_by_two_people_leaves_twice(campaign: Campaign) -> None:
    solution = one_solution(campaign)
    first = labeling_of(solution)
    rate(first, {"One.": -1})
    Solution.objects.get().queue_items.update(retired=True)
    rate(
        labeling_of(solution, membership=labeler_in(campaign, "ben"), finish_reason="solution"), {"One.": 1, "Two.": 0}
    )
    assert [row["label"]["finish_reason"] for row in records(campaign)] == ["found_error", "solution"]
