"""The labeler's time: thinking counts, absence does not, and one question decides what lies between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.modules import ModuleSite

if TYPE_CHECKING:
    from playwright.sync_api import Page

MINUTE = 60_000


class Watch:
    """The clock on a page whose time the test moves."""

    def __init__(self, page: Page) -> None:
        self.page = page
        page.clock.install()
        ModuleSite(page.context).open(page)
        page.clock.pause_at(page.evaluate("Date.now()") + 1000)
        page.evaluate(
            """async () => {
                 const { Clock } = await import("/static/js/label/clock.js");
                 window.heard = [];
                 window.watch = new Clock({ idle: 600_000 });
                 for (const name of ["idle", "back"]) watch.addEventListener(name, () => heard.push(name));
               }"""
        )

    def run(self, milliseconds: int) -> None:
        """Time goes by, with all its timers."""
        self.page.clock.run_for(milliseconds)

    def sleep(self, milliseconds: int) -> None:
        """The lid is closed: time jumps, and no timer has run meanwhile."""
        self.page.clock.fast_forward(milliseconds)

    def touch(self) -> None:
        self.page.evaluate("() => { dispatchEvent(new KeyboardEvent('keydown', { key: 'x' })); }")

    def hide(self, hidden: bool) -> None:
        self.page.evaluate(
            """(hidden) => {
                 Object.defineProperty(document, "hidden", { configurable: true, value: hidden });
                 document.dispatchEvent(new Event("visibilitychange"));
               }""",
            hidden,
        )

    def take(self) -> tuple[int, int]:
        taken = self.page.evaluate("watch.take()")
        return taken["active_ms"], taken["wall_ms"]

    def claim(self, yes: bool) -> None:
        self.page.evaluate("(yes) => watch.claim(yes)", yes)

    def get(self, name: str) -> Any:
        return self.page.evaluate(f"watch.{name}")

    @property
    def heard(self) -> list[str]:
        names: list[str] = self.page.evaluate("heard")
        return names


@pytest.fixture
def watch(page: Page) -> Watch:
    return Watch(page)


def test_thinking_without_a_key_is_work(watch: Watch) -> None:
    watch.run(8 * MINUTE)
    assert watch.take() == (8 * MINUTE, 8 * MINUTE)
    assert watch.heard == []


def test_each_act_takes_the_time_since_the_one_before(watch: Watch) -> None:
    watch.run(3000)
    assert watch.take() == (3000, 3000)
    watch.run(1234)
    assert watch.take() == (1234, 1234)
    assert watch.take() == (0, 0)
    assert (watch.get("active"), watch.get("wall")) == (4234, 4234)


def test_a_new_item_starts_at_zero(watch: Watch) -> None:
    watch.run(11 * MINUTE)
    watch.page.evaluate("watch.restart()")
    watch.run(500)
    assert (watch.get("active"), watch.get("wall"), watch.get("gap")) == (500, 500, 0)
    assert watch.take() == (500, 500)


def test_fractions_of_milliseconds_do_not_get_lost(page: Page) -> None:
    ModuleSite(page.context).open(page)
    taken = page.evaluate(
        """async () => {
             const { Clock } = await import("/static/js/label/clock.js");
             let now = 0.25;
             const watch = new Clock({ now: () => now });
             return Array.from({ length: 4 }, () => { now += 0.5; return watch.take().active_ms; });
           }"""
    )
    assert taken == [0, 1, 0, 1]


def test_past_the_idle_limit_the_clock_stops_and_asks_once(watch: Watch) -> None:
    watch.run(12 * MINUTE)
    assert watch.heard == ["idle"]
    assert watch.get("active") == 10 * MINUTE
    assert watch.get("wall") == 12 * MINUTE
    assert watch.get("gap") == 12 * MINUTE


def test_yes_counts_the_gap(watch: Watch) -> None:
    watch.run(12 * MINUTE)
    watch.touch()
    assert watch.heard == ["idle", "back"]
    watch.run(1000)
    assert watch.get("gap") == 12 * MINUTE  # final: the labeler is back
    watch.claim(True)
    assert watch.get("gap") == 0
    assert watch.take() == (12 * MINUTE + 1000, 12 * MINUTE + 1000)


def test_no_drops_the_whole_gap_but_nothing_before_it(watch: Watch) -> None:
    watch.run(2 * MINUTE)
    watch.touch()
    watch.run(12 * MINUTE)
    watch.touch()
    watch.run(1000)
    watch.claim(False)
    assert watch.take() == (2 * MINUTE + 1000, 14 * MINUTE + 1000)


def test_an_act_answers_yes(watch: Watch) -> None:
    watch.run(12 * MINUTE)
    watch.touch()
    assert watch.take() == (12 * MINUTE, 12 * MINUTE)
    watch.claim(False)  # too late
    assert watch.get("active") == 12 * MINUTE


def test_an_unanswered_question_counts_up_to_the_limit_and_grows_by_the_next(watch: Watch) -> None:
    for _ in range(2):
        watch.run(11 * MINUTE)
        watch.touch()
    assert watch.get("active") == 20 * MINUTE
    assert watch.get("gap") == 22 * MINUTE
    watch.claim(True)
    assert watch.get("active") == 22 * MINUTE


def test_every_kind_of_input_puts_the_limit_off(watch: Watch) -> None:
    for name in ["keydown", "pointerdown", "wheel", "touchmove"]:
        watch.run(9 * MINUTE)
        watch.page.evaluate("(name) => { dispatchEvent(new Event(name)); }", name)
    watch.run(9 * MINUTE)
    watch.page.evaluate("() => { dispatchEvent(new PointerEvent('pointermove', { movementX: 3 })); }")
    watch.run(9 * MINUTE)
    assert watch.heard == []
    assert watch.get("active") == 54 * MINUTE


def test_a_page_that_moves_under_a_resting_pointer_is_no_input(watch: Watch) -> None:
    watch.run(9 * MINUTE)
    watch.page.evaluate("() => { dispatchEvent(new PointerEvent('pointermove')); }")
    watch.run(2 * MINUTE)
    assert watch.heard == ["idle"]


def test_a_hidden_page_does_not_count(watch: Watch) -> None:
    watch.run(1234)
    watch.hide(True)
    watch.run(5 * MINUTE)
    watch.hide(False)
    watch.run(1000)
    assert watch.take() == (2234, 5 * MINUTE + 2234)


def test_slowed_timers_of_a_hidden_page_change_nothing(watch: Watch) -> None:
    watch.run(1000)
    watch.hide(True)
    watch.sleep(3 * MINUTE)
    watch.hide(False)
    watch.run(1000)
    assert watch.take()[0] == 2000


def test_a_machine_that_slept_was_not_working(watch: Watch) -> None:
    watch.run(4000)
    watch.sleep(60 * MINUTE)
    watch.run(4000)
    active, wall = watch.take()
    assert 4000 <= active <= 8000  # up to a beat is lost at the jump
    assert wall == 60 * MINUTE + 8000
    assert watch.heard == []
