"""What the labeling page asks after the first bad step, and what it asks where only some steps are marked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from annotator import tasks
from annotator.actions.campaigns import activate_campaign
from annotator.models import CandidateRequest, CritiqueRating, Labeling, QueueItem
from tests.annotator.cast import import_rows, make_campaign, make_member, problem_texts, simple_row
from tests.e2e.labeler import Labeler, ratings_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.endpoint import ModelEndpoint

STEPS = ["Add one.", "That is $3$.", "It is odd.", "So it is prime.", "So the answer is 2.\n\n# Answer\n\n2"]
ALTERNATIVES = [None, ["That is $2$.", "That is two."], None, None, None]
CRITIQUES = [["It adds nothing."], ["One and one are two.", "It is not a number."], None, None, None]
ALL = ("progress", "critiques", "alternatives")

Sit = Callable[..., Labeler]


@pytest.fixture
def sit(page: Page, transactional_db: None, live_server: Any) -> Sit:
    """Call it for a labeler at the page of a campaign with these settings."""

    def down(targets: list[int] | None = None, **settings: Any) -> Labeler:
        campaign = make_campaign(audit_per_generation=0, **settings)
        member = make_member(campaign, "ada")
        row = {"alternatives": ALTERNATIVES, "critiques": CRITIQUES}
        import_rows(campaign, [simple_row(text, STEPS, **row) for text in problem_texts("train", 2)])
        activate_campaign(campaign, actor=None)
        QueueItem.objects.update(target_steps=targets)
        return Labeler(page, member, live_server.url).open()

    return down


def panel(ada: Labeler) -> str:
    """The heading of the panel that is being answered."""
    return ada.page.inner_text(".panel.is-active h3")


def answered(ada: Labeler) -> list[str]:
    """The values of what is pressed in the panels, top to bottom."""
    values: list[str] = ada.page.evaluate(
        """() => [...document.querySelectorAll("#steps .panel:not([hidden]) [aria-pressed=true]")]
             .map((button) => button.dataset.value)"""
    )
    return values


# --- After the first − -----------------------------------------------------------------------------------------------


def test_all_three_are_answered_by_keyboard(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "required"))
    problem = ada.problem
    ada.press("3", "1")
    assert panel(ada) == "How far had the solution come?"
    assert ada.submit == "Say how far it had come"
    ada.press("Enter")  # it has to be answered
    ada.press("3")
    assert panel(ada) == "What is wrong with this step? Rate each explanation."
    assert ada.heard.endswith("What is wrong with this step? Rate each explanation. Critique 1.")
    ada.press("2", "1")
    assert ada.submit == "Rate the critiques, or write one"
    ada.press("Enter")  # none fits: one has to be written
    ada.page.keyboard.type("1 + 1 is 2, z.")
    ada.press("Enter")
    assert panel(ada) == "What could come instead? Rate each next step."
    ada.press("Enter", "u", "3")
    assert ada.submit == "Rate the next steps offered"
    ada.press("2")
    assert ada.submit == "Submit: first error at step 2"
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert (labeling.finish_reason, labeling.progress, labeling.own_critique) == ("found_error", 2, "1 + 1 is 2, z.")
    said = labeling.ratings.order_by("step_index", "position").values_list("completion__text", "value", "flagged")
    assert list(said) == [
        ("Add one.", 1, None),
        ("That is $3$.", -1, None),
        ("That is $2$.", 1, True),
        ("That is two.", 0, False),
    ]
    critiques = CritiqueRating.objects.filter(labeling=labeling).order_by("critique__position")
    assert list(critiques.values_list("critique__text", "value")) == [
        ("One and one are two.", 0),
        ("It is not a number.", -1),
    ]


def test_a_critique_that_fits_needs_no_words_of_ones_own(sit: Sit) -> None:
    ada = sit(critiques="required", alternatives="off")
    problem = ada.problem
    ada.press("3", "1", "1", "3")
    assert ada.submit == "Submit: first error at step 2"
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert labeling.own_critique == ""
    assert CritiqueRating.objects.filter(labeling=labeling).count() == 2


def test_what_is_optional_is_passed_by_enter(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "optional"))
    problem = ada.problem
    ada.press("3", "1")
    for heading in ("How far had", "What is wrong", "What could come"):
        assert panel(ada).startswith(heading)
        assert ada.submit == "Go on without"
        ada.press("Enter")
    assert ada.submit == "Submit: first error at step 2"
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert (labeling.progress, labeling.own_critique, ratings_of(labeling)) == (None, "", [1, -1])
    assert not CritiqueRating.objects.exists()


def test_what_was_passed_is_not_asked_again_when_a_labeling_is_corrected(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "optional"))
    problem = ada.problem
    ada.press("3", "1", "Enter", "Enter", "Enter", "Enter")
    labeling = ada.submitted(problem)
    ada.visit(f"?assignment={labeling.assignment_id}").ready()
    assert ada.page.locator(".panel.is-active").count() == 0
    for _ in range(12):
        ada.press("ArrowUp")
    ada.press("1")  # the first step now: other follow-ups
    assert panel(ada).startswith("How far had")


def test_a_panel_without_content_or_switched_off_does_not_come(sit: Sit) -> None:
    ada = sit(critiques="required", alternatives="required", progress="off")
    problem = ada.problem
    ada.press("3", "3", "1")  # step 3 has neither critiques nor alternatives
    assert ada.page.locator(".panel").count() == 0
    ada.press("Enter")
    assert ratings_of(ada.submitted(problem)) == [1, 1, -1]


def test_undo_after_a_mis_hit_closes_the_panels_and_brings_the_ratings_back(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "required"))
    ada.press("3", "3", "2", "w", "w", "1")  # − for the step above was not meant
    assert ada.shown == [1, -1, None, None, None]
    ada.press("3", "3", "2")  # and went on before it was seen
    assert answered(ada) == ["2", "1", "0"]
    ada.press("z", "z", "z")
    assert answered(ada) == []
    ada.press("z")
    assert ada.page.locator(".panel").count() == 0
    assert ada.shown == [1, 1, 0, None, None]
    ada.drafted([1, 1, 0])
    ada.page.reload()
    ada.ready()
    assert ada.shown == [1, 1, 0, None, None]


def test_undo_brings_back_the_panels_that_a_correction_took_away(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "required"))
    ada.press("3", "1", "4", "3", "2", "3", "3")
    before = answered(ada)
    assert before == ["3", "1", "0", "1", "1"]
    ada.page.click("#steps > .step:nth-child(1) .step-text")
    ada.press("1")  # the first step is wrong already
    assert ada.shown[0] == -1
    assert answered(ada) == []
    ada.press("z")
    assert ada.shown == [1, -1, None, None, None]
    assert answered(ada) == before
    ada.page.click("#steps > .step:nth-child(2) .step-text")
    ada.press("3")  # no error at all: the rest opens again
    assert ada.page.locator(".panel").count() == 0
    assert ada.current == "3"
    ada.press("z")
    assert answered(ada) == before
    ada.saved()
    assert (ada.said().progress, sorted(ada.said().critiques.values())) == (3, [0, 1])


def test_answers_survive_a_reload_and_can_be_changed(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "optional"))
    problem = ada.problem
    ada.press("3", "1", "1", "1", "1")
    ada.press("4")  # words of one's own
    ada.page.keyboard.type("Not")
    ada.page.keyboard.press("Shift+Enter")
    ada.page.keyboard.type("$2$.")
    expect(ada.page.locator(".panel .field-preview .katex")).to_have_count(1)
    ada.press("Escape")  # leaving the field says it
    ada.saved()
    ada.page.reload()
    ada.ready()
    assert answered(ada) == ["0", "-1", "-1"]
    assert panel(ada).startswith("What could come")
    ada.press("Enter")
    for _ in range(9):
        ada.press("ArrowUp")
    ada.press("ArrowDown", "ArrowDown", "4")  # step 1, step 2, progress
    assert answered(ada)[0] == "3"
    ada.press("Enter", "Enter")
    labeling = ada.submitted(problem)
    assert (labeling.progress, labeling.own_critique) == (3, "Not\n$2$.")


def test_the_mouse_answers_as_well(sit: Sit) -> None:
    ada = sit(**dict.fromkeys(ALL, "required"))
    problem, page = ada.problem, ada.page
    ada.press("3", "1")
    page.get_by_role("button", name="a little").click()
    cards = page.locator(".panel.is-active .card")
    cards.nth(0).get_by_role("button", name="bad").click()
    cards.nth(1).get_by_role("button", name="bad").click()
    page.get_by_label("Say it in your own words").fill("No.")
    page.get_by_role("button", name="Keep Enter").click()
    for place in range(2):
        page.locator(".panel.is-active .card").nth(place).get_by_role("button", name="good").click()
    page.click("#submit")
    labeling = ada.submitted(problem)
    assert (labeling.progress, labeling.own_critique) == (1, "No.")
    assert ratings_of(labeling) == [1, -1, 1, 1]


def test_alternatives_of_a_model_come_while_the_labeler_goes_on(
    page: Page, transactional_db: None, live_server: Any, settings: Any, model_endpoint: ModelEndpoint
) -> None:
    model_endpoint.answers = ["That is $2$.", "That is two."]
    settings.CANDIDATE_ENDPOINT_URL = model_endpoint.url
    campaign = make_campaign(
        audit_per_generation=0, candidate_source="endpoint", candidate_model="m", alternatives="required"
    )
    member = make_member(campaign, "ada")
    import_rows(campaign, [simple_row(text, STEPS) for text in problem_texts("train", 2)])
    activate_campaign(campaign, actor=None)
    ada = Labeler(page, member, live_server.url).open()
    problem = ada.problem
    ada.press("3", "1")
    expect(page.locator(".panel-coming")).to_be_visible()
    assert ada.submit == "Go on without waiting"
    ada.eventually(CandidateRequest.objects.exists)
    tasks.fetch_candidates(CandidateRequest.objects.get().pk)
    expect(page.locator(".panel .card")).to_have_count(2)
    ada.press("3", "2", "Enter")
    assert ratings_of(ada.submitted(problem)) == [1, -1, 1, 0]


def test_what_is_being_written_stays_when_alternatives_are_announced(
    page: Page, transactional_db: None, live_server: Any, settings: Any, model_endpoint: ModelEndpoint
) -> None:
    model_endpoint.answers = ["That is $2$.", "That is two."]
    settings.CANDIDATE_ENDPOINT_URL = model_endpoint.url
    campaign = make_campaign(
        audit_per_generation=0,
        candidate_source="endpoint",
        candidate_model="m",
        **dict.fromkeys(("critiques", "alternatives"), "optional"),
    )
    member = make_member(campaign, "ada")
    import_rows(campaign, [simple_row(text, STEPS, critiques=CRITIQUES) for text in problem_texts("train", 2)])
    activate_campaign(campaign, actor=None)
    ada = Labeler(page, member, live_server.url).open()
    ada.press("3", "1", "1", "1", "4")
    page.keyboard.type("One and")
    expect(page.locator(".panel")).to_have_count(2)  # the page knows now that alternatives are on their way
    page.keyboard.type(" one.")
    expect(page.get_by_label("Say it in your own words")).to_have_value("One and one.")
    page.keyboard.press("Enter")
    tasks.fetch_candidates(CandidateRequest.objects.get(kind="steps").pk)
    expect(page.locator(".panel .card")).to_have_count(4)
    ada.saved()
    assert ada.said().own_critique == "One and one."


# --- Targeted --------------------------------------------------------------------------------------------------------


def test_only_the_marked_steps_are_asked_and_the_others_can_be_read(sit: Sit) -> None:
    ada = sit(targets=[1, 3], scope="targeted")
    problem, steps = ada.problem, ada.page.locator("#steps > .step")
    assert ada.current == "2"
    expect(ada.page.locator("#steps > .is-context")).to_have_count(3)
    ada.page.get_by_role("button", name="Step 3 in full").click()
    expect(steps.nth(2)).to_have_class(re.compile("is-context is-unfolded"))
    ada.press("4")
    expect(ada.page.locator("#steps > .is-context.is-unfolded")).to_have_count(3)
    ada.press("4")
    expect(ada.page.locator("#steps > .is-context.is-unfolded")).to_have_count(0)
    ada.press("u", "3")
    assert ada.current == "4"
    assert ada.submit == "Rate the steps that are asked for"
    ada.press("2")
    assert ada.submit == "Submit: none of these is bad"
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert (labeling.scope, labeling.finish_reason) == ("targeted", "")
    assert list(labeling.ratings.order_by("step_index").values_list("step_index", "value", "flagged")) == [
        (1, 1, True),
        (3, 0, None),
    ]


def test_a_bad_target_ends_the_solution_without_follow_ups(sit: Sit) -> None:
    ada = sit(targets=[1, 3], scope="targeted", **dict.fromkeys(ALL, "required"))
    problem = ada.problem
    ada.press("1")
    assert ada.page.locator(".panel").count() == 0
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert (labeling.finish_reason, ratings_of(labeling)) == ("found_error", [-1])


def test_one_key_says_that_an_earlier_step_is_wrong(sit: Sit) -> None:
    ada = sit(targets=[1, 3], scope="targeted")
    problem = ada.problem
    ada.press("3", "e")
    assert ada.heard.startswith("Which earlier step is wrong?")
    assert (ada.current, ada.submit) == ("3", "Step 3 is already wrong")
    ada.press("3", "2")  # only − makes sense here
    assert ada.shown == [None, 1, None, None, None]
    ada.press("e")  # thinks again
    assert ada.current == "4"
    ada.press("e", "Escape")
    assert ada.current == "4"
    ada.press("e", "w", "w", "s", "s", "Enter")
    assert ada.shown == [None, 1, -1, None, None]
    assert ada.submit == "Submit: first error at step 3"
    ada.press("z")
    assert ada.shown == [None, 1, None, None, None]
    ada.press("e", "w", "w", "1")
    assert ada.shown == [-1, None, None, None, None]
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert labeling.finish_reason == "found_error"
    assert list(labeling.ratings.values_list("step_index", "value")) == [(0, -1)]
    assert Labeling.objects.filter(state="submitted").count() == 1
