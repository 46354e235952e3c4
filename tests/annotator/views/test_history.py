from __future__ import annotations

import datetime
from collections.abc import Callable

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.labeling import submit_labeling, withdraw_labeling
from annotator.models import Campaign, Labeling, RatingEvent
from annotator.queries.history import acts_of, path_ratings, said_steps
from prm_backend.types import FinishReason
from tests.annotator.cast import act, ending, import_rows, make_member, path_of, problem_texts, rate, rating, simple_row
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def test_it_lists_my_labelings_newest_first_and_nobody_elses(cast: Cast, url: Url) -> None:
    cast.active()
    first = cast.label_next(1, 1, 1)
    second = cast.label_next(1, -1)
    assert make_member(cast.campaign, "ben")
    body = cast.labeler.get(url("history/")).content.decode()
    assert body.index(url(f"labelings/{second.pk}/")) < body.index(url(f"labelings/{first.pk}/"))
    assert "first error at step 2" in body
    assert "You have not submitted anything yet." in cast.manager.get(url("history/")).content.decode()


def test_it_offers_a_correction_within_the_window_only(cast: Cast, url: Url) -> None:
    cast.active()
    said = cast.label_next(1, 1, 1)
    link = f"{url('label/')}?assignment={said.assignment_id}"
    assert link in cast.labeler.get(url("history/")).content.decode()
    assert link in cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode()
    late = timezone.now() - datetime.timedelta(hours=cast.campaign.correction_hours, minutes=1)
    Labeling.objects.update(submitted_at=late)
    assert link not in cast.labeler.get(url("history/")).content.decode()
    assert link not in cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode()


def test_what_was_given_up_or_withdrawn_cannot_be_corrected(cast: Cast, url: Url) -> None:
    cast.active()
    claimed = cast.claim()
    submit_labeling(claimed, ending(FinishReason.GIVE_UP, reason="Too hard."))
    said = cast.label_next(1, 1, 1)
    withdraw_labeling(said, actor=cast.members["manager"].user, reason="Twice the same.")
    body = cast.labeler.get(url("history/")).content.decode()
    assert "given up" in body
    assert "withdrawn" in body
    assert "?assignment=" not in body


def test_it_counts_corrections(cast: Cast, url: Url) -> None:
    cast.active()
    said = cast.label_next(1, 1, 1)
    assert said.assignment is not None
    submit_labeling(said.assignment, ending(FinishReason.FOUND_ERROR), [rating(path_of(said.assignment)[2], -1)])
    assert "corrected once" in cast.labeler.get(url("history/")).content.decode()


def test_one_labeling_shows_every_step_and_act(cast: Cast, url: Url) -> None:
    cast.active()
    claimed = cast.claim()
    first, second, _ = path_of(claimed)
    mishit = rating(first, -1)
    rate(claimed, mishit, act("undo", undoes=mishit.client_id), rating(first, 1, flagged=True), rating(second, -1))
    said = submit_labeling(claimed, ending(FinishReason.FOUND_ERROR, comment="It forgets a sign."))
    body = cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode()
    for words in ("First step.", "So the answer is 2.", "It forgets a sign.", "unsure", "First error at step 2"):
        assert words in body
    lines = [(line.words, line.undone) for line in acts_of(said)]
    assert lines == [
        ("Step 1: bad", True),
        ("Took the last act back", False),
        ("Step 1: good, unsure", False),
        ("Step 2: bad", False),
        ("Submitted", False),
    ]
    steps = said_steps(said)
    assert [step.is_unrated for step in steps] == [False, False, True]
    assert [rated.value for rated in path_ratings(said)] == [1, -1]


def test_alternatives_are_not_on_the_path(cast: Cast, url: Url) -> None:
    cast.campaign.alternatives = "optional"
    cast.campaign.save()
    (text,) = problem_texts("train", 1)
    row = simple_row(text, alternatives=[["Another first step."], [], []])
    import_rows(cast.campaign, [row])
    cast.active()
    claimed = cast.claim()
    first = path_of(claimed)[0]
    other = claimed.solution.completions.get(completion_index=1)
    rate(claimed, rating(first, -1), rating(other, 1))
    said = submit_labeling(claimed, ending(FinishReason.FOUND_ERROR))
    assert [rated.value for rated in path_ratings(said)] == [-1]
    shown = [(step.number, [(c.text, c.other) for c in step.completions]) for step in said_steps(said)]
    assert shown[0] == (1, [("First step.", False), ("Another first step.", True)])
    assert "another candidate" in cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode()


