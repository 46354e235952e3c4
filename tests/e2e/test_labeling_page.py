"""The labeling page in a real browser: judging ready solutions by key, mouse, touch and ear."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from annotator.actions.campaigns import activate_campaign, publish_guideline
from annotator.actions.queue import claim_next
from annotator.models import Assignment, Campaign, Job, Labeling, Membership, Report, User
from prm_backend.types import split_of_problem
from tests.annotator.cast import import_rows, make_campaign, make_member, problem_texts, simple_row
from tests.e2e.labeler import Labeler, ratings_of, sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Page

STEPS = [
    "Let $x = 3$, so $x^2 = 9$.",
    "A pen costs $5 and a book costs $7.",
    r"Then \[\frac{9}{3} = 3.\]",
    "So the answer is 2.\n\n# Answer\n\n2",
]
Rows = list[dict[str, Any]]


@pytest.fixture
def member(transactional_db: None) -> Membership:
    return labeler_of([simple_row(text, STEPS) for text in problem_texts("train", 3)])


@pytest.fixture
def ada(page: Page, member: Membership, live_server: Any) -> Labeler:
    return Labeler(page, member, live_server.url).open()


def labeler_of(rows: Rows, **settings: Any) -> Membership:
    """The labeler of a campaign with these solutions."""
    campaign = make_campaign(audit_per_generation=0, **settings)
    member = make_member(campaign, "ada")
    import_rows(campaign, rows)
    activate_campaign(campaign, actor=None)
    Job.objects.all().delete()  # no worker is here to do them
    return member


# --- Rating ----------------------------------------------------------------------------------------------------------


def test_a_session_by_keyboard_alone(ada: Labeler) -> None:
    first = ada.problem
    ada.press("3", "2", "3")
    assert ada.current == "4"
    assert ada.submit == "Find the first bad step, or rate all"
    ada.press("Enter")  # nothing to submit yet
    ada.press("3")
    assert ada.submit == "Submit: no error"
    ada.press("Enter")
    second = ada.next_after(first)
    ada.press("3", "1")
    assert ada.submit == "Submit: first error at step 2"
    assert ada.page.locator("#steps > .is-after-error").count() == 2
    ada.press("c")
    ada.page.keyboard.type("I like 3 of them.")
    ada.press("Tab", "Enter", "Space")
    third = ada.next_after(second)
    ada.press("u", "2", "3", "3", "w", "s", "u", "u", "z", "z", "3", "3", "3", "Enter")
    ada.see("#waiting")
    assert ada.page.inner_text(".waiting-what") == "Everything selected so far is labeled."
    found = {problem: ada.submitted(problem) for problem in (first, second, third)}
    assert [labeling.finish_reason for labeling in found.values()] == ["solution", "found_error", "solution"]
    assert [ratings_of(labeling) for labeling in found.values()] == [[1, 0, 1, 1], [1, -1], [0, 1, 1, 1]]
    assert found[second].comment == "I like 3 of them."
    assert all(0 < labeling.active_ms <= labeling.wall_ms for labeling in found.values())
    expect(ada.page.locator("#today")).to_have_text("3")


def test_earlier_ratings_are_corrected_in_place(ada: Labeler) -> None:
    ada.press("3", "3", "1", "ArrowUp", "w", "2")  # back to the first step: neutral after all
    assert ada.shown == [0, 1, -1, None]
    ada.press("ArrowDown", "3")  # and the step that was bad is good: the rest opens again
    assert ada.shown == [0, 1, 1, None]
    assert ada.current == "4"
    ada.press("ArrowUp", "ArrowUp", "1")  # no: the second was the first error
    assert ada.shown == [0, -1, None, None]
    ada.drafted([0, -1])


def test_undo_brings_back_what_a_correction_took_away_even_after_a_reload(ada: Labeler) -> None:
    ada.press("3", "2", "3", "ArrowUp", "ArrowUp", "ArrowUp", "1")
    assert ada.shown == [-1, None, None, None]
    ada.press("z")
    assert ada.shown == [1, 0, 1, None]
    ada.drafted([1, 0, 1])
    ada.page.reload()
    ada.ready()
    assert ada.shown == [1, 0, 1, None]
    ada.press("z")
    assert ada.shown == [1, 0, None, None]
    assert ada.current == "3"
    ada.drafted([1, 0])
    ada.press("z", "z", "z", "z")
    assert ada.shown == [None] * 4
    ada.drafted([])


def test_unsure_goes_with_the_rating_and_arrives_as_a_report(ada: Labeler) -> None:
    problem = ada.problem
    ada.press("u", "3", "3", "ArrowUp", "u")
    assert ada.page.locator("#steps .unsure-mark:visible").count() == 2
    ada.press("u", "ArrowDown", "1", "Enter")
    labeling = ada.submitted(problem)
    assert list(labeling.ratings.order_by("step_index").values_list("value", "flagged")) == [
        (1, True),
        (1, None),
        (-1, None),
    ]
    report = Report.objects.get()
    assert (report.kind, report.completion and report.completion.step_index) == ("unsure", 0)


def test_the_mouse_does_the_same_and_leaves_enter_alone(ada: Labeler) -> None:
    problem, page = ada.problem, ada.page
    page.click("#steps .is-current .rate[data-value='1']")
    page.click("#bar [data-act=neutral]")
    assert ada.shown[:2] == [1, 0]
    expect(page.locator("#steps > .step:nth-child(4) .rate[data-value='1']")).to_be_disabled()
    page.click("#steps > .step:nth-child(1) .step-text", position={"x": 2, "y": 2})
    assert ada.current == "1"
    page.click("#bar [data-act=bad]")
    ada.press("Enter")
    assert ratings_of(ada.submitted(problem)) == [-1]


def test_keys_rest_while_typing_and_with_modifiers(ada: Labeler) -> None:
    page = ada.page
    ada.press("Control+3", "Alt+3", "Meta+3", "9")
    assert ada.shown == [None] * 4
    ada.press("x")
    page.click("#give_up-more")
    page.keyboard.type("1 2 3 z u")
    ada.press("Escape")
    expect(page.locator("#dialog-give_up")).to_be_hidden()
    ada.press("g")
    ada.see("#dialog-guideline")
    ada.press("1", "g")
    expect(page.locator("#dialog-guideline")).to_be_hidden()
    ada.press("?")
    ada.see("#dialog-keys")
    ada.press("3", "Escape")
    expect(page.locator("#dialog-keys")).to_be_hidden()
    assert ada.shown == [None] * 4
    ada.press("3")
    assert ada.shown == [1, None, None, None]


def test_a_key_that_is_held_or_hit_twice_rates_once(ada: Labeler) -> None:
    ada.page.keyboard.down("3")
    ada.page.keyboard.down("3")  # as a held key repeats
    ada.page.keyboard.up("3")
    assert ada.shown == [1, None, None, None]
    problem = ada.problem
    ada.press("1")
    ada.laid_out_ahead()
    ada.press("Enter", "Enter", "Enter")
    second = ada.next_after(problem)
    ada.submitted(problem)
    assert ada.problem == second
    assert ada.shown == [None] * 4
    assert Labeling.objects.filter(state="submitted").count() == 1


def test_a_wrong_final_answer_is_asked_about_once_more(page: Page, transactional_db: None, live_server: Any) -> None:
    wrong, right = problem_texts("train", 2)
    rows = [simple_row(wrong, STEPS, final_answer_correct=False), simple_row(right, STEPS, final_answer_correct=True)]
    ada = Labeler(page, labeler_of(rows), live_server.url).open()
    for _ in range(2):
        problem = ada.problem
        ada.press("3", "3", "3", "3", "Enter")
        if problem == wrong:
            ada.see("#differs")
            assert ada.heard.startswith("The final answer is not the reference answer.")
            assert ada.submit == "Yes: no error, submit"
            ada.press("ArrowUp")  # thinks again
            expect(page.locator("#differs")).to_be_hidden()
            ada.press("Enter")
            ada.see("#differs")
            ada.press("Enter")
        assert ada.submitted(problem).finish_reason == "solution"
        expect(page.locator("#steps .rate[aria-pressed=true]")).to_have_count(0)


# --- Reasons, reports, comments, skips -------------------------------------------------------------------------------


def test_what_managers_should_look_at_arrives_as_reports(ada: Labeler) -> None:
    """All by keyboard: giving up, a bad problem, and a wrong answer with a comment."""
    given_up, page = ada.problem, ada.page
    ada.press("x")
    expect(page.locator("#dialog-give_up [value=send]")).to_be_disabled()
    ada.press("3", "Tab")
    page.keyboard.type("needs a computer")
    ada.press("Tab", "Enter")
    bad = ada.next_after(given_up)
    ada.press("b", "2", "Enter")
    answered = ada.next_after(bad)
    ada.press("a", "Tab")
    ada.see("#dialog-report_answer")
    page.keyboard.type("It is 4.")
    ada.press("Tab", "Enter")
    expect(page.locator("#reference")).to_contain_text("reported as wrong")
    ada.press("c")
    page.keyboard.type("Nice problem.")
    ada.press("Tab", "Enter", "1", "Enter")
    ada.submitted(answered)
    assert ada.submitted(given_up).reason == "Too hard to check: needs a computer"
    assert ada.submitted(bad).reason == "It is false or makes no sense"
    assert set(Report.objects.values_list("labeling__solution__problem__text", "kind", "text")) == {
        (given_up, "give_up", "Too hard to check: needs a computer"),
        (bad, "bad_problem", "It is false or makes no sense"),
        (answered, "wrong_answer", "It is 4."),
        (answered, "comment", "Nice problem."),
    }


def test_enter_submits_after_a_dialog_that_was_opened_by_mouse_is_closed(ada: Labeler) -> None:
    problem = ada.problem
    ada.press("1")
    ada.page.click("[data-act=give_up]")
    ada.press("Escape")
    expect(ada.page.locator("#dialog-give_up")).to_be_hidden()
    ada.press("Enter")
    assert ada.submitted(problem).finish_reason == "found_error"


def test_a_comment_being_written_survives_a_reload(ada: Labeler) -> None:
    problem = ada.problem
    ada.press("1", "c")
    ada.page.keyboard.type("See page 3.")
    ada.press("Tab", "Enter")
    ada.saved()
    ada.page.reload()
    ada.ready()
    expect(ada.page.locator("#bar [data-act=comment]")).to_have_attribute("aria-pressed", "true")
    ada.press("Enter")
    assert ada.submitted(problem).comment == "See page 3."


def test_skipping_later_and_to_others(ada: Labeler) -> None:
    later = ada.problem
    ada.press("n", "1")
    others = ada.next_after(later)
    ada.press("n", "2")
    third = ada.next_after(others)
    ada.press("1", "Enter")
    assert third not in (later, others)
    back = ada.next_after(third)
    assert back == later  # after the other work
    ada.press("1", "Enter")
    ada.see("#waiting")
    assert ada.page.inner_text(".waiting-what").startswith("You have seen every solution that is still open")
    assert not ada.page.is_visible("#bar")
    assert ada.assignment(others).state == Assignment.State.SKIPPED


# --- Between two solutions -------------------------------------------------------------------------------------------


def test_the_next_solution_is_there_at_once(ada: Labeler) -> None:
    """It is on the page when the key event has been dealt with: no request, no frame between."""
    ada.laid_out_ahead()
    before = ada.problem
    ada.press("1")
    after: str = ada.page.evaluate(
        """() => {
             document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", code: "Enter", bubbles: true }));
             return document.querySelector("#problem-text").innerText;
           }"""
    )
    assert after != before
    assert ada.current == "1"
    ada.submitted(before)


def test_a_changed_guideline_is_read_before_the_next_solution(ada: Labeler) -> None:
    first, page = ada.problem, ada.page
    ada.press("1")
    ada.saved()
    publish_guideline(ada.member.campaign, actor=None, text="Be exact.")
    publish_guideline(ada.member.campaign, actor=None, text="Be exact.\n\nRead it twice.")
    ada.page.reload()
    ada.see("#dialog-diff")
    expect(page.locator("#dialog-diff article")).to_contain_text("Read it twice.")
    ada.press("3")  # no rating while it is read
    ada.press("Enter")
    expect(page.locator("#dialog-diff")).to_be_hidden()
    ada.ready()
    assert ada.problem == first
    ada.drafted([-1])
    ada.press("Enter")
    ada.submitted(first)
    member = Membership.objects.get(pk=ada.member.pk)
    assert member.guideline == Campaign.objects.get().guideline


def test_a_guideline_that_changes_while_somebody_labels_is_shown_with_the_next_solution(ada: Labeler) -> None:
    first, page = ada.problem, ada.page
    ada.laid_out_ahead()
    publish_guideline(ada.member.campaign, actor=None, text="Be exact.")
    second = finish(ada, first)
    finish(ada, second, last=True)
    ada.see("#dialog-diff")
    expect(page.locator("#dialog-diff article")).to_contain_text("Be exact.")
    page.get_by_role("button", name="I have read it").click()
    ada.ready()
    assert ada.problem not in (first, second)


def finish(ada: Labeler, problem: str, *, last: bool = False) -> str:
    ada.press("1", "Enter")
    return "" if last else ada.next_after(problem)


def test_an_empty_queue_says_why_and_fills_again_by_itself(page: Page, member: Membership, live_server: Any) -> None:
    Campaign.objects.update(status="paused")
    page.clock.install()
    ada = Labeler(page, member, live_server.url)
    sign_in(page.context, member, live_server.url)
    ada.visit()
    expect(page.locator(".waiting-what")).to_contain_text("paused")
    activate_campaign(member.campaign, actor=None)
    page.clock.fast_forward(11_000)
    ada.ready()


def test_a_solution_that_somebody_holds_comes_when_their_lease_has_run_out(
    page: Page, transactional_db: None, live_server: Any
) -> None:
    ada = Labeler(page, labeler_of([simple_row(*problem_texts("train", 1), STEPS)]), live_server.url)
    ben = make_member(Campaign.objects.get(), "ben")
    assert claim_next(ben)
    page.clock.install()
    sign_in(page.context, ada.member, live_server.url)
    ada.visit()
    expect(page.locator(".waiting-what")).to_have_text("The last solution is with another labeler.")
    expect(page.locator(".waiting-more")).to_contain_text("That may change at")
    Assignment.objects.update(lease_until=timezone.now() - datetime.timedelta(seconds=1))
    page.clock.fast_forward(11_000)
    ada.ready()
    ada.press("1")
    ada.drafted([-1])


# --- History ---------------------------------------------------------------------------------------------------------


def test_a_submitted_solution_is_reopened_and_corrected(ada: Labeler) -> None:
    problem, page = ada.problem, ada.page
    ada.press("3", "1", "Enter")
    labeling = ada.submitted(problem)
    ada.next_after(problem)
    ada.visit(f"?assignment={ada.assignment(problem).pk}").ready()
    assert ada.problem == problem
    ada.see("#reopened")
    assert ada.shown == [1, -1, None, None]
    assert ada.submit == "Submit the correction"
    ada.press("3", "3", "3", "Enter")
    ada.next_after(problem)
    ada.eventually(lambda: Labeling.objects.get(pk=labeling.pk).revision == 2)
    labeling.refresh_from_db()
    assert (labeling.finish_reason, ratings_of(labeling)) == ("solution", [1, 1, 1, 1])
    expect(page.locator("#reopened")).to_be_hidden()


def test_a_submitted_solution_can_be_left_as_it_is(ada: Labeler) -> None:
    problem = ada.problem
    ada.press("1", "Enter")
    ada.submitted(problem)
    ada.visit(f"?assignment={ada.assignment(problem).pk}").ready()
    ada.page.get_by_role("button", name="Leave it as it is").click()
    ada.next_after(problem)
    assert ada.submitted(problem).revision == 1


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "counted"), [("Yes, count it", True), ("No", False)])
def test_reading_for_long_is_asked_about_once(
    page: Page, member: Membership, live_server: Any, answer: str, counted: bool
) -> None:
    """The campaign's limit is a minute; nothing is touched for five."""
    Campaign.objects.update(idle_minutes=1)
    page.clock.install()
    ada = Labeler(page, member, live_server.url).open()
    problem = ada.problem
    started = timezone.now() - datetime.timedelta(minutes=30)
    Assignment.objects.update(created_at=started)  # or the server would bound the time by its own clock
    for _ in range(20):
        page.clock.run_for(15_000)
    notice = ada.see("#notice")
    page.mouse.move(9, 9)
    page.mouse.move(90, 90)
    expect(notice).to_contain_text("5 min without a key or a movement. Was that work?")
    notice.get_by_role("button", name=answer).click()
    expect(notice).to_be_hidden()
    ada.press("1", "Enter")
    labeling = ada.submitted(problem)
    assert (labeling.active_ms >= 290_000) is counted
    assert labeling.wall_ms >= 290_000
    if not counted:
        assert labeling.active_ms < 60_000


