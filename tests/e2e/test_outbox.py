"""The outbox: whatever happens to network, login or tab, the server ends up with every act, in order, once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.modules import ModuleSite, until

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page, Route

START = """async () => {
  const { Outbox } = await import("/static/js/label/outbox.js");
  window.seen = [];
  window.outbox = new Outbox("ada");
  outbox.addEventListener("delivered", ({ detail }) => seen.push(detail));
  outbox.addEventListener("full", () => seen.push("full"));
  await outbox.ready;
}"""


class Server(ModuleSite):
    """The acts and submits that the API has taken: all of a request or nothing, repeats without effect."""

    def __init__(self, context: BrowserContext) -> None:
        super().__init__(context)
        self.taken: list[tuple[str, str]] = []
        self.requests: list[tuple[str, list[str]]] = []
        self.trouble: str | int | None = None  # None, "offline", "lost", "silence", "login", "csrf", "portal", a status
        self.bad: set[str] = set()
        self.broken: dict[str, int] = {}  # assignments with a status of their own
        self.token = ""

    def headers(self) -> dict[str, str]:
        return {"Set-Cookie": f"csrftoken={self.token}; Path=/"} if self.token else {}

    def api(self, route: Route, path: str) -> None:
        _, assignment, what, _ = path.split("/")
        body = json.loads(route.request.post_data or "{}")
        acts = [act["client_id"] for act in body.get("acts", [])]
        names = acts if what == "acts" else [*acts, body.get("client_id", f"{what} {body.get('how')}")]
        self.requests.append((f"{assignment}/{what}", names))
        trouble = self.broken.get(assignment, self.trouble)
        if trouble == "offline":
            route.abort()
        elif trouble == "silence":
            pass
        elif trouble == "portal":
            route.fulfill(body="<h1>Welcome to the hotel</h1>", content_type="text/html")
        elif trouble == "login":
            refuse(route, 403, "not_authenticated")
        elif trouble == "csrf" and route.request.headers.get("x-csrftoken") != self.token:
            refuse(route, 403, "permission_denied")
        elif isinstance(trouble, int):
            refuse(route, trouble, "trouble")
        elif self.bad.intersection(names):
            refuse(route, 409, "step_skipped")
        else:
            self.taken += [(assignment, name) for name in names if (assignment, name) not in self.taken]
            route.abort() if trouble == "lost" else route.fulfill(json={"state": "draft", "written": {}, "waiting": []})

    def order(self, assignment: str = "a") -> list[str]:
        return [name for of, name in self.taken if of == assignment]


def refuse(route: Route, status: int, code: str) -> None:
    route.fulfill(status=status, json={"error": {"code": code, "message": f"Refused: {code}."}})


@pytest.fixture
def server(page: Page) -> Server:
    return Server(page.context)


@pytest.fixture
def tab(page: Page, server: Server) -> Page:
    return server.open(page, START)


@pytest.fixture(autouse=True)
def only_failed_requests(console_errors: list[str], request: pytest.FixtureRequest) -> Any:
    """These tests make requests fail: that is what the browser may complain about, and nothing else."""
    request.getfixturevalue("page")
    yield
    console_errors[:] = [error for error in console_errors if "Failed to load resource" not in error]


def rate(page: Page, *names: str, assignment: str = "a") -> None:
    """Add acts in one go, as fast as a hand can never be."""
    page.evaluate(
        """([names, assignment]) => {
             for (const client_id of names) outbox.add({ kind: "act", assignment, act: { client_id, kind: "rate" } });
           }""",
        [names, assignment],
    )


def submit(page: Page, name: str = "end", assignment: str = "a") -> None:
    page.evaluate(
        """([client_id, assignment]) => void outbox.add(
             { kind: "submit", assignment, body: { client_id, finish_reason: "solution" } })""",
        [name, assignment],
    )


def delivered(page: Page) -> None:
    until(page, "outbox.size === 0 && outbox.state === 'saved'")


def seen(page: Page) -> list[str]:
    """What the page was told is delivered; a refused entry with its code."""
    names: list[str] = page.evaluate(
        """seen.map((entry) => entry === "full" ? entry
             : (entry.act ?? entry.body).client_id + (entry.refusal ? ` ${entry.refusal.code}` : ""))"""
    )
    return names


def test_an_act_is_sent_at_once_and_forgotten_when_acknowledged(tab: Page, server: Server) -> None:
    rate(tab, "1")
    assert tab.evaluate("[outbox.state, outbox.size]") == ["saving", 1]
    delivered(tab)
    assert server.order() == ["1"]
    assert seen(tab) == ["1"]
    assert tab.evaluate("seen[0].answer.state") == "draft"
    assert tab.evaluate("outbox.entries()") == []


def test_acts_of_one_assignment_go_out_together_and_those_of_another_wait_their_turn(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    rate(tab, "1", "2", "3")
    rate(tab, "4", assignment="b")
    rate(tab, "5")
    until(tab, "outbox.state === 'offline'")
    server.requests.clear()
    server.trouble = None
    tab.evaluate("dispatchEvent(new Event('online'))")
    delivered(tab)
    assert server.requests == [("a/acts", ["1", "2", "3"]), ("b/acts", ["4"]), ("a/acts", ["5"])]
    assert seen(tab) == ["1", "2", "3", "4", "5"]


def test_a_submit_carries_the_acts_before_it(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    rate(tab, "1", "2")
    submit(tab)
    until(tab, "outbox.state === 'offline'")
    server.requests.clear()
    server.trouble = None
    tab.evaluate("outbox.pump()")
    delivered(tab)
    assert server.requests == [("a/submit", ["1", "2", "end"])]
    assert seen(tab) == ["1", "2", "end"]


def test_at_most_two_hundred_acts_go_out_in_one_request(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    names = [str(number) for number in range(450)]
    rate(tab, *names)
    submit(tab)
    until(tab, "outbox.state === 'offline'")
    server.requests.clear()
    server.trouble = None
    tab.evaluate("outbox.pump()")
    delivered(tab)
    assert [(what, len(acts)) for what, acts in server.requests] == [("a/acts", 200), ("a/acts", 200), ("a/submit", 51)]
    assert server.order() == [*names, "end"]


def test_a_return_goes_out_after_the_acts(tab: Page, server: Server) -> None:
    rate(tab, "1")
    tab.evaluate("""void outbox.add({ kind: "return", assignment: "a", body: { how: "postpone" } })""")
    delivered(tab)
    assert server.order() == ["1", "return postpone"]


def test_without_a_network_acts_wait_and_survive_a_reload(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    rate(tab, "1", "2")
    until(tab, "outbox.state === 'offline' && outbox.size === 2")
    server.open(tab, START)
    assert tab.evaluate("outbox.size") == 2
    assert [entry["act"]["client_id"] for entry in tab.evaluate("outbox.entries()")] == ["1", "2"]
    rate(tab, "3")
    server.trouble = None
    tab.evaluate("dispatchEvent(new Event('online'))")
    delivered(tab)
    assert server.order() == ["1", "2", "3"]


def test_what_a_closed_tab_left_is_sent_by_the_next(tab: Page, server: Server, page: Page) -> None:
    server.trouble = "offline"
    rate(tab, "1")
    until(tab, "outbox.state === 'offline'")
    context = tab.context
    tab.close()
    server.trouble = None
    later = server.open(context.new_page(), START)
    delivered(later)
    assert server.order() == ["1"]


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, "portal", "lost"])
def test_a_server_in_trouble_is_asked_again(tab: Page, server: Server, trouble: str | int) -> None:
    """Also where the answer is lost after the server has taken the act, and where a page answers in its place."""
    server.trouble = trouble
    rate(tab, "1", "2")
    until(tab, "outbox.state === 'offline'")
    assert tab.evaluate("outbox.size") == 2
    server.trouble = None
    delivered(tab)  # by itself
    assert server.order() == ["1", "2"]
    assert seen(tab) == ["1", "2"]


def test_a_page_that_goes_away_sends_what_has_no_answer_yet(tab: Page, server: Server) -> None:
    server.trouble = "silence"
    rate(tab, "1", "2")
    until(tab, "outbox.state === 'saving'")
    rate(tab, "3")
    rate(tab, "4", assignment="b")
    server.trouble = None
    tab.evaluate("dispatchEvent(new Event('pagehide'))")
    until(tab, lambda: len(server.taken) == 4)
    assert server.order("a") == ["1", "2", "3"]
    assert server.order("b") == ["4"]


def test_nothing_is_sent_past_what_another_page_left(tab: Page, server: Server) -> None:
    server.trouble = "silence"
    rate(tab, "1")
    until(tab, "outbox.size === 1")
    server.open(tab, START)
    rate(tab, "2")
    until(tab, "outbox.size === 2")
    server.requests.clear()
    tab.evaluate("dispatchEvent(new Event('pagehide'))")
    tab.wait_for_timeout(100)
    assert not [names for _, names in server.requests if names == ["2"]]


def test_only_the_bad_act_of_a_batch_is_refused(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    server.bad = {"2"}
    rate(tab, "1", "2", "3")
    submit(tab)
    until(tab, "outbox.state === 'offline'")
    server.trouble = None
    tab.evaluate("outbox.pump()")
    delivered(tab)
    assert server.order() == ["1", "3", "end"]
    assert seen(tab) == ["1", "2 step_skipped", "3", "end"]
    assert tab.evaluate("seen[1].refusal.message") == "Refused: step_skipped."


@pytest.mark.parametrize("status", [400, 409])
def test_a_refusal_ends_an_entry(tab: Page, server: Server, status: int) -> None:
    server.broken = {"a": status}
    rate(tab, "1")
    delivered(tab)
    assert seen(tab) == ["1 trouble"]
    assert server.taken == []


def test_an_expired_login_keeps_the_work_until_somebody_logs_in_again(tab: Page, server: Server) -> None:
    server.trouble = "login"
    rate(tab, "1")
    until(tab, "outbox.state === 'login'")
    rate(tab, "2")
    until(tab, "outbox.state === 'login' && outbox.size === 2")
    server.trouble = None
    tab.evaluate("dispatchEvent(new Event('focus'))")
    delivered(tab)
    assert server.order() == ["1", "2"]


def test_a_redirect_to_the_login_page_is_no_acknowledgement(tab: Page, server: Server) -> None:
    tab.evaluate(
        """() => {
             const login = new Response("<h1>Log in</h1>", { headers: { "Content-Type": "text/html" } });
             Object.defineProperty(login, "redirected", { value: true });
             window.fetch = async () => login;
           }"""
    )
    rate(tab, "1")
    until(tab, "outbox.state === 'login'")
    assert tab.evaluate("outbox.size") == 1


def test_a_login_in_another_tab_is_noticed_through_that_tab(tab: Page, server: Server) -> None:
    server.trouble = "login"
    rate(tab, "1")
    until(tab, "outbox.state === 'login'")
    tab.evaluate("window.setTimeout = () => 0")  # no polling
    other = server.open(tab.context.new_page(), START)
    server.trouble = None
    rate(other, "2", assignment="b")
    delivered(other)
    delivered(tab)
    assert server.order("a") == ["1"]


def test_a_stale_token_is_renewed_without_a_word(tab: Page, server: Server) -> None:
    server.trouble = "csrf"
    server.token = "fresh"
    states = "window.states = new Set(); outbox.addEventListener('change', () => states.add(outbox.state))"
    tab.evaluate(states)
    rate(tab, "1")
    delivered(tab)
    assert server.order() == ["1"]
    assert server.pages == 2  # opened, and asked for a token
    assert tab.evaluate("[...states].sort()") == ["saved", "saving"]


def test_work_of_another_login_is_kept_and_holds_nothing_else_up(tab: Page, server: Server) -> None:
    server.broken = {"a": 404}
    rate(tab, "1")
    rate(tab, "2", assignment="b")
    until(tab, "outbox.state === 'stranger' && outbox.size === 1")
    assert server.taken == [("b", "2")]
    server.broken = {}
    tab.evaluate("dispatchEvent(new Event('focus'))")
    delivered(tab)
    assert server.order("a") == ["1"]


def test_an_assignment_that_breaks_the_server_holds_nothing_else_up(tab: Page, server: Server) -> None:
    server.broken = {"a": 500}
    rate(tab, "1")
    rate(tab, "2", assignment="b")
    until(tab, "outbox.state === 'offline' && outbox.size === 1")
    assert server.taken == [("b", "2")]


def test_two_tabs_send_in_the_order_of_both_and_each_act_once(tab: Page, server: Server) -> None:
    other = server.open(tab.context.new_page(), START)
    server.trouble = "offline"
    for number in range(0, 10, 2):
        rate(tab, str(number))
        until(tab, f"outbox.size === {number + 1}")
        rate(other, str(number + 1))
        until(other, f"outbox.size === {number + 2}")
    until(tab, "outbox.size === 10")  # each knows of the other's
    server.trouble = None
    for page in (tab, other):
        page.evaluate("dispatchEvent(new Event('online'))")
    delivered(tab)
    delivered(other)
    names = [str(number) for number in range(10)]
    assert server.order() == names
    until(tab, "seen.length === 10")
    until(other, "seen.length === 10")
    assert seen(tab) == seen(other) == names


def test_acts_that_are_added_while_others_are_on_their_way_follow(tab: Page, server: Server) -> None:
    for number in range(30):
        rate(tab, str(number))
        if number % 7 == 0:
            tab.wait_for_timeout(5)
    delivered(tab)
    assert server.order() == [str(number) for number in range(30)]
    assert seen(tab) == server.order()
    assert sum(len(acts) for _, acts in server.requests) == 30


@pytest.mark.parametrize(
    "closed",
    [
        "Object.defineProperty(globalThis, 'indexedDB', { value: undefined })",
        "IDBFactory.prototype.open = () => { throw new DOMException('closed', 'SecurityError'); }",
        "IDBObjectStore.prototype.add = () => { throw new DOMException('full', 'QuotaExceededError'); }",
    ],
)
def test_without_storage_the_memory_serves_and_the_page_is_told(page: Page, server: Server, closed: str) -> None:
    page.add_init_script(closed)
    tab = server.open(page, START)
    server.trouble = "offline"
    rate(tab, "1", "2")
    until(tab, "outbox.state === 'offline' && outbox.fragile")
    rate(tab, "3")
    assert tab.evaluate("outbox.size") == 3
    assert seen(tab) == ["full"]
    server.trouble = None
    tab.evaluate("outbox.pump()")
    delivered(tab)
    assert server.order() == ["1", "2", "3"]
    assert seen(tab) == ["full", "1", "2", "3"]
    assert not tab.evaluate("outbox.fragile")


def test_storage_that_opens_up_again_takes_what_the_memory_held(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    tab.evaluate(
        """() => {
             window.put = IDBObjectStore.prototype.add;
             IDBObjectStore.prototype.add = () => { throw new DOMException("full", "QuotaExceededError"); };
           }"""
    )
    rate(tab, "1")
    until(tab, "outbox.fragile")
    tab.evaluate("() => { IDBObjectStore.prototype.add = window.put; }")
    rate(tab, "2")
    until(tab, "!outbox.fragile")
    server.open(tab, START)
    server.trouble = None
    delivered(tab)
    assert server.order() == ["1", "2"]


def test_without_locks_and_channels_it_still_delivers(page: Page, server: Server) -> None:
    """Browsers withhold locks from pages that came without TLS."""
    page.add_init_script("delete Navigator.prototype.locks; delete globalThis.BroadcastChannel;")
    tab = server.open(page, START)
    rate(tab, "1", "2")
    submit(tab)
    delivered(tab)
    assert server.order() == ["1", "2", "end"]


def test_what_a_former_version_left_is_delivered_in_the_new_form(page: Page, server: Server) -> None:
    former = [
        {
            "kind": "rate",
            "assignment": "a",
            "completion": 7,
            "method": "PUT",
            "path": "assignments/a/ratings/7/",
            "body": {"client_id": "1", "value": -1, "flagged": True, "active_ms": 1500},
        },
        {
            "kind": "submit",
            "assignment": "a",
            "method": "POST",
            "path": "assignments/a/submit/",
            "body": {"client_id": "2", "finish_reason": "found_error", "ratings": []},
        },
        {"kind": "skip", "assignment": "b", "method": "POST", "path": "assignments/b/skip/"},
    ]
    server.open(page)
    page.evaluate(
        """(entries) => entries.forEach((entry, index) =>
             { localStorage["stepmark:ada:" + String(1000 + index).padStart(15, "0")] = JSON.stringify(entry); })""",
        former,
    )
    page.evaluate("localStorage['stepmark:bob:000000000000001'] = 'not mine'")
    page.evaluate(START)
    delivered(page)
    assert server.taken == [("a", "1"), ("a", "2"), ("b", "return skip")]
    until(page, "seen.length === 3")
    act = page.evaluate("seen[0].act")
    assert act == {
        "client_id": "1",
        "kind": "rate",
        "completion": 7,
        "value": -1,
        "flagged": True,
        "active_ms": 1500,
        "wall_ms": 1500,
    }
    assert page.evaluate("Object.keys(localStorage)") == ["stepmark:bob:000000000000001"]


def test_another_persons_work_is_not_sent(tab: Page, server: Server) -> None:
    server.trouble = "offline"
    rate(tab, "1")
    until(tab, "outbox.state === 'offline'")
    server.trouble = None
    server.requests.clear()
    other = tab.context.new_page()
    tab.close()
    server.open(other, START.replace('"ada"', '"bob"'))
    assert other.evaluate("outbox.size") == 0
    assert server.requests == []


def test_the_dry_outbox_accepts_all_and_sends_nothing(tab: Page, server: Server) -> None:
    answers = tab.evaluate(
        """async () => {
             const { NullOutbox } = await import("/static/js/label/outbox.js");
             const dry = new NullOutbox();
             const answers = [];
             dry.addEventListener("delivered", ({ detail }) => answers.push(detail.answer));
             await dry.ready;
             await dry.add({ kind: "act", assignment: "a", act: { client_id: "1" } });
             await dry.add({ kind: "submit", assignment: "a", body: { finish_reason: "solution" } });
             await dry.add({ kind: "return", assignment: "a", body: { how: "skip" } });
             return [answers, dry.size, dry.state, dry.fragile, await dry.entries()];
           }"""
    )
    draft = {"state": "draft", "written": {}, "waiting": []}
    ended = {"state": "submitted", "finish_reason": "solution", "revision": 1}
    assert answers == [[draft, ended, None], 0, "saved", False, []]
    assert server.requests == []
