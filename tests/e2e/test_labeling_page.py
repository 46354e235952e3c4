"""The labeling page in a real browser: keys, corrections, and that nothing a labeler does is ever lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from playwright.sync_api import expect

from annotator.actions.campaigns import activate_campaign
from annotator.models import Assignment, Campaign, Labeling, Membership, Rating
from tests.annotator.cast import import_rows, make_campaign, make_member, problem_texts, simple_row

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

STEPS = [
    "Let $x = 3$, so $x^2 = 9$.",
    "A pen costs $5 and a book costs $7.",
    r"Then \[\frac{9}{3} = 3.\]",
    "So the answer is 2.\n\n# Answer\n\n2",
]


@pytest.fixture
def labeler(transactional_db: None) -> Membership:
    campaign = make_campaign(audit_per_generation=0)
    member = make_member(campaign, "ada")
    import_rows(campaign, [simple_row(text, STEPS) for text in problem_texts("train", 3)])
    activate_campaign(campaign, actor=None)
    return member


@pytest.fixture
def sign_in(live_server: Any) -> Callable[[BrowserContext, Membership], None]:
    def enter(context: BrowserContext, member: Membership) -> None:
        client = Client()
        client.force_login(member.user)
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}])

    return enter


@pytest.fixture
def open_label(
    live_server: Any, labeler: Membership, sign_in: Callable[[BrowserContext, Membership], None]
) -> Callable[[Page], Page]:
    """Open the labeling page as the labeler, with a solution on it."""

    def enter(page: Page) -> Page:
        sign_in(page.context, labeler)
        page.goto(f"{live_server.url}/c/algebra/label/")
        page.wait_for_selector(".step.is-current")
        return page

    return enter


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_attribute("data-state", "saved")


def shown(page: Page) -> list[int | None]:
    """The ratings as the page shows them."""
    values: list[int | None] = page.evaluate(
        """() => [...document.querySelectorAll(".step")].map((step) => {
             const chosen = step.querySelector(".rate[aria-pressed=true]");
             return chosen ? Number(chosen.dataset.value) : null;
           })"""
    )
    return values


def stored(labeling: Labeling | None = None) -> list[int | None]:
    rows = Rating.objects.filter(labeling=labeling or Labeling.objects.latest("id")).order_by("step_index")
    return list(rows.values_list("value", flat=True))


def current(page: Page) -> str:
    return page.inner_text(".is-current .step-number")


def next_solution(page: Page, last: str) -> str:
    """Wait until another solution than `last` is on the page."""
    expect(page.locator("#problem-text")).not_to_have_text(last)
    expect(page.locator(".is-current .step-number")).to_have_text("1")
    return page.inner_text("#problem-text")


# --- Labeling --------------------------------------------------------------------------------------------------------


def test_a_solution_is_labeled_by_keys_alone(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    assert page.is_disabled("#submit")
    press(page, "3", "2", "3")
    assert current(page) == "4"
    assert page.inner_text("#submit") == "Find the first bad step, or rate all"
    press(page, "Enter")  # nothing to submit yet
    press(page, "3")
    assert page.inner_text("#submit") == "Submit: no error"
    press(page, "Enter")
    next_solution(page, problem)
    labeling = Labeling.objects.get()
    assert (labeling.state, labeling.finish_reason) == ("submitted", "solution")
    assert stored(labeling) == [1, 0, 1, 1]
    assert 0 < labeling.active_ms <= labeling.wall_ms
    assert page.inner_text("#today") == "1"


def test_the_first_bad_step_ends_the_solution(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    press(page, "3", "1")
    assert page.inner_text("#submit") == "Submit: first error at step 2"
    assert page.locator(".is-after-error").count() == 2
    assert page.inner_text("#announce") == "Step 2: bad. First error found. Press Enter to submit."
    press(page, "Space")
    next_solution(page, problem)
    labeling = Labeling.objects.get()
    assert labeling.finish_reason == "found_error"
    assert stored(labeling) == [1, -1]


def test_earlier_ratings_are_corrected_in_place(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    press(page, "3", "3", "1", "ArrowUp", "w", "2")  # back to the first step: neutral after all
    assert shown(page) == [0, 1, -1, None]
    press(page, "3")  # and the step that was bad is good
    assert shown(page) == [0, 1, 1, None]
    press(page, "ArrowUp", "ArrowUp", "1")  # no: the second was the first error
    assert shown(page) == [0, -1, None, None]
    saved(page)
    assert stored() == [0, -1]


def test_undo_brings_back_what_a_correction_took_away(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    press(page, "3", "2", "3", "ArrowUp", "ArrowUp", "ArrowUp", "1")
    assert shown(page) == [-1, None, None, None]
    press(page, "z")
    assert shown(page) == [1, 0, 1, None]
    press(page, "z")
    assert shown(page) == [1, 0, None, None]
    saved(page)
    assert stored() == [1, 0]
    press(page, "z", "z", "z", "z")
    assert shown(page) == [None] * 4
    saved(page)
    assert stored() == []


def test_unsure_goes_with_the_rating(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    press(page, "u", "3", "3", "ArrowUp", "u")
    assert page.locator(".step-unsure:visible").count() == 2
    press(page, "u")
    saved(page)
    assert list(Rating.objects.order_by("step_index").values_list("flagged", flat=True)) == [True, None]


def test_the_mouse_does_the_same_and_leaves_enter_alone(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    page.click(".is-current .rate[data-value='1']")
    page.click("[data-act=neutral]")
    assert shown(page)[:2] == [1, 0]
    assert page.is_disabled(".step:nth-child(4) .rate[data-value='1']")
    page.click(".step:nth-child(1) .step-text")
    assert current(page) == "1"
    page.click("[data-act=bad]")
    press(page, "Enter")
    next_solution(page, problem)
    assert stored(Labeling.objects.get()) == [-1]


def test_keys_rest_while_typing_and_with_modifiers(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    press(page, "Control+3", "Alt+3", "Meta+3", "x", "9")
    assert shown(page) == [None] * 4
    page.click("[data-act=give_up]")
    page.fill("#give_up-more", "")
    page.type("#give_up-more", "1 2 3 z u")
    press(page, "Escape")
    expect(page.locator("#dialog-give_up")).to_be_hidden()
    assert shown(page) == [None] * 4
    press(page, "g")
    assert page.is_visible("#dialog-guideline")
    press(page, "1", "g")
    assert not page.is_visible("#dialog-guideline")
    assert shown(page) == [None] * 4
    press(page, "?")
    assert page.is_visible("#dialog-keys")
    press(page, "Escape")
    expect(page.locator("#dialog-keys")).to_be_hidden()
    press(page, "3")
    assert shown(page) == [1, None, None, None]


def test_giving_up_asks_for_a_reason(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    page.click("[data-act=give_up]")
    assert page.is_disabled("#dialog-give_up [value=send]")
    press(page, "3")
    page.fill("#give_up-more", "needs a computer")
    page.click("#dialog-give_up [value=send]")
    next_solution(page, problem)
    labeling = Labeling.objects.get()
    assert (labeling.finish_reason, labeling.reason) == ("give_up", "Too hard to check: needs a computer")


def test_enter_submits_after_a_dialog_that_was_opened_by_mouse_is_closed(
    page: Page, open_label: Callable[[Page], Page]
) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    press(page, "1")
    page.click("[data-act=give_up]")
    press(page, "Escape")
    expect(page.locator("#dialog-give_up")).to_be_hidden()
    press(page, "Enter")
    next_solution(page, problem)
    assert Labeling.objects.get().finish_reason == "found_error"


def test_a_bad_problem_is_reported_by_keys(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    page.click("[data-act=bad_problem]")
    press(page, "2", "Enter")
    next_solution(page, problem)
    assert Labeling.objects.get().reason == "It is false or makes no sense"


def test_skipped_solutions_do_not_come_back_and_the_end_is_explained(
    page: Page, open_label: Callable[[Page], Page]
) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    for _ in range(2):
        page.click("[data-act=skip]")
        problem = next_solution(page, problem)
    page.click("[data-act=skip]")
    page.wait_for_selector("#waiting:not([hidden])")
    assert page.inner_text(".waiting-what").strip()
    assert not page.is_visible("#bar")
    assert Assignment.objects.filter(state="returned").count() == 3


# --- Nothing is lost -------------------------------------------------------------------------------------------------


def test_a_reload_shows_what_was_rated(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    press(page, "3", "2")
    saved(page)
    page.reload()
    page.wait_for_selector(".step.is-current")
    assert shown(page) == [1, 0, None, None]
    assert current(page) == "3"


def test_ratings_without_a_network_survive_a_reload_and_arrive_later(
    page: Page, open_label: Callable[[Page], Page], console_errors: list[str]
) -> None:
    open_label(page)
    page.route("**/api/**", lambda route: route.abort())
    press(page, "3", "2", "u", "3")
    expect(page.locator("#saved")).to_have_text("offline, 3 waiting")
    assert not Rating.objects.exists()
    page.reload()
    page.wait_for_selector(".step.is-current")
    assert shown(page) == [1, 0, 1, None]
    page.unroute("**/api/**")
    page.evaluate("dispatchEvent(new Event('online'))")
    saved(page)
    assert stored() == [1, 0, 1]
    assert Rating.objects.get(step_index=2).flagged
    console_errors.clear()  # the failed requests that this test made


def test_a_submit_without_a_network_is_kept_and_sent(
    page: Page, open_label: Callable[[Page], Page], console_errors: list[str]
) -> None:
    open_label(page)
    problem = page.inner_text("#problem-text")
    page.route("**/api/**", lambda route: route.abort())
    press(page, "3", "1", "Enter")
    page.wait_for_selector("#waiting:not([hidden])")
    assert "offline" in page.inner_text(".waiting-what")
    page.reload()
    page.unroute("**/api/**")
    page.evaluate("dispatchEvent(new Event('online'))")
    next_solution(page, problem)
    assert stored(Labeling.objects.get(state="submitted")) == [1, -1]
    console_errors.clear()


def test_a_lost_answer_is_repeated_without_effect(
    page: Page, open_label: Callable[[Page], Page], console_errors: list[str]
) -> None:
    """The server has stored the rating, but its answer never comes back: the same client id is sent again."""
    open_label(page)
    lost: list[str] = []

    def lose_once(route: Any) -> None:
        if lost:
            route.continue_()
            return
        lost.append(route.request.url)
        route.fetch()
        route.abort()

    page.route("**/ratings/**", lose_once)
    press(page, "2")
    saved(page)
    assert len(lost) == 1
    assert stored() == [0]
    assert Labeling.objects.get().events.count() == 1
    console_errors.clear()


def test_a_plain_http_page_in_a_local_network_works_too(page: Page, open_label: Callable[[Page], Page]) -> None:
    """Browsers withhold `randomUUID` and locks from pages that came without TLS."""
    page.add_init_script("delete Crypto.prototype.randomUUID; delete Navigator.prototype.locks;")
    open_label(page)
    assert page.evaluate("crypto.randomUUID === undefined && navigator.locks === undefined")
    press(page, "3", "1")
    saved(page)
    assert stored() == [1, -1]


def test_an_expired_login_keeps_the_work_until_somebody_logs_in_again(
    page: Page,
    labeler: Membership,
    open_label: Callable[[Page], Page],
    sign_in: Callable[[BrowserContext, Membership], None],
    console_errors: list[str],
) -> None:
    open_label(page)
    press(page, "3")
    saved(page)
    Session.objects.all().delete()
    press(page, "2", "3")
    page.wait_for_selector("#notice:not([hidden])")
    assert "Log in again in another tab" in page.inner_text("#notice")
    assert page.inner_text("#saved") == "logged out, 2 waiting"
    assert shown(page) == [1, 0, 1, None]  # the page goes on
    sign_in(page.context, labeler)
    page.evaluate("dispatchEvent(new Event('focus'))")
    saved(page)
    assert stored() == [1, 0, 1]
    assert page.is_hidden("#notice")
    console_errors.clear()


def test_a_second_tab_shares_the_solution(
    page: Page, open_label: Callable[[Page], Page], console_errors: list[str]
) -> None:
    """What one tab submits, the other cannot change; it says so and goes on."""
    open_label(page)
    problem = page.inner_text("#problem-text")
    other = page.context.new_page()
    open_label(other)
    assert other.inner_text("#problem-text") == problem
    press(other, "1", "Enter")
    next_solution(other, problem)
    page.bring_to_front()
    press(page, "3")
    page.wait_for_selector("#notice:not([hidden])")
    assert "has been submitted" in page.inner_text("#notice")
    page.click("#notice button")
    page.wait_for_selector(".step.is-current")
    assert page.inner_text("#problem-text") != problem
    assert stored(Labeling.objects.get(state="submitted")) == [-1]
    console_errors.clear()


def test_an_empty_queue_fills_again_by_itself(
    page: Page, live_server: Any, labeler: Membership, sign_in: Callable[[BrowserContext, Membership], None]
) -> None:
    Campaign.objects.update(status="paused")
    page.clock.install()
    sign_in(page.context, labeler)
    page.goto(f"{live_server.url}/c/algebra/label/")
    expect(page.locator(".waiting-what")).to_contain_text("paused")
    activate_campaign(labeler.campaign, actor=None)
    page.clock.fast_forward(11_000)
    expect(page.locator(".step.is-current")).to_be_visible()


# --- What it looks like ----------------------------------------------------------------------------------------------


def test_mathematics_is_typeset_and_prices_are_left_alone(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    assert page.locator(".step:nth-child(1) .katex").count() == 2
    assert page.inner_text(".step:nth-child(2) .step-text") == "A pen costs $5 and a book costs $7."
    assert page.locator(".step:nth-child(3) .katex-display").count() == 1
    assert page.inner_text(".step:nth-child(4) .answer-line").split() == ["Answer", "2"]


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


def test_the_splitter_knows_formulas_from_prices(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    kinds = page.evaluate(
        """async (texts) => {
             const { split } = await import("/static/js/mathtext.js");
             return texts.map((text) => split(text).map((part) => part.kind));
           }""",
        [text for text, _ in SPLITS],
    )
    assert dict(zip([text for text, _ in SPLITS], kinds, strict=True)) == dict(SPLITS)


def test_untrusted_text_stays_text(page: Page, open_label: Callable[[Page], Page]) -> None:
    """Neither markup nor a formula's commands reach the page; a broken formula is shown as its source, with why."""
    open_label(page)
    html = page.evaluate(
        r"""async () => {
             const { typeset } = await import("/static/js/mathtext.js");
             const box = document.createElement("div");
             document.body.append(box);
             typeset(box, "<img src=x onerror=alert(1)> $\\href{javascript:alert(1)}{x}$ $\\frac{1}$ $\\unheardof$");
             typeset(box.appendChild(document.createElement("p")), "$\\vec{v} \\boxed{7}$");
             return box.innerHTML;
           }"""
    )
    assert "<img" not in html
    assert "#cc0000" not in html  # red is a rating's
    assert "<a " not in html
    assert 'class="katex-error" title="' in html


