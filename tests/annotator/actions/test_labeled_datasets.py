"""From the labeler's acts to the dataset: both protocols, their follow-ups, and a correction."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annotator.actions.campaigns import activate_campaign
from annotator.actions.datasets import export_lines, request_dataset
from annotator.actions.labeling import submit_labeling
from annotator.actions.queue import claim_next
from annotator.dispatch import run_here
from annotator.models import Assignment, Campaign, Completion, Critique, DatasetVersion
from tests.annotator.cast import act, ending, import_rows, make_campaign, make_member, problem_texts, rating, simple_row

pytestmark = pytest.mark.django_db

TEXT = problem_texts("train", 1)[0]


def claimed(campaign: Campaign, row: dict[str, Any]) -> Assignment:
    import_rows(campaign, [row])
    assignment = claim_next(make_member(activate_campaign(campaign, actor=None), "lea"))
    assert assignment is not None
    return assignment


def step(text: str) -> Completion:
    return Completion.objects.get(text=text)


def exported(campaign: Campaign) -> tuple[dict[str, Any], dict[str, Any]]:
    """The only record and its companion."""
    job = run_here(request_dataset(campaign, actor=None, wake=False))
    version = DatasetVersion.objects.get(number=job.result["number"])
    (record,), (beside,) = export_lines(version), export_lines(version, "companion")
    return json.loads(record), json.loads(beside)


def ratings(record: dict[str, Any]) -> list[list[tuple[str, int | None, bool | None]]]:
    return [
        [(said["text"], said["rating"], said["flagged"]) for said in at["completions"]]
        for at in record["label"]["steps"]
    ]


def test_phase_2_with_its_follow_ups_and_a_correction() -> None:
    campaign = make_campaign(progress="required", critiques="required", alternatives="required")
    row = simple_row(
        TEXT,
        ["One.", "Two.", "Three."],
        alternatives=[None, ["B.", "C."], None],
        critiques=[None, ["The sign is wrong."], None],
    )
    assignment = claimed(campaign, row)
    critique = Critique.objects.get()
    acts = [
        rating(step("One."), 1),
        rating(step("Two."), -1),
        act("progress", value=1),
        act("critique", critique=critique.pk, value=-1),
        act("own_critique", text="It goes in circles."),
        rating(step("B."), 0, flagged=True),
        rating(step("C."), 1),
    ]
    submit_labeling(assignment, ending("found_error", comment="Hm."), acts)
    record, beside = exported(campaign)
    error = [("Two.", -1, None), ("B.", 0, True), ("C.", 1, False)]
    assert ratings(record) == [[("One.", 1, None)], error]
    assert [at["chosen_completion"] for at in record["label"]["steps"]] == [0, None]
    assert (beside["progress"], beside["own_critique"], beside["comment"]) == (1, "It goes in circles.", "Hm.")
    assert beside["critiques"] == [{"step": 1, "text": "The sign is wrong.", "source": "model", "rating": -1}]
    assert (beside["unsure"], beside["revision"], beside["queue"]["arm"]) == (1, 1, "random")
    assert [len(at["completions"]) for at in beside["steps"]] == [1, 3]

    submit_labeling(assignment, ending("found_error"), [rating(step("One."), -1), act("progress", value=0)])
    record, beside = exported(campaign)
    assert ratings(record) == [[("One.", -1, None)]]
    assert (beside["progress"], beside["critiques"], beside["own_critique"]) == (0, [], "")
    assert beside["revision"] == 2
    assert beside["labeler"] == record["labeler"]


def test_phase_1_with_a_grid_a_choice_and_a_written_step() -> None:
    campaign = make_campaign("trees", phase=1)
    row = simple_row(TEXT, ["One.", "Two."], alternatives=[["Uno.", "Une."], ["Deux."]])
    assignment = claimed(campaign, row)
    acts = [
        rating(step("One."), 0),
        rating(step("Uno."), -1, flagged=True),
        rating(step("Une."), -1),
        act("write", text="My own step.\n\n# Answer\n\n2"),
    ]
    submit_labeling(assignment, ending("solution"), acts)
    record, _ = exported(campaign)
    assert list(record["question"]) == ["problem", "ground_truth_answer"]
    assert record["label"]["finish_reason"] == "solution"
    assert ratings(record) == [[("One.", 0, False), ("Uno.", -1, True), ("Une.", -1, False)]]
    (only,) = record["label"]["steps"]
    assert only["chosen_completion"] is None
    assert only["human_completion"] == {
        "text": "My own step.\n\n# Answer\n\n2",
        "rating": None,
        "source": "human",
        "flagged": False,
    }
