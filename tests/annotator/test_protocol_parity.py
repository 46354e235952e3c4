"""The server's reducer (annotator/protocol.py) and the page's (static/js/label/protocol.js) are one: on the same item
the same acts are refused under the same codes and amount to the same."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as site
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotator.errors import Refusal
from annotator.models.problem import ends_with_answer
from annotator.protocol import Act, Candidate, Item, Node, Said, finish_reason, fold, may_write, missing, walk

Payload = dict[str, Any]
Judge = Callable[[Payload], list[Payload]]

RUNNER = Path(__file__).with_name("protocol_runner.mjs")
REDUCER = Path(site.ROOT) / "static" / "js" / "label" / "protocol.js"
NOBODYS = 999  # the id of no completion and no critique
# Line ends and blanks on which Python and JavaScript do not agree by themselves are among them.
TEXTS = [
    "So.",
    "Then\n# Answer\n2",
    "a\r# Answer\x1c2",
    "a\x85 # Answer\ufeff",
    "# Answer\x85",
    "#  Answer",
    "\x1f# Answer",
]
BLANKS = ["", " \n", "\u2003", "\x1c", "\x85", "\ufeff"]
FOLLOW_UP = st.sampled_from(["off", "optional", "required"])


@pytest.fixture(scope="module")
def page() -> Iterator[Judge]:
    """The page's reducer, in one process for all examples."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node here to run the page's reducer")
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [node, str(RUNNER), str(REDUCER)], stdin=pipe, stdout=pipe, text=True, encoding="utf-8"
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ask, answers = process.stdin, process.stdout

        def judge(question: Payload) -> list[Payload]:
            ask.write(json.dumps(question) + "\n")
            ask.flush()
            answer = answers.readline()
            assert answer, "the page's reducer has failed: its error is above"
            return list(json.loads(answer))

        yield judge
        ask.close()


# --- Items in their wire form ----------------------------------------------------------------------------------------


def completion(number: int, parent: Node, step: int, index: int, **more: Any) -> Payload:
    return {
        "id": number,
        "parent": parent,
        "step": step,
        "index": index,
        "text": "So.",
        "own": False,
        "draw": 0,
        **more,
    }


@st.composite
def protocols(draw: st.DrawFn, phase: int) -> Payload:
    return {
        "phase": phase,
        "always_grid": draw(st.booleans()),
        "continue_by": draw(st.sampled_from(["labeler", "draw"])),
        "candidates": draw(st.sampled_from([1, 2, 3, 7])),
        "progress": draw(FOLLOW_UP),
        "critiques": draw(FOLLOW_UP),
        "alternatives": draw(FOLLOW_UP),
    }


@st.composite
def ready_solutions(draw: st.DrawFn, *, targeted: bool) -> Payload:
    """Phase 2: a path with alternatives beside it, some of which go on, and critiques of anything."""
    completions: list[Payload] = []
    parent: Node = None
    for step in range(draw(st.integers(1, 5))):
        first = len(completions) + 1
        beside = draw(st.sampled_from([0, 0, 1, 2, 9]))
        completions += [completion(first + index, parent, step, index) for index in range(1 + beside)]
        if beside and draw(st.booleans()):
            completions.append(completion(first + beside + 1, first + 1, step + 1, 0))
        parent = first
    steps = max(one["step"] for one in completions if one["index"] == 0 and is_on_path(completions, one)) + 1
    ids = [one["id"] for one in completions]
    criticised = draw(st.lists(st.sampled_from(ids), max_size=6))
    targets = draw(st.lists(st.integers(0, steps - 1), min_size=1, unique=True).map(sorted)) if targeted else None
    return {
        "protocol": draw(protocols(2)),
        "completions": draw(st.permutations(completions)),
        "targets": targets,
        "critiques": [{"id": number, "completion": of, "text": "No."} for number, of in enumerate(criticised, 1)],
    }


def is_on_path(completions: list[Payload], one: Payload) -> bool:
    parents = {other["id"]: other for other in completions}
    return one["index"] == 0 and (one["parent"] is None or is_on_path(completions, parents[one["parent"]]))