# --- Looks -----------------------------------------------------------------------------------------------------------


def test_mathematics_is_typeset_and_prices_are_left_alone(ada: Labeler) -> None:
    steps = ada.page.locator("#steps > .step")
    expect(steps.nth(0).locator(".katex")).to_have_count(2)
    expect(steps.nth(1).locator(".step-text")).to_have_text("A pen costs $5 and a book costs $7.")
    expect(steps.nth(2).locator(".katex-display")).to_have_count(1)
    assert steps.nth(3).locator(".answer-line").inner_text().split() == ["Answer", "2"]


SPLITS = [
    ("plain", ["text"]),
    ("$x$ and $y$", ["inline", "text", "inline"]),
    ("costs $5 and $7 more", ["text"]),
    ("from $5-$7, or \\$8 each", ["text"]),
    ("It costs $5 and $y$ is free", ["text", "inline", "text"]),
    ("$20 + $30 = $50", ["text"]),
    ("$$a$$ then \\[b\\] then \\(c\\)", ["display", "text", "display", "text", "inline"]),
    ("$ x + 1 $ with blanks", ["inline", "text"]),
    ("\\begin{align*} a &= b \\end{align*} end", ["display", "text"]),
    ("\\begin{align*} never closed", ["text"]),
    ("one $ dollar", ["text"]),
    ("$a\n\nb$ across paragraphs", ["text"]),
    ('look [asy] draw((0,0)--(1,1)); label("$x$"); [/asy] here', ["text", "figure", "text"]),
    ("$\\text{price is \\$5}$", ["inline"]),
    ("", []),
]


