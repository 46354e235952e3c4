"""The companion file: what was said beyond PRM800K's words, in the order of the records."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from django.test import Client

from annotator.actions.datasets import companion_file, export_lines
from annotator.errors import Invalid
from annotator.models import Campaign, Critique, CritiqueRating
from tests.annotator.cast import Role, import_rows, make_campaign, make_member, simple_row
from tests.annotator.queries.test_records import records, version_of
from tests.annotator.rows import labeling_of, one_solution, rate, spend, walk, write_step

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


def companions(campaign: Campaign, **options: bool) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(version_of(campaign, **options), "companion")]


def test_all_that_was_said_after_the_first_error_is_in_the_companion(campaign: Campaign) -> None:
    solution = one_solution(
        campaign, steps=["One.", "Two."], alternatives=[None, ["B."]], critiques=[None, ["Sign.", "Tone."]]
    )
    guideline = campaign.guidelines.latest("version")
    labeling = labeling_of(
        solution,
        item={"arm": "active", "strategy": "disagreement", "score": 0.5, "lane": "returned", "give_ups": 1},
        progress=2,
        own_critique="The sign is lost.",
        comment="A nice one.",
        answer_report="It is 3.",
        revision=2,
        guideline=guideline,
    )
    rate(labeling, {"One.": 1, "Two.": -1, "B.": 1}, Two=True, B=True)
    for text, value in {"Tone.": -1, "Sign.": 1}.items():
        CritiqueRating.objects.create(labeling=labeling, critique=Critique.objects.get(text=text), value=value)
    (row,) = companions(campaign)
    assert row == {
        "record": 1,
        "labeler": str(labeling.membership.uuid),  # type: ignore[union-attr]  # made here
        "timestamp": "2026-03-01T12:30:00.000000",
        "scope": "whole",
        "revision": 2,
        "guideline": 1,
        "progress": 2,
        "critiques": [
            {"step": 1, "text": "Sign.", "source": "model", "rating": 1},
            {"step": 1, "text": "Tone.", "source": "model", "rating": -1},
        ],
        "own_critique": "The sign is lost.",
        "reason": "",
        "comment": "A nice one.",
        "answer_report": "It is 3.",
        "unsure": 2,
        "active_ms": 8000,
        "wall_ms": 9000,
        "steps": [
            {"active_ms": 0, "wall_ms": 0, "completions": [{"active_ms": 0, "wall_ms": 0}]},
            {"active_ms": 0, "wall_ms": 0, "completions": [{"active_ms": 0, "wall_ms": 0}] * 2},
        ],
        "queue": {
            "arm": "active",
            "strategy": "disagreement",
            "score": 0.5,
            "inclusion_probability": 0.25,
            "generation": 4,
            "checkpoint": None,
            "rank": 7,
            "lane": "returned",
            "give_ups": 1,
            "target_steps": None,
        },
    }
    (record,) = records(campaign)
    assert (record["labeler"], record["timestamp"]) == (row["labeler"], row["timestamp"])
    assert "lea" not in json.dumps(row)


def test_times_are_summed_by_completion_and_a_step_has_besides_what_was_cut(campaign: Campaign) -> None:
    solution = one_solution(campaign, steps=["One.", "Two."], alternatives=[["Uno."], None])
    labeling = labeling_of(solution)
    rate(labeling, {"One.": -1})
    for text, active, wall in [("One.", 10, 20), ("Two.", 5, 5), ("One.", 1, 2), ("Uno.", 100, 200), (None, 7, 7)]:
        spend(labeling, text, active, wall, kind="rate" if text else "progress")
    (row,) = companions(campaign)
    assert row["steps"] == [{"active_ms": 111, "wall_ms": 222, "completions": [{"active_ms": 11, "wall_ms": 22}]}]


def test_in_phase_1_a_steps_times_go_with_the_candidates_that_were_shown() -> None:
    campaign = make_campaign("trees", phase=1)
    solution = one_solution(campaign, steps=["A.", "B."])
    write_step(solution, "Mine.", after="A.")
    labeling = labeling_of(solution, finish_reason="give_up", reason="too hard")
    rate(labeling, {"A.": 1, "B.": 0})
    walk(labeling, "A.", "Mine.")
    spend(labeling, "B.", 3, 4)
    spend(labeling, "Mine.", 30, 40, kind="write")
    (row,) = companions(campaign)
    assert row["steps"][1] == {"active_ms": 33, "wall_ms": 44, "completions": [{"active_ms": 3, "wall_ms": 4}]}
    assert row["reason"] == "too hard"


def test_lines_go_with_the_records_and_say_what_was_targeted(campaign: Campaign) -> None:
    import_rows(campaign, [simple_row("Imported?", ratings=[1, 1, 1])], labels="labelings")
    whole = labeling_of(one_solution(campaign, "Whole?"), wall_ms=1)
    rate(whole, {"One.": -1})
    solution = one_solution(campaign, "Some?")
    asked = labeling_of(solution, item={"target_steps": [1]}, scope="targeted", finish_reason="", wall_ms=2)
    rate(asked, {"Two.": 1})
    rows = companions(campaign, include_targeted=True)
    assert [(row["record"], row["scope"], row["wall_ms"]) for row in rows] == [
        (1, "whole", 0),
        (2, "whole", 1),
        (3, "targeted", 2),
    ]
    assert [row["label"]["total_time"] for row in records(campaign, include_targeted=True)] == [0, 1, 2]
    assert [row["queue"] and row["queue"]["target_steps"] for row in rows] == [None, None, [1]]
    assert [row["wall_ms"] for row in companions(campaign)] == [0, 1]


def test_the_companion_has_its_hash_in_the_manifest_and_never_changes(campaign: Campaign) -> None:
    rate(labeling_of(one_solution(campaign)), {"One.": -1})
    version = version_of(campaign)
    before = "".join(export_lines(version, "companion"))
    assert companion_file(version).name == "v0001.companion.jsonl"
    assert hashlib.sha256(before.encode()).hexdigest() == version.manifest["companion_sha256"]
    campaign.labelings.update(comment="changed since")
    assert "".join(export_lines(version, "companion")) == before
    assert companions(campaign)[0]["comment"] == "changed since"
    assert not [file for file in version.path.parent.iterdir() if file.name.startswith(".")]


def test_a_version_without_a_companion_says_so(campaign: Campaign) -> None:
    version = version_of(campaign)
    companion_file(version).unlink()
    with pytest.raises(Invalid, match="Dataset 1 has no companion file"):
        export_lines(version, "companion")


def test_the_number_of_queries_does_not_grow_with_the_labelings(
    campaign: Campaign, django_assert_num_queries: Any
) -> None:
    from annotator.queries.companion import records_with_companions
    from annotator.queries.labelings import submitted_labelings

    for number in range(3):
        solution = one_solution(campaign, f"P{number}?", critiques=[["Sign."], None])
        labeling = labeling_of(solution, guideline=campaign.guidelines.latest("version"))
        rate(labeling, {"One.": -1})
        CritiqueRating.objects.create(
            labeling=labeling, critique=Critique.objects.get(completion__solution=solution), value=1
        )
        if number in (0, 2):
            with django_assert_num_queries(6):
                assert len(list(records_with_companions(submitted_labelings(campaign)))) == number + 1


def test_researchers_download_it_from_the_page_and_by_program(campaign: Campaign) -> None:
    rate(labeling_of(one_solution(campaign)), {"One.": -1})
    version = version_of(campaign)
    text = "".join(export_lines(version, "companion"))
    client = Client()
    client.force_login(make_member(campaign, "rob", Role.RESEARCHER).user)
    page = client.get("/c/algebra/datasets/1/").content.decode()
    assert "?format=companion" in page
    assert version.manifest["companion_sha256"] in page
    download = client.get("/c/algebra/datasets/1/download/?format=companion")
    assert download["Content-Disposition"] == 'attachment; filename="algebra-v1.companion.jsonl"'
    assert download.getvalue().decode() == text  # type: ignore[attr-defined]  # a streaming response
    by_program = client.get("/api/v1/campaigns/algebra/datasets/1/records/?as=companion")
    assert by_program.getvalue().decode() == text  # type: ignore[attr-defined]  # the same