def test_a_labeler_sees_no_more_than_the_page_showed(cast: Cast, url: Url) -> None:
    cast.campaign.show_reference_answer = False
    cast.campaign.save()
    cast.active()
    said = cast.label_next(1, 1, 1)
    assert "Reference answer" not in cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode()
    assert "Reference answer" in cast.manager.get(url(f"labelings/{said.pk}/")).content.decode()


def test_others_labelings_and_drafts_are_out_of_reach(cast: Cast, url: Url) -> None:
    cast.active()
    said = cast.label_next(1, 1, 1)
    claimed = cast.claim()
    draft = rate(claimed, rating(path_of(claimed)[0], 1))
    make_member(cast.campaign, "ben")
    cast.members["ben"] = make_member(cast.campaign, "carla")
    assert cast.ben.get(url(f"labelings/{said.pk}/")).status_code == 404
    assert cast.labeler.get(url(f"labelings/{draft.pk}/")).status_code == 404
    assert cast.manager.get(url(f"labelings/{draft.pk}/")).status_code == 404


def test_a_manager_withdraws_with_a_reason_and_nothing_is_deleted(cast: Cast, url: Url) -> None:
    cast.active()
    said = cast.label_next(1, 1, 1)
    page = cast.manager.get(url(f"labelings/{said.pk}/")).content.decode()
    assert url(f"labelings/{said.pk}/withdraw/") in page
    assert cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode().count("withdraw") == 0
    posted = cast.manager.post(url(f"labelings/{said.pk}/withdraw/"), {"reason": "Twice the same."})
    assert posted["Location"] == url(f"labelings/{said.pk}/")
    said.refresh_from_db()
    assert said.state == Labeling.State.WITHDRAWN
    assert said.ratings.count() == 3
    event = said.events.get(kind=RatingEvent.Kind.WITHDRAW)
    assert event.text == "Twice the same."
    again = cast.manager.post(url(f"labelings/{said.pk}/withdraw/"), {"reason": "Again."})
    assert again.status_code == 409


def test_the_list_costs_the_same_for_many_labelings(cast: Cast, url: Url) -> None:
    cast.active(train=6, validation=0)
    client = cast.labeler

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(url("history/"))
        return len(queries)

    cast.label_next(1, 1, 1)
    few = cost()
    for _ in range(4):
        cast.label_next(1, -1)
    assert cost() == few <= 10


def test_a_phase_1_labeling_shows_every_candidate_and_the_step_that_was_written(cast: Cast, url: Url) -> None:
    Campaign.objects.filter(pk=cast.campaign.pk).update(phase=1)
    cast.campaign.refresh_from_db()
    (text,) = problem_texts("train", 1)
    import_rows(cast.campaign, [simple_row(text, ["Good start."], alternatives=[["Bad start."]])])
    cast.active()
    claimed = cast.claim()
    first, other = claimed.solution.completions.order_by("completion_index")
    written = act("write", text="It is 2.\n\n# Answer\n\n2")
    rate(claimed, rating(first, -1), rating(other, 0), written)
    said = submit_labeling(claimed, ending(FinishReason.SOLUTION))
    (step,) = said_steps(said)
    shown = [(row.text, row.rating.value if row.rating else None, row.own, row.other) for row in step.completions]
    assert shown == [
        ("Good start.", -1, False, True),
        ("Bad start.", 0, False, True),
        ("It is 2.\n\n# Answer\n\n2", None, True, False),
    ]
    assert not step.is_unrated
    body = cast.labeler.get(url(f"labelings/{said.pk}/")).content.decode()
    assert "written by you" in body
    assert "Wrote a step" in body
    assert "written by the labeler" in cast.manager.get(url(f"labelings/{said.pk}/")).content.decode()
    assert cast.labeler.get(url("history/")).status_code == 200