@st.composite
def trees(draw: st.DrawFn) -> Payload:
    """Phase 1: candidates after candidates, and after steps that the labeler is yet to write (their ids are known)."""
    completions: list[Payload] = []
    nodes: list[tuple[Node, int]] = [(None, 0), *((f"act-{number}", draw(st.integers(1, 2))) for number in range(4))]
    for parent, step in nodes:
        for index in range(draw(st.sampled_from([0, 1, 2, 3, 4]))):
            number = len(completions) + 1
            text = draw(st.sampled_from(["So.", *TEXTS]))
            again = draw(st.sampled_from([0.1, 0.5, 0.9]))
            completions.append(completion(number, parent, step, index, text=text, draw=again))
            if step < 3 and len(completions) < 20:
                nodes.append((number, step + 1))
    written = [completion(100 + n, None, 0, 0, own=True) for n in range(draw(st.integers(0, 2)))]
    return {
        "protocol": draw(protocols(1)),
        "completions": draw(st.permutations(completions)) + written,
        "targets": None,
        "critiques": [],
    }


def item_of(payload: Payload) -> Item:
    """The same item as the server has it."""
    protocol = payload["protocol"]
    children: dict[Node, list[Candidate]] = {}
    for one in sorted(payload["completions"], key=lambda one: (one["index"], one["id"])):
        if not one["own"]:
            candidate = Candidate(one["id"], one["draw"], ends_with_answer(one["text"]))
            children.setdefault(one["parent"], []).append(candidate)
    critiques: dict[int, list[int]] = {}
    for critique in payload["critiques"]:
        critiques.setdefault(critique["completion"], []).append(critique["id"])
    return Item(
        phase=protocol["phase"],
        children=children,
        critiques=critiques,
        targets=None if payload["targets"] is None else tuple(payload["targets"]),
        always_grid=protocol["always_grid"],
        continue_by_draw=protocol["continue_by"] == "draw",
        candidates_shown=protocol["candidates"],
        ask_progress=protocol["progress"],
        ask_critiques=protocol["critiques"],
        ask_alternatives=protocol["alternatives"],
    )


# --- Acts ------------------------------------------------------------------------------------------------------------

RATING = st.sampled_from([1, 1, 1, 0, -1, None])


def acts(kind: str, **fields: Any) -> st.SearchStrategy[Payload]:
    return st.fixed_dictionaries({"kind": st.just(kind), **fields})


def sensible(item: Item, said: Said) -> st.SearchStrategy[Payload]:
    """What a labeler would do next."""
    if item.phase == 1:
        last = walk(item, said)[-1]
        shown = st.sampled_from([candidate.id for candidate in last.shown] or [NOBODYS])
        if last.missing == "own_step":
            return acts("write", text=st.sampled_from(TEXTS))
        if last.missing == "choice":
            return acts("choose", completion=shown)
        return acts("rate", completion=shown, value=RATING, flagged=st.booleans())
    error = item.first_error(said)
    if error is not None and item.targets is None:
        alternatives = st.sampled_from(item.alternatives(error) or [NOBODYS])
        critiques = st.sampled_from(item.critiques.get(item.path[error]) or [NOBODYS])
        return st.one_of(
            acts("progress", value=st.sampled_from([0, 1, 2, 3])),
            acts("critique", critique=critiques, value=RATING),
            acts("own_critique", text=st.just("It is wrong.")),
            acts("rate", completion=alternatives, value=RATING),
        )
    asked = range(len(item.path)) if item.targets is None else item.targets
    step = next((step for step in asked if item.path[step] not in said.ratings), asked[-1])
    return acts("rate", completion=st.just(item.path[step]), value=RATING)


def second_thoughts(said: Said) -> st.SearchStrategy[Payload]:
    rated = st.sampled_from(list(said.ratings) or [NOBODYS])
    return acts("rate", completion=rated, value=st.sampled_from([-1, 0, 1, None]))


