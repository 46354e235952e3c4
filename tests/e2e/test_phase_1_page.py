"""Phase 1 in a real browser: choosing among candidates, writing a step where none is good, waiting for a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from annotator import tasks
from annotator.actions.campaigns import activate_campaign
from annotator.models import CandidateRequest, Job, Labeling, Rating
from tests.annotator.cast import import_rows, make_campaign, make_member, problem_texts, simple_row
from tests.e2e.labeler import Labeler

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.endpoint import ModelEndpoint

FINAL = "So it is 2.\n\n# Answer\n\n2"
STEPS = ["Add $1$ and $1$.", "That is $2$.", FINAL]
BESIDE = [["Count to $1$.", "Guess."], ["That is $3$."], None]


@pytest.fixture
def sit(page: Page, transactional_db: None, live_server: Any) -> Callable[..., Labeler]:
    """Call it for a labeler at the page of a campaign with these settings."""

    def down(rows: list[dict[str, Any]] | None = None, *, people: int = 1, **settings: Any) -> Labeler:
        campaign = make_campaign(phase=1, audit_per_generation=0, **settings)
        members = [make_member(campaign, name) for name in ("ada", "ben")[:people]]
        import_rows(
            campaign, rows or [simple_row(text, STEPS, alternatives=BESIDE) for text in problem_texts("train", 2)]
        )
        activate_campaign(campaign, actor=None)
        Job.objects.all().delete()  # no worker is here to do them
        return Labeler(page, members[0], live_server.url).open()

    return down


def cards(ada: Labeler) -> list[str]:
    """The candidates that can be seen, all steps of the way."""
    texts: list[str] = ada.page.evaluate(
        """() => [...document.querySelectorAll("#steps .card")].filter((card) => card.checkVisibility()).map((card) => {
             const text = card.querySelector(".card-text").cloneNode(true);
             for (const one of text.querySelectorAll(".katex-html")) one.remove();
             for (const one of text.querySelectorAll("mrow")) one.remove();
             return text.textContent.trim();
           })"""
    )
    return texts


def outcome(labeling: Labeling) -> list[tuple[dict[str, int | None], str]]:
    """Of each step: the ratings of its candidates, and the text that continued."""
    found = []
    for step in labeling.steps.order_by("step_index"):
        rows = Rating.objects.filter(labeling=labeling, step_index=step.step_index).order_by("position")
        way = step.chosen or step.human
        found.append((dict(rows.values_list("completion__text", "value")), way.text if way else ""))
    return found


def test_a_session_by_keyboard_alone(sit: Callable[..., Labeler]) -> None:
    """A + that continues at once; a grid with two good ones, of which one is chosen; a step of one's own."""
    ada = sit()
    problem = ada.problem
    assert ada.heard == "New problem. Rate the candidates for the first step."
    assert cards(ada) == ["Add 1 and 1."]
    assert ada.submit == "Rate every candidate shown"
    ada.press("2")  # neutral: the others come
    assert cards(ada) == ["Add 1 and 1.", "Count to 1.", "Guess."]
    ada.press("Enter", "3", "1")
    assert cards(ada) == ["Count to 1."]  # the one good candidate continues, and nothing was imported behind it
    assert ada.submit == "Write the next step"
    ada.press("w", "w", "w", "3")  # the first was good after all: two are
    assert ada.heard == "Step 1, candidate 1: good. Several are good. Choose the one that continues."
    ada.press("1")
    assert cards(ada) == ["Add 1 and 1.", "That is 2."]
    ada.press("1", "u", "1")
    assert ada.submit == "Write the next step"
    expect(ada.page.locator(".write-why")).to_have_text("None of these is good, so the next step is yours to write.")
    ada.press("Enter")
    ada.page.keyboard.type("It is $1 + 1 = 2$, 123 zu.")
    expect(ada.page.locator(".write .field-preview .katex")).to_have_count(1)
    ada.press("Enter")
    expect(ada.page.locator(".own-step:visible .katex")).to_have_count(1)
    ada.press("4")
    ada.page.keyboard.type("# Answer")
    ada.press("Shift+Enter")
    ada.page.keyboard.type("2")
    ada.press("Enter")
    assert ada.submit == "Submit: the solution is complete"
    ada.press("Enter")
    labeling = ada.submitted(problem)
    assert labeling.finish_reason == "solution"
    assert outcome(labeling) == [
        ({"Add $1$ and $1$.": 1, "Count to $1$.": 1, "Guess.": -1}, "Add $1$ and $1$."),
        ({"That is $2$.": -1, "That is $3$.": -1}, "It is $1 + 1 = 2$, 123 zu."),
        ({}, "# Answer\n2"),
    ]
    assert Rating.objects.get(labeling=labeling, completion__text="That is $3$.").flagged
    second = ada.next_after(problem)
    ada.press("3", "3", "3")  # straight on
    assert ada.heard == "Step 3, candidate 1: good. Nothing is missing. Press Enter to submit."
    ada.press("Enter")
    assert [way for _, way in outcome(ada.submitted(second))] == STEPS


