"""Phase 1 on the server: own steps in the tree, blindness between labelers, and candidates that a worker fetches."""

from __future__ import annotations

from typing import Any

import pytest

from annotator.actions.campaigns import activate_campaign
from annotator.actions.candidates import fail_request, store_candidates, take_request
from annotator.actions.frontier import retry_candidates, want_first_candidates
from annotator.actions.labeling import store_acts, submit_labeling
from annotator.actions.queue import claim_next
from annotator.errors import Conflict
from annotator.models import Assignment, Campaign, CandidateRequest, Completion
from annotator.queries.items import item_payload
from tests.annotator.cast import (
    act,
    ending,
    import_rows,
    make_campaign,
    make_member,
    problem_texts,
    rate,
    rating,
    simple_row,
)

pytestmark = pytest.mark.django_db

(TEXT,) = problem_texts("train", 1)


def open_campaign(*, steps: list[str], **fields: Any) -> Campaign:
    campaign = make_campaign("trees", phase=1, labelings_wanted=2, audit_per_generation=0, **fields)
    row = (
        simple_row(TEXT, steps, alternatives=[["Uno.", "Une."], *[None] * (len(steps) - 1)])
        if steps
        else {"problem": TEXT}
    )
    import_rows(campaign, [row])
    return activate_campaign(campaign, actor=None)


def claimed(campaign: Campaign, name: str) -> Assignment:
    assignment = claim_next(make_member(campaign, name))
    assert assignment is not None
    return assignment


def step(text: str) -> Completion:
    return Completion.objects.get(text=text)


def fresh(assignment: Assignment) -> Assignment:
    """As the next request finds it."""
    return Assignment.objects.select_related("campaign", "membership", "item").get(pk=assignment.pk)


def texts(assignment: Assignment) -> list[str]:
    return [row["text"] for row in item_payload(fresh(assignment))["completions"]]


def rejected() -> list[Any]:
    return [rating(step(text), -1) for text in ("One.", "Uno.", "Une.")]


def test_an_own_step_is_a_completion_that_only_its_labeler_sees() -> None:
    campaign = open_campaign(steps=["One.", "Two."])
    lea, max_ = claimed(campaign, "lea"), claimed(campaign, "max")
    own = act("write", text="Mine.")
    session = store_acts(lea, [*rejected(), own])
    made = session.written[own.client_id]
    assert (made.source, made.step_index, made.parent) == ("human", 0, None)
    assert "Mine." in texts(lea)
    assert "Mine." not in texts(max_)
    (row,) = [row for row in item_payload(fresh(lea))["completions"] if row["own"]]
    assert row["id"] == made.pk


def test_nobody_gets_at_another_labelers_step_by_its_number() -> None:
    campaign = open_campaign(steps=["One.", "Two."])
    lea, max_ = claimed(campaign, "lea"), claimed(campaign, "max")
    secret = store_acts(lea, [*rejected(), act("write", text="Mine.")])
    (number,) = [row.pk for row in secret.written.values()]
    rate(max_, *rejected(), act("write", text="Yours."), act("write", text="", completion=number))
    assert "Mine." not in texts(max_)


def test_what_follows_an_own_step_hangs_on_it() -> None:
    campaign = open_campaign(steps=["One.", "Two."])
    lea = claimed(campaign, "lea")
    first, second = act("write", text="Mine."), act("write", text="Mine too.\n\n# Answer\n\n2")
    store_acts(lea, [*rejected(), first])
    rate(lea, second)
    assert step(second.text).parent == step("Mine.")
    labeling = submit_labeling(lea, ending("solution"))
    assert [(row.human.text, row.chosen) for row in labeling.steps.select_related("human") if row.human] == [
        ("Mine.", None),
        (second.text, None),
    ]


def test_repeating_an_own_step_does_not_write_it_twice() -> None:
    lea = claimed(open_campaign(steps=["One."]), "lea")
    own = act("write", text="Mine.")
    store_acts(lea, [*rejected(), own])
    store_acts(lea, [own])
    assert Completion.objects.filter(source="human").count() == 1