def anything(payload: Payload, kept: list[Payload]) -> st.SearchStrategy[Payload]:
    completions = st.sampled_from([NOBODYS, *(one["id"] for one in payload["completions"])])
    critiques = st.sampled_from([NOBODYS, *(one["id"] for one in payload["critiques"])])
    ids = [one["client_id"] for one in kept]
    return st.one_of(
        acts("rate", completion=completions, value=st.one_of(RATING, st.just(2)), flagged=st.booleans()),
        acts("choose", completion=completions),
        acts("write", text=st.sampled_from(TEXTS + BLANKS)),
        acts("progress", value=st.sampled_from([None, -1, 0, 1, 2, 3])),
        acts("critique", critique=critiques, value=st.one_of(RATING, st.just(3))),
        acts("own_critique", text=st.sampled_from([*BLANKS, " It is wrong.\x85", "\ufeffNo.\x1c"])),
        acts("undo", undoes=st.sampled_from([*ids[-1:], *ids, "nobody's"])),
        acts("applaud"),
    )


def answer(item: Item, kept: list[Payload], act: Payload) -> tuple[str | None, bool]:
    """The code under which the server refuses a new act, and whether a replay takes it. They differ for a step
    of one's own that was written before candidates came."""
    before = [Act(**one) for one in kept]
    try:
        fold(item, [*before, Act(**act)])
    except Refusal as refusal:
        return refusal.code, False
    is_new_step = act["kind"] == "write" and act["text"].strip() != ""
    return ("not_needed" if is_new_step and not may_write(item, fold(item, before)) else None), True


def holds(item: Item, kept: list[Payload]) -> Payload:
    said = fold(item, [Act(**one) for one in kept])
    state = json.loads(json.dumps(dataclasses.asdict(said)))
    return {"state": state, "missing": missing(item, said), "finish": finish_reason(item, said)}


def agree(page: Judge, payload: Payload, choose: Callable[[Item, list[Payload]], Payload | None]) -> None:
    """Ask both about one act after another, as `choose` gives them for those that were taken."""
    item = item_of(payload)
    kept: list[Payload] = []
    asked: list[tuple[Payload, bool]] = []
    expected = []
    while chosen := choose(item, kept):
        act = {"client_id": f"act-{len(asked)}", **chosen}
        code, is_kept = answer(item, kept, act)
        asked.append((act, is_kept))
        kept += [act] if is_kept else []
        expected.append({"refusal": code, **holds(item, kept)})
    assert page({"item": payload, "acts": asked}) == expected


KINDS = {"whole": ready_solutions(targeted=False), "targeted": ready_solutions(targeted=True), "tree": trees()}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=70, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_page_and_server_agree(page: Judge, kind: str, data: st.DataObject) -> None:
    payload = data.draw(KINDS[kind], label="item")
    left = iter(range(data.draw(st.integers(1, 15), label="acts")))

    def choose(item: Item, kept: list[Payload]) -> Payload | None:
        if next(left, None) is None:
            return None
        said = fold(item, [Act(**one) for one in kept])
        return data.draw(st.one_of(sensible(item, said), second_thoughts(said), anything(payload, kept)), label="act")

    agree(page, payload, choose)


PLAIN = {"always_grid": False, "continue_by": "labeler", "candidates": 7} | dict.fromkeys(
    ["progress", "critiques", "alternatives"], "off"
)


@pytest.mark.parametrize("last", [1, 2])
def test_a_rating_taken_back_before_an_error_cuts_it_in_targeted_labeling_too(page: Judge, last: int) -> None:
    """Whether the error is at the second target or at a step between the two."""
    path = [completion(1, None, 0, 0), completion(2, 1, 1, 0), completion(3, 2, 2, 0)]
    said = iter([(1, 1), (2, -1), (1, None)])
    payload: Payload = {
        "protocol": {"phase": 2, **PLAIN},
        "completions": path,
        "targets": [0, last],
        "critiques": [],
    }

    def choose(item: Item, kept: list[Payload]) -> Payload | None:
        rated = next(said, None)
        return {"kind": "rate", "completion": rated[0], "value": rated[1]} if rated else None

    agree(page, payload, choose)


@pytest.mark.parametrize("text", TEXTS + BLANKS)
def test_blanks_and_line_ends_are_the_same(page: Judge, text: str) -> None:
    given_acts = iter([{"kind": "write", "text": "So."}, {"kind": "write", "text": text}])
    payload: Payload = {"protocol": {"phase": 1, **PLAIN}, "completions": [], "targets": None, "critiques": []}
    agree(page, payload, lambda item, kept: next(given_acts, None))