def test_always_a_grid(sit: Callable[..., Labeler]) -> None:
    ada = sit(always_grid=True)
    problem = ada.problem
    assert len(cards(ada)) == 3
    ada.press("3", "2")
    assert len(cards(ada)) == 3  # every one has to be rated
    ada.press("1")
    assert cards(ada)[-2:] == ["That is 2.", "That is 3."]
    ada.press("3", "1", "3", "Enter")
    assert [ratings for ratings, _ in outcome(ada.submitted(problem))] == [
        {"Add $1$ and $1$.": 1, "Count to $1$.": 0, "Guess.": -1},
        {"That is $2$.": 1, "That is $3$.": -1},
        {FINAL: 1},
    ]


def test_a_draw_chooses_among_the_good(sit: Callable[..., Labeler]) -> None:
    steps, beside = ["One.", FINAL], [["Uno.", "Une."], None]
    rows = [simple_row(text, steps, alternatives=beside) for text in problem_texts("train", 1)]
    ada = sit(rows, always_grid=True, continue_by="draw")
    problem = ada.problem
    ada.press("3", "3", "3")
    assert ada.submit != "Choose what continues"
    drawn = ada.page.inner_text("#steps .is-chosen .card-text")
    ada.saved()
    ada.page.reload()
    ada.ready()
    assert ada.page.inner_text("#steps .is-chosen .card-text") == drawn
    if drawn == "One.":
        ada.press("3")
    else:
        ada.press("4")
        ada.page.keyboard.type("# Answer")
        ada.press("Enter")
    ada.press("Enter")
    assert outcome(ada.submitted(problem))[0] == ({"One.": 1, "Uno.": 1, "Une.": 1}, drawn)


def test_the_choice_can_be_made_by_mouse_and_changed(sit: Callable[..., Labeler]) -> None:
    ada = sit(always_grid=True)
    problem, page = ada.problem, ada.page
    ada.press("3", "3", "1")
    assert ada.submit == "Choose what continues"
    picks = page.get_by_role("button", name="continue with this")
    expect(picks).to_have_count(2)
    picks.nth(1).click()
    assert ada.submit == "Write the next step"
    ada.press("z")
    expect(picks).to_have_count(2)
    ada.press("ArrowUp", "Enter")  # Enter chooses what is marked
    assert cards(ada) == ["Add 1 and 1.", "That is 2.", "That is 3."]
    page.locator("#steps .card:visible").nth(1).get_by_role("button", name="good").click()
    page.locator("#steps .card:visible").nth(2).get_by_role("button", name="bad").click()
    ada.press("3", "Enter")
    assert [way for _, way in outcome(ada.submitted(problem))] == STEPS