def test_giving_up_keeps_what_was_shown_and_marks_the_pending_step() -> None:
    lea = claimed(open_campaign(steps=["One."]), "lea")
    labeling = submit_labeling(lea, ending("give_up", reason="too hard"), [rating(step("One."), 0)])
    assert [(row.position, row.value) for row in labeling.ratings.all()] == [(0, 0), (1, None), (2, None)]
    assert [row.pending for row in labeling.steps.all()] == [False]


# --- Candidates from a model -----------------------------------------------------------------------------------------


@pytest.fixture
def endpoint(settings: Any) -> None:
    settings.CANDIDATE_ENDPOINT_URL = "http://127.0.0.1:9/v1"


FROM_MODEL = {"candidate_source": "endpoint", "candidate_model": "tiny"}


def fetched(*candidates: str) -> None:
    """A worker brings what was asked for last."""
    request = take_request(CandidateRequest.objects.latest("id").pk)
    assert request is not None
    store_candidates(request, candidates)


@pytest.mark.usefixtures("endpoint")
def test_a_bare_problem_asks_the_model_and_goes_on_step_by_step() -> None:
    lea = claimed(open_campaign(steps=[], **FROM_MODEL), "lea")
    want_first_candidates(lea)
    (waiting,) = item_payload(fresh(lea))["waiting"]
    assert (waiting["parent"], waiting["kind"], waiting["state"]) == (None, "steps", "coming")
    fetched("One.", "Uno.")
    assert item_payload(fresh(lea))["waiting"] == []
    rate(lea, rating(step("One."), 1))
    assert CandidateRequest.objects.latest("id").parent == step("One.")
    fetched("So 2.\n\n# Answer\n\n2")
    labeling = submit_labeling(lea, ending("solution"), [rating(Completion.objects.latest("id"), 1)])
    assert [row.chosen_id for row in labeling.steps.all()] == [step("One.").pk, Completion.objects.latest("id").pk]
    assert not CandidateRequest.objects.exclude(state="done").exists(), "nothing is asked for after a final step"


@pytest.mark.usefixtures("endpoint")
def test_nobody_writes_a_step_while_candidates_are_on_their_way_but_a_dead_endpoint_holds_nobody_up() -> None:
    lea = claimed(open_campaign(steps=[], **FROM_MODEL), "lea")
    want_first_candidates(lea)
    with pytest.raises(Conflict) as refusal:
        rate(lea, act("write", text="Mine."))
    assert refusal.value.code == "candidates_coming"
    request = take_request(CandidateRequest.objects.get().pk)
    assert request is not None
    fail_request(request, "The endpoint does not answer.")
    (waiting,) = item_payload(fresh(lea))["waiting"]
    assert (waiting["state"], waiting["message"]) == ("failed", "The endpoint does not answer.")
    retry_candidates(lea)
    assert CandidateRequest.objects.get().state == "queued"
    CandidateRequest.objects.update(state="failed")
    rate(lea, act("write", text="Mine."))
    assert CandidateRequest.objects.latest("id").parent == step("Mine.")


@pytest.mark.usefixtures("endpoint")
def test_candidates_that_come_after_an_own_step_disturb_nobody() -> None:
    campaign = open_campaign(steps=[], **FROM_MODEL)
    lea, max_ = claimed(campaign, "lea"), claimed(campaign, "max")
    want_first_candidates(lea)
    CandidateRequest.objects.update(state="failed")
    rate(lea, act("write", text="Mine.\n\n# Answer\n\n2"))
    retry_candidates(max_)
    fetched("One.")
    rate(max_, rating(step("One."), 1))
    assert submit_labeling(lea, ending("solution")).state == "submitted"


@pytest.mark.usefixtures("endpoint")
def test_the_first_error_of_a_ready_solution_asks_for_alternatives_and_critiques() -> None:
    campaign = make_campaign(critiques="optional", audit_per_generation=0, **FROM_MODEL)
    import_rows(campaign, [simple_row(TEXT, ["One.", "Two."])])
    lea = claimed(activate_campaign(campaign, actor=None), "lea")
    rate(lea, rating(step("One."), 1), rating(step("Two."), -1))
    asked = {(request.kind, request.parent) for request in CandidateRequest.objects.all()}
    assert asked == {("steps", step("One.")), ("critiques", step("Two."))}