def test_the_splitter_knows_formulas_from_prices(ada: Labeler) -> None:
    kinds = ada.page.evaluate(
        """async (texts) => {
             const { split } = await import("/static/js/mathtext.js");
             return texts.map((text) => split(text).map((part) => part.kind));
           }""",
        [text for text, _ in SPLITS],
    )
    assert dict(zip([text for text, _ in SPLITS], kinds, strict=True)) == dict(SPLITS)


def test_a_blank_step_says_so(ada: Labeler) -> None:
    text = ada.page.evaluate(
        """async () => {
             const { typeset } = await import("/static/js/mathtext.js");
             const box = document.createElement("div");
             typeset(box, " \\n");
             return box.textContent;
           }"""
    )
    assert text == "blank"


def test_hostile_text_does_no_harm(
    page: Page, transactional_db: None, live_server: Any, console_errors: list[str]
) -> None:
    hostile = [
        "<script>window.harm = 1</script><img src='http://evil.test/a.png' onerror='window.harm = 1'>",
        r"$\href{javascript:window.harm=1}{x}$ [x](javascript:window.harm=1) ![x](http://evil.test/b.png)",
        r"$\includegraphics{http://evil.test/c.png} \htmlStyle{position:fixed}{x}$ <style>*{display:none}</style>",
        "$\\frac{1}$ $\\unheardof$ \\begin{align} never closed",
        "$x^2$ and so on. " * 62_000,  # more than 1 MB
        "</script><!-- {{ problem }} {% now 'Y' %}\n\n# Answer\n\n</template>",
    ]
    names = (f"<b onclick='window.harm = 1'>What is {number}?</b>" for number in itertools.count())
    problems = [name for name in itertools.islice(names, 99) if split_of_problem(name) == "train"][:2]
    answer = "</script><script>window.harm = 1</script>"
    rows = [simple_row(problem, hostile, ground_truth_answer=answer) for problem in problems]
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    ada = Labeler(page, labeler_of(rows), live_server.url).open()
    problem = ada.problem
    ada.press("3", "u", "2", "3", "3", "3", "z", "3", "3", "Enter")
    ada.next_after(problem)
    assert ratings_of(ada.submitted(problem)) == [1, 0, 1, 1, 1, 1]
    expect(page.locator("#steps").get_by_text("<script>window.harm = 1</script>")).to_be_visible()
    assert page.evaluate("window.harm") is None
    assert (
        page.locator("#stage")
        .locator("script, style, img, iframe, a[href^='javascript'], [onerror], [onclick]")
        .count()
        == 0
    )
    assert not [url for url in requests if not url.startswith((live_server.url, "data:"))]
    assert console_errors == []


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def test_it_fits_a_phone(new_page: Callable[..., Page], member: Membership, live_server: Any) -> None:
    ada = Labeler(new_page(**PHONE), member, live_server.url).open()
    page = ada.page
    for name in ("bad", "neutral", "good"):
        box = page.locator(f"#bar [data-act={name}]").bounding_box()
        assert box is not None
        assert box["height"] >= 48
        assert box["width"] >= 100
        assert box["y"] + box["height"] <= 844
    everything = ("unsure", "undo", "comment", "give_up", "bad_problem", "report_answer", "skip", "submit")
    for act in everything:
        box = page.locator(f"#bar [data-act={act}]").bounding_box()
        assert box is not None, act
        assert box["x"] >= 0, act
        assert box["x"] + box["width"] <= 390, act
        assert box["y"] + box["height"] <= 844, act
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.tap("#bar [data-act=good]")
    assert ada.shown == [1, None, None, None]
    page.tap("#bar [data-act=bad]")
    problem = ada.problem
    page.tap("#submit")
    assert ratings_of(ada.submitted(problem)) == [1, -1]