def test_a_blank_step_says_so(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    text = page.evaluate(
        """async () => {
             const { typeset } = await import("/static/js/mathtext.js");
             const box = document.createElement("div");
             typeset(box, " \\n");
             return box.textContent;
           }"""
    )
    assert text == "blank"


def test_it_fits_a_phone(new_page: Callable[..., Page], open_label: Callable[[Page], Page]) -> None:
    phone = open_label(new_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True))
    for name in ("bad", "neutral", "good"):
        box = phone.locator(f"[data-act={name}]").bounding_box()
        assert box is not None
        assert box["height"] >= 48
        assert box["width"] >= 100
        assert box["y"] + box["height"] <= 844
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    phone.tap("[data-act=good]")
    assert shown(phone) == [1, None, None, None]
    saved(phone)


def test_it_can_be_used_by_ear(page: Page, open_label: Callable[[Page], Page]) -> None:
    open_label(page)
    assert page.get_attribute(".step:nth-child(1) .step-rates", "aria-label") == "Step 1"
    assert page.get_attribute(".step:nth-child(1)", "aria-current") == "step"
    press(page, "2")
    assert page.inner_text("#announce") == "Step 1: neutral. Step 2 is next."
    assert page.get_attribute(".step:nth-child(1) .rate[data-value='0']", "aria-pressed") == "true"
    assert page.get_by_role("button", name="neutral").first.is_visible()
