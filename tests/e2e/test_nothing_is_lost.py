"""Whatever happens to network, login, lease or tab: what a labeler has said arrives, in order and once."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import expect

from annotator.actions.campaigns import activate_campaign
from annotator.actions.queue import claim_next
from annotator.models import Assignment, Campaign, Labeling, Membership, RatingEvent
from tests.annotator.cast import import_rows, label, make_campaign, make_member, problem_texts, simple_row
from tests.e2e.labeler import Labeler, ratings_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page, Route

STEPS = ["Add one.", "That is two.", "It is even.", "So it is prime.", "So the answer is 2.\n\n# Answer\n\n2"]


@pytest.fixture
def member(transactional_db: None) -> Membership:
    campaign = make_campaign(audit_per_generation=0)
    member = make_member(campaign, "ada")
    import_rows(campaign, [simple_row(text, STEPS) for text in problem_texts("train", 3)])
    activate_campaign(campaign, actor=None)
    return member


@pytest.fixture
def ada(page: Page, member: Membership, live_server: Any) -> Labeler:
    return Labeler(page, member, live_server.url).open()


@pytest.fixture(autouse=True)
def failed_requests_are_meant(new_page: Callable[..., Page], console_errors: list[str]) -> Any:
    """These tests make requests fail; what else the browser complains about still fails them."""
    yield
    console_errors[:] = [error for error in console_errors if "Failed to load resource" not in error]


def come_back(ada: Labeler) -> None:
    ada.page.evaluate("dispatchEvent(new Event('focus'))")


def test_a_reload_shows_what_was_rated(ada: Labeler) -> None:
    ada.press("3", "2")
    ada.saved()
    ada.page.reload()
    ada.ready()
    assert ada.shown == [1, 0, None, None, None]
    assert ada.current == "3"


def test_a_page_that_is_closed_at_once_loses_nothing(ada: Labeler) -> None:
    context = ada.page.context
    ada.press("3", "2", "3")
    ada.page.close()
    again = Labeler(context.new_page(), ada.member, ada.url).visit().ready()
    again.saved()
    assert again.shown == [1, 0, 1, None, None]
    again.drafted([1, 0, 1])


def test_ten_ratings_without_a_network_survive_the_page_and_arrive_once(ada: Labeler) -> None:
    """A whole solution and the next one, which lay ready; then the browser is closed, and opened with a network."""
    ada.laid_out_ahead()
    first, context = ada.problem, ada.page.context
    context.set_offline(True)
    ada.press("3", "2", "3", "3", "3", "Enter")
    second = ada.next_after(first)
    ada.press("2", "3", "3", "u", "3", "2")
    expect(ada.page.locator("#saved")).to_have_text("offline, 11 waiting")
    assert ada.shown == [0, 1, 1, 1, 0]
    assert not RatingEvent.objects.exists()
    ada.page.close()
    context.set_offline(False)
    again = Labeler(context.new_page(), ada.member, ada.url).visit()
    assert ratings_of(again.submitted(first)) == [1, 0, 1, 1, 1]
    again.ready()
    assert again.problem == second
    assert again.shown == [0, 1, 1, 1, 0]
    again.drafted([0, 1, 1, 1, 0], second)
    again.press("Enter")
    assert ratings_of(again.submitted(second)) == [0, 1, 1, 1, 0]
    rates = RatingEvent.objects.filter(kind="rate")
    assert rates.count() == 10
    assert [event.flagged for event in rates.filter(labeling__solution__problem__text=second)] == [
        False, False, False, True, False,
    ]  # fmt: skip
    assert Labeling.objects.filter(state="submitted").count() == 2


def test_a_network_that_comes_back_is_used_without_a_reload(ada: Labeler) -> None:
    ada.laid_out_ahead()
    context, problems = ada.page.context, [ada.problem]
    context.set_offline(True)
    for _ in range(2):
        ada.press("3", "1", "Enter")
        if len(problems) < 2:
            problems.append(ada.next_after(problems[0]))
    ada.see("#waiting")  # there was no third one
    expect(ada.page.locator(".waiting-what")).to_contain_text("You are offline. Your work is kept here")
    context.set_offline(False)
    ada.ready()
    assert ada.problem not in problems
    assert [ratings_of(ada.submitted(problem)) for problem in problems] == [[1, -1], [1, -1]]


@pytest.mark.parametrize("what", ["acts", "submit"])
def test_a_lost_answer_is_asked_for_again_without_effect(ada: Labeler, what: str) -> None:
    """The server has stored it, but its answer never comes back: the same client ids are sent again."""
    lost: list[str] = []

    def lose_twice(route: Route) -> None:
        if len(lost) == 2:
            route.continue_()
            return
        lost.append(route.request.post_data or "")
        route.fetch()
        route.abort()

    problem = ada.problem
    ada.page.route(f"**/{what}/", lose_twice)
    ada.press("2", "1")
    if what == "submit":
        ada.saved()
        ada.press("Enter")
    ada.eventually(lambda: len(lost) == 2)
    come_back(ada)
    if what == "acts":
        ada.drafted([0, -1], problem)
    else:
        assert ratings_of(ada.submitted(problem)) == [0, -1]
        ada.next_after(problem)
        ada.saved()
        assert Labeling.objects.get(state="submitted").revision == 1
    assert RatingEvent.objects.filter(kind="rate").count() == 2
    assert not ada.page.is_visible("#notice")


def test_a_server_that_fails_is_tried_again(ada: Labeler) -> None:
    failures: list[int] = []

    def fail_once(route: Route) -> None:
        failures.append(500)
        if len(failures) == 1:
            route.fulfill(status=500, body="<h1>Server error</h1>", content_type="text/html")
        else:
            route.continue_()

    ada.page.route("**/acts/", fail_once)
    ada.press("2")
    ada.eventually(lambda: failures)
    come_back(ada)
    ada.drafted([0])


def test_a_plain_http_page_in_a_local_network_works_too(page: Page, member: Membership, live_server: Any) -> None:
    """Browsers withhold `randomUUID` and locks from pages that came without TLS."""
    page.add_init_script("delete Crypto.prototype.randomUUID; delete Navigator.prototype.locks;")
    ada = Labeler(page, member, live_server.url).open()
    assert page.evaluate("crypto.randomUUID === undefined && navigator.locks === undefined")
    ada.press("3", "1")
    ada.drafted([1, -1])


def test_an_expired_login_keeps_the_work_and_goes_on_after_a_login_in_another_tab(ada: Labeler) -> None:
    ada.laid_out_ahead()
    first, page = ada.problem, ada.page
    ada.press("3")
    ada.saved()
    Session.objects.all().delete()
    ada.press("2", "3", "3", "3", "Enter")
    ada.see("#notice")
    expect(page.locator("#notice")).to_contain_text("You have been logged out. Log in again in another tab")
    second = ada.next_after(first)
    ada.press("1")
    expect(page.locator("#saved")).to_have_text("logged out, 6 waiting")
    with page.context.expect_page() as opened:
        page.click("#notice button")
    login = opened.value
    login.get_by_label("Username").fill("ada")
    login.get_by_label("Password").fill("correct horse")
    login.get_by_role("button", name="Log in").click()
    expect(login.get_by_role("heading", name="Algebra")).to_be_visible()
    come_back(ada)
    ada.saved()
    expect(page.locator("#notice")).to_be_hidden()
    assert ratings_of(ada.submitted(first)) == [1, 0, 1, 1, 1]
    ada.drafted([-1], second)
    ada.press("Enter")
    ada.next_after(second)


def test_somebody_else_who_logs_in_does_not_get_the_work(ada: Labeler) -> None:
    ben = make_member(ada.member.campaign, "ben")
    ada.press("3")
    ada.saved()
    Session.objects.all().delete()
    ada.press("2")
    expect(ada.page.locator("#saved")).to_have_attribute("data-state", "login")
    other = Labeler(ada.page.context.new_page(), ben, ada.url).open()
    other.press("1")
    other.drafted([-1])
    come_back(ada)
    expect(ada.page.locator("#saved")).to_have_text("other login, 1 waiting")
    expect(ada.page.locator("#notice")).to_contain_text("This work belongs to another login")
    Labeler(ada.page.context.new_page(), ada.member, ada.url).open()
    come_back(ada)
    ada.drafted([1, 0])


def test_two_tabs_on_one_solution_agree(ada: Labeler) -> None:
    problem = ada.problem
    ada.press("3")
    ada.saved()
    other = Labeler(ada.page.context.new_page(), ada.member, ada.url).visit().ready()
    assert other.problem == problem
    assert other.shown == [1, None, None, None, None]
    other.press("2")
    expect(ada.page.locator("#steps > .step").nth(1).locator(".rate[data-value='0']")).to_have_attribute(
        "aria-pressed", "true"
    )
    assert ada.current == "3"
    ada.press("3", "z", "z")
    expect(other.page.locator("#steps .rate[aria-pressed=true]")).to_have_count(1)
    other.press("1", "Enter")
    expect(ada.page.locator("#problem-text")).not_to_have_text(problem)
    assert ada.problem == other.next_after(problem)
    assert ratings_of(ada.submitted(problem)) == [1, -1]
    ada.press("2")
    expect(other.page.locator("#steps .rate[aria-pressed=true]")).to_have_count(1)
    assert not ada.page.is_visible("#notice")
    assert RatingEvent.objects.filter(kind="submit").count() == 1


def test_two_tabs_that_cannot_talk_still_lose_nothing(ada: Labeler) -> None:
    """What one tab submits, the other corrects by what it says next; both go on."""
    other = Labeler(ada.page.context.new_page(), ada.member, ada.url)
    other.page.add_init_script("delete window.BroadcastChannel")
    other.visit().ready()
    problem = ada.problem
    other.press("1", "Enter")
    assert ratings_of(ada.submitted(problem)) == [-1]
    ada.press("2", "1", "Enter")
    ada.next_after(problem)
    ada.saved()
    assert ratings_of(ada.submitted(problem)) == [0, -1]
    assert ada.submitted(problem).revision == 2


def test_a_lease_that_ran_out_and_was_taken_keeps_the_work_beside(ada: Labeler, new_page: Callable[..., Page]) -> None:
    first = ada.problem
    ada.press("3")
    ada.saved()
    ben = make_member(Campaign.objects.get(), "ben")
    Assignment.objects.update(lease_until=timezone.now() - datetime.timedelta(minutes=1))
    Assignment.objects.filter(ahead=True).delete()
    taken = claim_next(ben)
    assert taken is not None
    assert taken.solution.problem.text == first
    label(taken, [1, 1, 1, 1, 1])
    ada.press("2", "1", "Enter")
    ada.next_after(first)
    labeling = ada.submitted(first)
    assert (labeling.state, ratings_of(labeling)) == ("surplus", [1, 0, -1])