def test_it_can_be_used_by_ear(ada: Labeler) -> None:
    first = ada.page.locator("#steps > .step").first
    assert ada.heard == "New solution with 4 steps."
    assert first.locator(".rates").get_attribute("aria-label") == "Step 1"
    assert first.get_attribute("aria-current") == "step"
    for keys, words in (
        ("2", "Step 1: neutral. Step 2 is next."),
        ("u", "Marked unsure."),
        ("3", "Step 2: good. Step 3 is next."),
        ("w", "Step 2: good"),
        ("s", "Step 3"),
        ("1", "Step 3: bad. First error found. Press Enter to submit."),
        ("z", "Taken back."),
        ("33", "Step 4: good. Nothing is missing. Press Enter to submit."),
    ):
        ada.press(*keys)
        assert ada.heard == words
    expect(first.locator(".rate[data-value='0']")).to_have_attribute("aria-pressed", "true")
    expect(first.get_by_role("button", name="neutral")).to_be_visible()
    problem = ada.problem
    ada.press("Enter")
    ada.next_after(problem)
    assert ada.heard == "New solution with 4 steps."


def test_keys_are_changed_in_the_sheet_and_stay_changed(ada: Labeler) -> None:
    page = ada.page
    ada.press("?")
    ada.see("#dialog-keys")
    page.click("[data-keys-of=good] [data-tool=change]")
    page.keyboard.press("l")
    page.click("[data-keys-of=bad] [data-tool=change]")
    page.keyboard.press("l")
    expect(page.locator(".keys-status")).to_contain_text("L already means")
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    ada.eventually(lambda: User.objects.get(username="ada").keys == {"good": ["l"]})
    ada.press("l")
    assert ada.shown == [1, None, None, None]
    page.reload()
    ada.ready()
    ada.press("l", "3")
    assert ada.shown == [1, 1, None, None]
