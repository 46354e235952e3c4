"""What goes out: PRM800K records to the letter, the same bytes for the same version, and a manifest that tells."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.actions.campaigns import activate_campaign
from annotator.actions.datasets import export_lines, request_dataset
from annotator.actions.labeling import submit_labeling
from annotator.actions.queue import claim_next
from annotator.dispatch import run_here
from annotator.errors import Invalid
from annotator.models import Campaign, DatasetVersion, QueueItem
from prm_backend.types import FinishReason
from tests.annotator.cast import (
    ending,
    fill_pool,
    import_file,
    import_rows,
    label,
    make_campaign,
    make_member,
    simple_row,
)

pytestmark = pytest.mark.django_db
SAMPLE = Path(__file__).parents[4] / "shared" / "data" / "prm800k_sample.jsonl"


def make_version(campaign: Campaign) -> DatasetVersion:
    job = run_here(request_dataset(campaign, actor=None, wake=False))
    return DatasetVersion.objects.get(campaign=campaign, number=job.result["number"])


def exported(campaign: Campaign, format: str = "prm800k") -> str:
    return "".join(export_lines(make_version(campaign), format))


def completion(text: str, rating: int | None, flagged: bool | None = False) -> dict[str, object]:
    return {"text": text, "rating": rating, "flagged": flagged}


def step(completions: object, chosen: int | None, human: object = None) -> dict[str, object]:
    return {"completions": completions, "human_completion": human, "chosen_completion": chosen}


def record(steps: list[dict[str, object]], **changes: object) -> dict[str, object]:
    """A phase 2 record."""
    return {
        "labeler": "e90a38f3-3135-4465-87af-3e6322e3d772",
        "timestamp": "2022-11-22T16:51:29.980606",
        "generation": 6,
        "is_quality_control_question": False,
        "is_initial_screening_question": False,
        "question": {
            "problem": "What is $1+1$? \u00e9\u2028",
            "ground_truth_solution": None,
            "ground_truth_answer": "2",
            "pre_generated_steps": ["One.", "Two.", "Two.\n\n# Answer\n\n2"],
            "pre_generated_answer": "2",
            "pre_generated_verifier_score": 1.129314385442644e-09,
        },
        "label": {"steps": steps, "total_time": 164458, "finish_reason": "found_error"},
    } | changes


def phase_1_record(steps: list[dict[str, object]]) -> dict[str, object]:
    row = record(steps, generation=None)
    row["question"] = {"problem": "What is 2+2?", "ground_truth_answer": "4"}
    return row


TRICKY = [
    # the first error with alternatives, one of them equal to the step itself
    record(
        [
            step([completion("One.", 1, None)], 0),
            step([completion("Two.", -1, None), completion("Two.", 0), completion("Other.", None)], None),
        ]
    ),
    # the same alternatives in another order, from another labeler
    record(
        [
            step([completion("One.", 0, None)], 0),
            step([completion("Two.", -1, True), completion("Other.", 1), completion("Two.", -1)], None),
        ],
        labeler="another",
    ),
    # an own step between candidates, a chosen second candidate, and a pending last step
    phase_1_record(
        [
            step([completion("A.", -1), completion("B.", 1)], 1),
            step([completion("C.", -1)], None, {"text": "Mine.", "rating": None, "source": "human", "flagged": False}),
            step([completion("A.", 1)], 0),
            step(None, None),
        ]
    ),
    phase_1_record([step([], None)]),
    # nothing chosen, and the next step shows the same words
    phase_1_record([step([completion("A.", -1)], None), step([completion("A.", 1)], 0)]),
]


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_records_come_out_as_they_went_in() -> None:
    campaign = make_campaign()
    assert import_file(campaign, lines(TRICKY).encode()).state == "done"
    assert exported(campaign) == lines(TRICKY)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
completions = st.builds(completion, texts, st.sampled_from([-1, 0, 1, None]), st.sampled_from([True, False, None]))
humans = st.none() | texts.map(lambda text: {"text": text, "rating": None, "source": "human", "flagged": False})


@st.composite
def steps_of_phase_1(draw: st.DrawFn) -> list[dict[str, object]]:
    rows = []
    for _ in range(draw(st.integers(1, 4))):
        candidates = draw(st.none() | st.lists(completions, max_size=3))
        chosen = draw(st.none() | st.integers(0, len(candidates) - 1)) if candidates else None
        rows.append(step(candidates, chosen, draw(humans) if chosen is None else None))
    return rows


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees=st.lists(steps_of_phase_1(), min_size=1, max_size=3, unique_by=str))
def test_any_phase_1_tree_survives_the_round_trip(db: None, trees: list[list[dict[str, object]]]) -> None:
    campaign = make_campaign(f"round-trip-{Campaign.objects.count()}")
    rows = [phase_1_record(steps) for steps in trees]
    assert import_file(campaign, lines(rows).encode()).state == "done"
    assert exported(campaign) == lines(rows)


@pytest.mark.skipif(not SAMPLE.exists(), reason="the folder of real human-labeled data is not beside the project")
def test_genuine_prm800k_records_of_both_phases_come_out_byte_for_byte() -> None:
    campaign = make_campaign()
    import_file(campaign, SAMPLE.read_bytes())
    assert exported(campaign).encode() == SAMPLE.read_bytes()


def labeled_campaign() -> Campaign:
    campaign = make_campaign(audit_per_generation=0)
    fill_pool(campaign, train=3)
    campaign = activate_campaign(campaign, actor=None)
    QueueItem.objects.update(solution_score=0.5)
    lea = make_member(campaign, "lea")
    for values in ([1, 0, 1], [1, -1]):
        assignment = claim_next(lea)
        assert assignment is not None
        label(assignment, values)
    return campaign


def test_what_was_labeled_here_leaves_as_prm800k() -> None:
    campaign = labeled_campaign()
    rows = [json.loads(line) for line in exported(campaign).splitlines()]
    member = campaign.memberships.get()
    first, second = rows
    assert list(first) == list(TRICKY[0])
    assert list(first["question"]) == list(TRICKY[0]["question"])  # type: ignore[call-overload]
    assert {row["labeler"] for row in rows} == {str(member.uuid)}
    assert "lea" not in json.dumps(rows)
    assert first["generation"] == 0
    assert first["question"]["pre_generated_verifier_score"] == 0.5
    assert [(s["completions"][0]["rating"], s["chosen_completion"]) for s in first["label"]["steps"]] == [
        (1, 0),
        (0, 0),
        (1, 0),
    ]
    assert first["label"]["finish_reason"] == "solution"
    assert [(s["completions"][0]["rating"], s["chosen_completion"]) for s in second["label"]["steps"]] == [
        (1, 0),
        (-1, None),
    ]
    assert second["label"]["finish_reason"] == "found_error"


def test_what_was_exported_can_be_imported_and_exported_again_unchanged() -> None:
    text = exported(labeled_campaign())
    other = make_campaign("other")
    assert import_file(other, text.encode()).report["labelings"] == 2
    assert exported(other) == text


def test_a_version_never_changes() -> None:
    campaign = labeled_campaign()
    version = make_version(campaign)
    before = "".join(export_lines(version))
    assignment = claim_next(campaign.memberships.get())
    assert assignment is not None
    label(assignment, [-1])
    later = make_version(campaign)
    assert "".join(export_lines(version)) == before
    assert (version.number, later.number) == (1, 2)
    assert later.manifest["counts"]["records"] == 3
    assert hashlib.sha256(before.encode()).hexdigest() == version.sha256 == version.manifest["sha256"]


def test_the_manifest_counts() -> None:
    counts = make_version(labeled_campaign()).manifest["counts"]
    assert counts == {
        "records": 2,
        "phase 2": 2,
        "split train": 2,
        "finish solution": 1,
        "finish found_error": 1,
        "rating +1": 3,
        "rating +0": 1,
        "rating -1": 1,
    }


def test_give_ups_leave_with_what_was_rated_and_drafts_stay_home() -> None:
    campaign = labeled_campaign()
    third = claim_next(campaign.memberships.get())
    assert third is not None
    assert len(exported(campaign).splitlines()) == 2
    submit_labeling(third, ending(FinishReason.GIVE_UP, reason="unfamiliar"))
    last = json.loads(exported(campaign).splitlines()[-1])
    assert last["label"]["finish_reason"] == "give_up"
    assert last["label"]["steps"] == []


def test_sources_of_the_first_error_alone_are_left_out_and_counted() -> None:
    campaign = make_campaign()
    row = simple_row("A?", ratings=[1, -1, None], label_origin="human_first_error")
    import_rows(campaign, [row], labels="labelings")
    version = make_version(campaign)
    assert list(export_lines(version)) == []
    assert version.manifest["left_out"] == {"not expressible in PRM800K": 1, "targeted": 0}


def test_trl_rows_have_the_path_and_true_or_false() -> None:
    rows = [json.loads(line) for line in exported(labeled_campaign(), "trl").splitlines()]
    assert [row["labels"] for row in rows] == [[True, True, True], [True, False]]
    assert rows[0]["completions"] == ["First step.", "Second step.", "So the answer is 2."]


def test_an_empty_campaign_makes_an_empty_version() -> None:
    campaign = make_campaign()
    assert exported(campaign) == exported(campaign, "trl") == ""


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(Invalid, match="prm800k, trl"):
        export_lines(make_version(make_campaign()), "csv")
