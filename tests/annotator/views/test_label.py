from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

from annotator.actions.campaigns import pause_campaign, publish_guideline
from annotator.actions.learning import promote, record_scores, register_checkpoint
from annotator.models import Assignment, Attachment, Checkpoint, Membership, Solution
from prm_backend.types import StepScores
from tests.annotator.cast import import_rows, simple_row
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


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
    assert [row["text"] for row in state["item"]["completions"]] == [
        "First step.",
        "Second step.",
        "So the answer is 2.",
    ]
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
    assert state_of(body)["item"]["completions"][0]["text"] == nasty


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


# --- Other ways in ---------------------------------------------------------------------------------------------------


def test_the_tutorial_comes_first_and_once(cast: Cast, url: Url) -> None:
    cast.active()
    Membership.objects.update(tutorial_done_at=None)
    assert cast.labeler.get(url("label/")).headers["Location"] == url("label/tutorial/")
    state = state_of(cast.labeler.get(url("label/tutorial/")).content.decode())
    assert state["dry"] == "tutorial"
    assert state["items"]
    assert not Assignment.objects.exists()
    cast.labeler.post(url("label/tutorial/done/"))
    assert state_of(cast.labeler.get(url("label/")).content.decode())["item"]


def test_a_preview_shows_solutions_and_stores_nothing(cast: Cast, url: Url) -> None:
    cast.active()
    state = state_of(cast.manager.get(url("label/preview/")).content.decode())
    assert state["dry"] == "preview"
    assert len(state["items"]) == 3
    assert state["items"][0]["completions"]
    assert not Assignment.objects.exists()
    assert cast.labeler.get(url("label/preview/")).status_code == 403


def test_a_finished_solution_opens_again_by_its_address(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, 1, 1)
    done = Assignment.objects.get()
    state = state_of(cast.labeler.get(url(f"label/?assignment={done.pk}")).content.decode())
    assert (state["item"]["assignment"], state["item"]["revision"], len(state["item"]["acts"])) == (str(done.pk), 1, 3)
    assert cast.manager.get(url(f"label/?assignment={done.pk}")).status_code == 404
    assert cast.labeler.get(url("label/?assignment=1")).status_code == 404


def test_what_changed_in_the_guideline_comes_with_the_page(cast: Cast, url: Url) -> None:
    campaign = cast.active()
    publish_guideline(campaign, actor=cast.members["manager"].user, text="Be very kind.")
    response = cast.labeler.get(url("label/"))
    assert state_of(response.content.decode())["empty"]["code"] == "guideline"
    assert "<ins" in response.content.decode()


def test_images_are_for_members_and_nothing_but_images(cast: Cast, url: Url, settings: Any) -> None:
    png = b"\x89PNG\r\n\x1a\n" + b"0" * 20
    row = simple_row("See the figure.", attachments=[{"name": "a.png", "type": "image/png", "data": b64(png)}])
    import_rows(cast.campaign, [row])
    picture = Attachment.objects.get()
    response = cast.labeler.get(url(f"attachments/{picture.sha256}/"))
    assert b"".join(response.streaming_content) == png
    assert response["Content-Type"] == "image/png"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert cast.stranger.get(url(f"attachments/{picture.sha256}/")).status_code == 404
    assert cast.labeler.get(url("attachments/..%2f..%2fsecret_key/")).status_code == 404
