"""The rules of labeling, as a reducer over acts: phase 2 with its follow-ups, targeted labeling, phase 1; and what
holds whatever is pressed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from annotator.errors import Refusal
from annotator.protocol import Act, Candidate, Item, Node, Said, finish_reason, fold, may_write, missing, walk

ids = itertools.count()


def act(kind: str, **more: Any) -> Act:
    return Act(client_id=f"act-{next(ids)}", kind=kind, **more)


def rate(completion: int, value: int | None, *, flagged: bool = False) -> Act:
    return act("rate", completion=completion, value=value, flagged=flagged)


def undo(of: Act) -> Act:
    return act("undo", undoes=of.client_id)


def refused(item: Item, *acts: Act) -> str:
    with pytest.raises(Refusal) as refusal:
        fold(item, acts)
    return refusal.value.code


def values(said: Said) -> dict[int, int]:
    return {key: rated.value for key, rated in said.ratings.items()}


# --- Phase 2 ---------------------------------------------------------------------------------------------------------


def ready(steps: int = 3, *, alternatives: int = 0, critiques: int = 0, **more: Any) -> Item:
    """A ready solution with completions 10, 20, 30 …; alternatives of the first are 11, 12 …, its critiques 1, 2 …"""
    children: dict[Node, list[Candidate]] = {}
    for step in range(1, steps + 1):
        parent = None if step == 1 else (step - 1) * 10
        children[parent] = [Candidate(step * 10 + index) for index in range(alternatives + 1)]
    offered = {step * 10: list(range(1, critiques + 1)) for step in range(1, steps + 1)}
    return Item(phase=2, children=children, critiques=offered if critiques else {}, **more)


def test_a_solution_without_errors_ends_as_solution() -> None:
    said = fold(ready(), [rate(10, 1), rate(20, 0), rate(30, 1)])
    assert finish_reason(ready(), said) == "solution"
    assert values(said) == {10: 1, 20: 0, 30: 1}


def test_the_first_error_ends_it() -> None:
    said = fold(ready(), [rate(10, 1), rate(20, -1)])
    assert finish_reason(ready(), said) == "found_error"


def test_something_is_missing_until_then() -> None:
    assert finish_reason(ready(), fold(ready(), [rate(10, 1)])) is None
    assert missing(ready(), Said()) == ["ratings"]


def test_no_step_is_skipped_and_none_is_judged_after_an_error() -> None:
    assert refused(ready(), rate(20, 1)) == "step_skipped"
    assert refused(ready(), rate(10, -1), rate(20, 1)) == "after_first_error"
    assert refused(ready(), rate(99, 1)) == "unknown_completion"
    assert refused(ready(), rate(10, 3)) == "bad_rating"


def test_an_earlier_error_cuts_what_follows_and_lifting_it_reopens_the_rest() -> None:
    start = [rate(10, 1), rate(20, 1), rate(30, -1)]
    assert values(fold(ready(), [*start, rate(10, -1)])) == {10: -1}
    assert values(fold(ready(), [*start, rate(10, -1), rate(10, 0)])) == {10: 0}
    assert missing(ready(), fold(ready(), [*start, rate(30, 0)])) == []


def test_a_rating_taken_back_takes_what_follows_with_it() -> None:
    assert values(fold(ready(), [rate(10, 1), rate(20, 1), rate(30, 1), rate(20, None)])) == {10: 1}


def test_undo_brings_back_everything_that_an_act_had_cut() -> None:
    before = [rate(10, 1), rate(20, 0, flagged=True), rate(30, 1)]
    slip = rate(10, -1)
    assert fold(ready(), [*before, slip, undo(slip)]) == fold(ready(), before)
    again = rate(30, None)
    assert fold(ready(), [*before, slip, undo(slip), again, undo(again), undo(before[2])]) == fold(ready(), before[:2])


def test_undo_is_of_the_last_act_alone() -> None:
    first, second = rate(10, 1), rate(20, 1)
    assert refused(ready(), first, second, undo(first)) == "not_last"
    assert refused(ready(), undo(first)) == "not_last"


# --- After the first error -------------------------------------------------------------------------------------------

EVERYTHING = {"ask_progress": "required", "ask_critiques": "required", "ask_alternatives": "required"}


def test_follow_ups_are_asked_in_turn_after_the_first_error() -> None:
    item = ready(alternatives=2, critiques=1, **EVERYTHING)
    acts = [rate(10, -1)]
    assert missing(item, fold(item, acts)) == ["progress", "critiques", "alternatives"]
    acts += [act("progress", value=2)]
    assert missing(item, fold(item, acts)) == ["critiques", "alternatives"]
    acts += [act("critique", critique=1, value=1)]
    assert missing(item, fold(item, acts)) == ["alternatives"]
    acts += [rate(11, 1), rate(12, -1, flagged=True)]
    assert finish_reason(item, fold(item, acts)) == "found_error"


def test_where_no_critique_is_good_the_labeler_writes_one() -> None:
    item = ready(critiques=1, ask_critiques="required")
    acts = [rate(10, -1), act("critique", critique=1, value=-1)]
    assert missing(item, fold(item, acts)) == ["critiques"]
    assert missing(item, fold(item, [*acts, act("own_critique", text="The sign is lost.")])) == []


def test_what_is_optional_or_has_no_content_is_not_missing() -> None:
    optional = dict.fromkeys(EVERYTHING, "optional")
    said = fold(ready(alternatives=2, critiques=2, **optional), [rate(10, -1)])
    assert finish_reason(ready(alternatives=2, critiques=2, **optional), said) == "found_error"
    bare = ready(ask_critiques="required", ask_alternatives="required")
    assert finish_reason(bare, fold(bare, [rate(10, -1)])) == "found_error"


def test_follow_ups_belong_to_one_error() -> None:
    item = ready(alternatives=1, critiques=1, **EVERYTHING)
    said = [rate(10, 1), rate(20, -1), act("progress", value=3), rate(21, 1), act("own_critique", text="No.")]
    moved = fold(item, [*said, rate(10, -1)])
    assert (moved.progress, moved.own_critique, values(moved)) == (None, "", {10: -1})
    lifted = rate(20, 1)
    assert fold(item, [*said, lifted, undo(lifted)]) == fold(item, said)
    kept = fold(item, [*said, rate(20, -1, flagged=True)])
    assert kept.progress == 3


@pytest.mark.parametrize("follow_up", [act("progress", value=1), act("own_critique", text="x"), rate(11, 1)])
def test_follow_ups_need_an_error_and_a_campaign_that_asks(follow_up: Act) -> None:
    assert refused(ready(alternatives=1, **EVERYTHING), follow_up) == "no_error"
    assert refused(ready(alternatives=1), rate(10, -1), follow_up) == "follow_up_off"


def test_only_what_is_offered_can_be_rated() -> None:
    item = ready(alternatives=1, critiques=1, **EVERYTHING)
    assert refused(item, rate(10, -1), act("critique", critique=7, value=1)) == "unknown_critique"
    assert refused(item, rate(10, 1), rate(20, -1), rate(11, 1)) == "no_error"
    assert refused(item, rate(10, -1), act("progress", value=-1)) == "bad_rating"


# --- Targeted labeling -----------------------------------------------------------------------------------------------


def test_only_the_marked_steps_are_asked_and_the_others_stay_unrated() -> None:
    item = ready(5, targets=(1, 3))
    said = fold(item, [rate(20, 1), rate(40, 0)])
    assert (finish_reason(item, said), values(said)) == ("", {20: 1, 40: 0})
    assert refused(item, rate(40, 1)) == "step_skipped"
    assert refused(item, rate(10, 1)) == "not_a_target"
    assert refused(item, rate(30, -1)) == "not_a_target"


def test_an_earlier_step_can_be_said_to_be_wrong_which_ends_the_item() -> None:
    item = ready(5, targets=(1, 3))
    said = fold(item, [rate(20, 1), rate(30, -1)])
    assert (finish_reason(item, said), values(said)) == ("found_error", {20: 1, 30: -1})
    assert refused(item, rate(20, 1), rate(30, -1), rate(40, 1)) == "after_first_error"
    earlier = fold(item, [rate(20, 1), rate(40, 1), rate(10, -1)])
    assert values(earlier) == {10: -1}


def test_targets_stop_at_the_first_error_and_ask_no_follow_ups() -> None:
    item = ready(5, targets=(1, 3), alternatives=1, **EVERYTHING)
    assert finish_reason(item, fold(item, [rate(20, -1)])) == "found_error"
    assert refused(item, rate(20, -1), act("progress", value=1)) == "follow_up_off"


# --- Phase 1 ---------------------------------------------------------------------------------------------------------


def tree(**more: Any) -> Item:
    """First step 1, 2, 3; after 1 comes 4 or 5, after 2 comes 6 (final); 4 is followed by 7 (final)."""
    children: dict[Node, list[Candidate]] = {
        None: [Candidate(1, 0.9), Candidate(2, 0.1), Candidate(3, 0.5)],
        1: [Candidate(4, 0.3), Candidate(5, 0.6)],
        2: [Candidate(6, is_final=True)],
        4: [Candidate(7, is_final=True)],
    }
    return Item(phase=1, children=children, **more)


def shown(item: Item, acts: Sequence[Act]) -> list[int]:
    return [candidate.id for candidate in walk(item, fold(item, acts))[-1].shown]


def test_one_candidate_is_shown_and_a_good_one_continues_at_once() -> None:
    assert shown(tree(), []) == [1]
    assert shown(tree(), [rate(1, 1)]) == [4]
    said = fold(tree(), [rate(1, 1), rate(4, 1), rate(7, 1)])
    assert finish_reason(tree(), said) == "solution"


@pytest.mark.parametrize("value", [0, -1])
def test_a_candidate_that_is_not_good_opens_the_others(value: int) -> None:
    assert shown(tree(), [rate(1, value)]) == [1, 2, 3]
    assert missing(tree(), fold(tree(), [rate(1, value), rate(2, 1)])) == ["ratings"]
    assert shown(tree(), [rate(1, value), rate(2, 1), rate(3, 0)]) == [6]


def test_a_grid_shows_all_candidates_from_the_start() -> None:
    assert shown(tree(always_grid=True), []) == [1, 2, 3]
    assert refused(tree(), rate(2, 1)) == "not_shown"
    assert shown(tree(always_grid=True, candidates_shown=2), []) == [1, 2]


def test_of_several_good_ones_the_labeler_chooses_or_a_draw_does() -> None:
    acts = [rate(1, 1), rate(2, 1), rate(3, 0)]
    grid, drawn = tree(always_grid=True), tree(always_grid=True, continue_by_draw=True)
    assert missing(grid, fold(grid, acts)) == ["choice"]
    assert shown(grid, [*acts, act("choose", completion=1)]) == [4, 5]
    assert refused(grid, *acts, act("choose", completion=3)) == "not_a_choice"
    assert shown(drawn, acts) == [6], "the lowest draw"
    assert refused(drawn, *acts, act("choose", completion=1)) == "not_needed"


def test_where_none_is_good_the_labeler_writes_the_step() -> None:
    acts = [rate(1, 0), rate(2, -1), rate(3, -1)]
    assert missing(tree(), fold(tree(), acts)) == ["own_step"]
    own = act("write", text="Let x be the number.")
    said = fold(tree(), [*acts, own])
    assert walk(tree(), said)[0].next == own.client_id
    assert missing(tree(), said) == ["own_step"], "nothing follows it, so the next step is the labeler's too"
    final = act("write", text="So x = 2.\n\n# Answer\n\n2")
    assert finish_reason(tree(), fold(tree(), [*acts, own, final])) == "solution"
    assert refused(tree(), rate(1, 0), own) == "not_needed"
    assert not may_write(tree(), Said())
    assert refused(tree(), *acts, act("write", text=" ")) == "text_missing"
    assert fold(tree(), [*acts, own, final, act("write", text="")]) == said


def test_correcting_an_earlier_step_cuts_the_branch_and_undo_brings_it_back() -> None:
    acts = [rate(1, 1), rate(4, 0), rate(5, 0), act("write", text="Mine.")]
    slip = rate(1, -1)
    assert values(fold(tree(), [*acts, slip])) == {1: -1}
    assert fold(tree(), [*acts, slip, undo(slip)]) == fold(tree(), acts)


def test_an_own_step_goes_when_a_candidate_turns_out_good() -> None:
    acts = [rate(1, 0), rate(2, -1), rate(3, -1), act("write", text="Mine.")]
    said = fold(tree(), [*acts, rate(2, 1)])
    assert not said.written
    assert walk(tree(), said)[0].next == 2


def test_candidates_that_come_late_do_not_disturb_an_own_step() -> None:
    bare = Item(phase=1, children={})
    own = act("write", text="Mine.")
    said = fold(bare, [own])
    late = Item(phase=1, children={None: [Candidate(1), Candidate(2)]})
    assert fold(late, [own]) == said
    assert walk(late, said)[0].next == own.client_id


def test_a_phase_2_item_has_no_choices_and_phase_1_no_follow_ups() -> None:
    assert refused(ready(), act("choose", completion=10)) == "not_needed"
    assert refused(ready(), act("write", text="x")) == "not_needed"
    assert refused(tree(ask_progress="required"), act("progress", value=1)) == "follow_up_off"
    assert refused(tree(), act("dance")) == "unknown_act"


# --- Whatever is pressed ---------------------------------------------------------------------------------------------


class Labeling(RuleBasedStateMachine):
    """Random acts on an item; those that are refused leave everything as it was."""

    item: Item

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[Act] = []
        self.said = Said()
        self.past: list[tuple[Act, Said]] = []

    def do(self, new: Act) -> None:
        try:
            after = fold(self.item, [*self.acts, new])
        except Refusal:
            return
        self.past.append((new, self.said))
        self.acts.append(new)
        self.said = after

    @rule(number=st.integers(0, 60), value=st.sampled_from([-1, 0, 1, None]), flagged=st.booleans())
    def rates(self, number: int, value: int | None, flagged: bool) -> None:
        known = sorted({c.id for candidates in self.item.children.values() for c in candidates})
        self.do(rate(known[number % len(known)], value, flagged=flagged))

    @rule(value=st.sampled_from([0, 1, 2, 3, None]))
    def says_how_far(self, value: int | None) -> None:
        self.do(act("progress", value=value))

    @rule(critique=st.integers(1, 2), value=st.sampled_from([-1, 0, 1, None]))
    def rates_a_critique(self, critique: int, value: int | None) -> None:
        self.do(act("critique", critique=critique, value=value))

    @rule(
        text=st.sampled_from(["", "Mine.", "Mine.\n\n# Answer\n\n2"]), kind=st.sampled_from(["write", "own_critique"])
    )
    def writes(self, text: str, kind: str) -> None:
        self.do(act(kind, text=text))

    @rule(number=st.integers(1, 7))
    def chooses(self, number: int) -> None:
        self.do(act("choose", completion=number))

    @precondition(lambda self: self.past)
    @rule()
    def takes_the_last_act_back(self) -> None:
        last, before = self.past.pop()
        self.acts.append(undo(last))
        self.said = fold(self.item, self.acts)
        assert self.said == before

    @invariant()
    def a_labeling_ends_exactly_when_nothing_is_missing(self) -> None:
        assert (finish_reason(self.item, self.said) is None) == bool(missing(self.item, self.said))


class JudgesReadySolutions(Labeling):
    item = ready(
        4, alternatives=2, critiques=2, ask_progress="required", ask_critiques="required", ask_alternatives="optional"
    )

    @invariant()
    def the_ratings_are_a_judged_beginning_that_ends_at_the_first_error(self) -> None:
        path = [self.said.ratings[key].value for key in self.item.path if key in self.said.ratings]
        assert [key for key in self.item.path if key in self.said.ratings] == list(self.item.path[: len(path)])
        assert -1 not in path[:-1]
        beside = set(self.said.ratings) - set(self.item.path)
        assert not beside or (path[-1] == -1 and beside <= set(self.item.alternatives(len(path) - 1)))
        if -1 not in path:
            assert (self.said.progress, self.said.own_critique, self.said.critiques) == (None, "", {})


class JudgesTargets(Labeling):
    item = ready(6, targets=(1, 3, 4), alternatives=1, **EVERYTHING)

    @invariant()
    def what_is_not_asked_is_unrated_or_the_error(self) -> None:
        rated = {self.item.step_of[key]: value for key, value in values(self.said).items()}
        error = min((step for step, value in rated.items() if value == -1), default=None)
        assert all(step in (1, 3, 4) or step == error for step in rated)
        assert error is None or max(rated) == error


class WalksThroughATree(Labeling):
    item = tree()

    @invariant()
    def the_walk_holds_exactly_what_was_said(self) -> None:
        stages = walk(self.item, self.said)
        on_the_walk = {candidate.id for stage in stages for candidate in stage.shown}
        assert set(self.said.ratings) <= on_the_walk
        assert all(candidate.id in self.said.ratings for stage in stages[:-1] for candidate in stage.shown)
        assert set(self.said.written.values()) == {stage.next for stage in stages if isinstance(stage.next, str)}
        for stage in stages:
            if isinstance(stage.next, int):
                assert self.said.ratings[stage.next].value == 1


class WalksThroughAGrid(WalksThroughATree):
    item = tree(always_grid=True)


class WalksByDraw(WalksThroughATree):
    item = tree(always_grid=True, continue_by_draw=True)


short = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestJudgesReadySolutions = JudgesReadySolutions.TestCase
TestJudgesTargets = JudgesTargets.TestCase
TestWalksThroughATree = WalksThroughATree.TestCase
TestWalksThroughAGrid = WalksThroughAGrid.TestCase
TestWalksByDraw = WalksByDraw.TestCase
for machine in (
    TestJudgesReadySolutions,
    TestJudgesTargets,
    TestWalksThroughATree,
    TestWalksThroughAGrid,
    TestWalksByDraw,
):
    machine.settings = short


@given(st.lists(st.sampled_from([-1, 0, 1, None]), max_size=12), st.integers(1, 6))
def test_acts_one_by_one_and_all_at_once_amount_to_the_same(pressed: list[int | None], steps: int) -> None:
    item = ready(steps)
    acts: list[Act] = []
    said = Said()
    for value in pressed:
        following: Callable[[], int] = lambda: next((k for k in item.path if k not in said.ratings), item.path[-1])  # noqa: B023, E731
        new = rate(following(), value)
        try:
            said = fold(item, [*acts, new])
        except Refusal:
            continue
        acts.append(new)
    assert fold(item, acts) == said
