from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from annotator.actions.campaigns import pause_campaign
from annotator.actions.learning import promote, record_scores, register_checkpoint
from annotator.models import Assignment, Checkpoint, Solution
from prm_backend.types import StepScores
from tests.annotator.cast import import_rows, simple_row
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def state_of(body: str) -> dict[str, Any]:
    found = re.search(r'<script id="label-state" type="application/json">(.*?)</script>', body, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_the_first_solution_comes_with_the_page(cast: Cast, url: Url) -> None:
    cast.active()
    response = cast.labeler.get(url("label/"))
    state = state_of(response.content.decode())
    assignment = Assignment.objects.get()
    assert state["item"]["assignment"] == str(assignment.pk)
    assert [step["text"] for step in state["item"]["steps"]] == ["First step.", "Second step.", "So the answer is 2."]
    assert state["empty"] is None
    assert "csrftoken" in response.cookies
    assert response["Cache-Control"] == "no-store"


def test_an_empty_queue_comes_with_its_reason(cast: Cast, url: Url) -> None:
    campaign = cast.active()
    pause_campaign(campaign, actor=cast.members["manager"].user)
    state = state_of(cast.labeler.get(url("label/")).content.decode())
    assert state["item"] is None
    assert "paused" in state["empty"]["message"]


def test_the_page_counts_what_was_done_today(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, 1, 1)
    cast.label_next(-1)
    assert state_of(cast.labeler.get(url("label/")).content.decode())["today"] == 2


def test_text_cannot_break_out_of_the_page(cast: Cast, url: Url) -> None:
    nasty = "</script><img src=x onerror=alert(1)> <!-- $x$"
    import_rows(cast.campaign, [simple_row(f"{nasty} {n}", [nasty]) for n in range(3)])
    cast.active()
    body = cast.labeler.get(url("label/")).content.decode()
    assert "<img src=x" not in body
    assert state_of(body)["item"]["steps"][0]["text"] == nasty


def test_the_labeler_sees_no_score_arm_or_gold(cast: Cast, url: Url) -> None:
    campaign = cast.active()
    checkpoint = register_checkpoint(campaign, kind=Checkpoint.Kind.BACKBONE, number=0, folder="x/0", metadata={})
    promote(checkpoint)
    steps = StepScores(bad=(0.123, 0.1, 0.1), neutral=(0, 0, 0), good=(0.877, 0.9, 0.9), spread=(0, 0, 0))
    record_scores(checkpoint, [(row, steps) for row in Solution.objects.all()])
    body = cast.labeler.get(url("label/")).content.decode()
    for secret in ("0.123", "0.877", "audit", "random", "seeded", "probability", str(cast.members["labeler"].uuid)):
        assert secret not in body


def test_the_reference_answer_is_left_out_where_the_campaign_says_so(cast: Cast, url: Url) -> None:
    cast.campaign.show_reference_answer = False
    cast.campaign.save()
    cast.active()
    assert state_of(cast.labeler.get(url("label/")).content.decode())["item"]["problem"]["reference_answer"] is None