def test_an_earlier_step_is_corrected_and_undo_brings_the_rest_back(sit: Callable[..., Labeler]) -> None:
    ada = sit()
    ada.press("3", "3", "3")
    assert cards(ada) == ["Add 1 and 1.", "That is 2.", "So it is 2.Answer 2"]
    ada.press("ArrowUp", "ArrowUp", "ArrowUp", "1")  # the first step was wrong: what followed it goes
    assert cards(ada) == ["Add 1 and 1.", "Count to 1.", "Guess."]
    ada.press("z")
    assert cards(ada) == ["Add 1 and 1.", "That is 2.", "So it is 2.Answer 2"]
    ada.saved()
    assert sorted(rating.value for rating in ada.said().ratings.values()) == [1, 1, 1]
    ada.page.reload()
    ada.ready()
    assert len(cards(ada)) == 3
    assert ada.submit == "Submit: the solution is complete"


def test_an_own_step_can_be_taken_back_and_is_kept_while_it_is_written(sit: Callable[..., Labeler]) -> None:
    ada = sit()
    ada.press("1", "1", "1", "4")
    ada.page.keyboard.type("Half a thou")
    ada.press("Escape")
    ada.page.reload()
    ada.ready()
    ada.press("4")
    expect(ada.page.get_by_label("The next step, in your own words")).to_have_value("Half a thou")
    ada.page.keyboard.type("ght.")
    ada.press("Enter")
    expect(ada.page.locator(".own-step:visible")).to_contain_text("Half a thought.")
    ada.press("z")
    expect(ada.page.locator(".own-step:visible")).to_have_count(0)
    assert ada.submit == "Write the next step"
    ada.saved()
    assert ada.said().written == {}


def test_an_answer_of_the_server_does_not_take_the_caret_away(
    sit: Callable[..., Labeler], console_errors: list[str]
) -> None:
    ada = sit()
    ada.page.context.set_offline(True)  # so that all three are on their way while the labeler types
    ada.press("1", "1", "1", "4")
    ada.page.keyboard.type("Half a ")
    ada.page.context.set_offline(False)
    ada.page.evaluate("dispatchEvent(new Event('online'))")
    ada.saved()
    ada.page.keyboard.type("thought.")
    expect(ada.page.get_by_label("The next step, in your own words")).to_have_value("Half a thought.")
    console_errors.clear()


# --- Candidates of a model -------------------------------------------------------------------------------------------


@pytest.fixture
def bare(settings: Any, model_endpoint: ModelEndpoint, sit: Callable[..., Labeler]) -> Labeler:
    """A bare problem, whose candidates a model writes."""
    model_endpoint.answers = ["Add them.", "Guess."]
    settings.CANDIDATE_ENDPOINT_URL = model_endpoint.url
    rows = [{"problem": text, "ground_truth_answer": "2"} for text in problem_texts("train", 1)]
    return sit_bare(sit, rows)


def sit_bare(sit: Callable[..., Labeler], rows: list[dict[str, Any]]) -> Labeler:
    return sit(rows, candidate_source="endpoint", candidate_model="m", candidates_shown=2)


def work(ada: Labeler) -> None:
    """What a worker does with the request that waits."""
    waiting = CandidateRequest.objects.filter(state="queued")
    ada.eventually(waiting.exists)
    tasks.fetch_candidates(waiting.get().pk)


def test_candidates_of_a_model_come_by_themselves(bare: Labeler, model_endpoint: ModelEndpoint) -> None:
    ada, problem = bare, bare.problem
    expect(ada.page.locator(".awaited-what")).to_have_text("Candidates are on their way…")
    ada.press("3", "Enter")  # nothing to rate yet
    work(ada)
    expect(ada.page.locator("#steps .card-text:visible")).to_have_text(["Add them."])
    assert ada.heard == "Step 1, candidate 1 is next."
    model_endpoint.answers = [FINAL]
    ada.press("3")
    expect(ada.page.locator(".awaited-what")).to_have_text("Candidates are on their way…")
    work(ada)
    expect(ada.page.locator("#steps .card:visible")).to_have_count(2)
    ada.press("3", "Enter")
    assert outcome(ada.submitted(problem)) == [({"Add them.": 1}, "Add them."), ({FINAL: 1}, FINAL)]


def test_a_dead_endpoint_lets_one_ask_again_or_write_or_give_up(bare: Labeler, model_endpoint: ModelEndpoint) -> None:
    ada, problem, page = bare, bare.problem, bare.page
    model_endpoint.status = 500
    work(ada)
    expect(page.locator(".awaited-what")).to_contain_text("Write the step yourself, ask again, or give up.")
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".awaited-what")).to_have_text("Candidates are on their way…")
    work(ada)
    expect(page.locator(".awaited-what")).to_contain_text("Write the step yourself")
    ada.press("Enter")
    page.keyboard.type("Add them.")
    ada.press("Enter")
    expect(page.locator(".own-step:visible")).to_have_text(["your stepAdd them."])
    work(ada)  # for what follows the written step
    expect(page.locator(".awaited-what")).to_contain_text("Write the step yourself")
    model_endpoint.status = 200
    model_endpoint.answers = [FINAL]
    page.get_by_role("button", name="Ask again").click()
    ada.eventually(lambda: CandidateRequest.objects.filter(state="queued").count() == 2)
    for request in CandidateRequest.objects.filter(state="queued"):
        tasks.fetch_candidates(request.pk)
    expect(page.locator("#steps .card-text:visible")).to_have_count(2)
    ada.press("3", "Enter")
    labeling = ada.submitted(problem)
    assert outcome(labeling) == [({}, "Add them."), ({FINAL: 1}, FINAL)]


def test_giving_up_is_open_while_candidates_are_awaited(bare: Labeler) -> None:
    problem = bare.problem
    expect(bare.page.locator(".awaited-what")).to_be_visible()
    bare.press("x", "1", "Enter")
    assert bare.submitted(problem).finish_reason == "give_up"


def test_what_is_typed_stays_when_candidates_are_on_their_way_after_all(
    bare: Labeler, model_endpoint: ModelEndpoint
) -> None:
    """Somebody else, in another tab, has asked again: the step may not be needed, and is not thrown away."""
    ada, page = bare, bare.page
    model_endpoint.status = 500
    work(ada)
    expect(page.locator(".awaited-what")).to_contain_text("Write the step yourself")
    ada.press("4")
    page.keyboard.type("Half a thought")
    ada.press("Escape")
    model_endpoint.status = 200
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".awaited-what")).to_have_text("Candidates are on their way…")
    ada.press("4", "Enter")
    expect(page.locator(".write-form")).to_be_hidden()
    work(ada)
    expect(page.locator("#steps .card-text:visible")).to_have_text(["Add them."])
    ada.press("1", "1", "4")
    expect(page.get_by_label("The next step, in your own words")).to_have_value("Half a thought")
    ada.press("Enter")
    expect(page.locator(".own-step:visible")).to_contain_text("Half a thought")
    ada.saved()
    assert list(ada.said().texts.values()) == ["Half a thought"]


def test_imported_candidates_are_not_awaited_without_a_network(
    sit: Callable[..., Labeler], console_errors: list[str]
) -> None:
    ada = sit()
    problem = ada.problem
    ada.page.context.set_offline(True)
    ada.press("2", "3", "1")  # nothing was imported behind the second
    expect(ada.page.locator(".write-why")).to_have_text(
        "There are no candidates here: the next step is yours to write."
    )
    ada.press("4")
    ada.page.keyboard.type("# Answer")
    ada.press("Enter")
    assert ada.submit == "Submit: the solution is complete"
    ada.page.context.set_offline(False)
    ada.press("Enter")
    assert outcome(ada.submitted(problem))[-1] == ({}, "# Answer")
    console_errors.clear()
