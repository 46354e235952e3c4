"""The queue under whatever people do: after every step the counts are right and nobody holds what they should not, and
in the end nothing is stranded."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.db import transaction
from django.db.models import Count, F, Q
from django.utils import timezone
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from annotator.actions.campaigns import activate_campaign
from annotator.actions.generations import open_generation, plan_stream
from annotator.actions.labeling import SubmitAct, store_acts, submit_labeling, withdraw_labeling
from annotator.actions.queue import claim_next, free_lease, renew_lease, return_assignment, rewant
from annotator.actions.reports import release_problem, return_to_labelers
from annotator.errors import Conflict
from annotator.models import Assignment, Campaign, Labeling, Membership, QueueItem, Report
from annotator.protocol import Act
from tests.annotator.cast import (
    Role,
    ending,
    fill_pool,
    import_rows,
    label,
    make_campaign,
    make_member,
    path_of,
    problem_texts,
    rating,
    simple_row,
)

pytestmark = pytest.mark.django_db

State = Assignment.State
Lane = QueueItem.Lane
SERVED = (Lane.MAIN, Lane.RETURNED)
MOST_WANTED = 3
NUMBER = st.integers(0, 99)

campaign: Campaign
people: list[Membership]
helpers: list[Membership]


def open_campaign() -> None:
    """Four solutions of three problems; three labelers and a manager, and others who come in the end. Few, so that
    people meet."""
    global campaign, people, helpers
    draft = make_campaign(audit_per_generation=0, labelings_wanted=2)
    texts = problem_texts("train", 3)
    import_rows(draft, [simple_row(text, [f"{way}.", "So 2."]) for text, way in zip(texts * 2, "abcd", strict=False)])
    campaign = activate_campaign(draft, actor=None)
    people = [make_member(campaign, name) for name in ("lea", "max", "noa")]
    people.append(make_member(campaign, "mia", Role.MANAGER))
    helpers = [make_member(campaign, f"helper{number}") for number in range(MOST_WANTED)]
    helpers += [make_member(campaign, f"boss{number}", Role.MANAGER) for number in range(MOST_WANTED)]


class Queue(RuleBasedStateMachine):
    """Three labelers and a manager on four solutions. `over` is what each of them has finished or given to others."""

    def __init__(self) -> None:
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.over: set[tuple[int, int]] = set()
        self.last: tuple[Assignment, SubmitAct] | None = None

    # --- What happens ---

    @rule(number=st.integers(0, 3), ahead=st.booleans())
    def claims(self, number: int, ahead: bool) -> None:
        self.claim(people[number], ahead=ahead)

    @rule()
    def everybody_claims(self) -> None:
        for person in people:
            self.claim(person)

    def claim(self, person: Membership, *, ahead: bool = False) -> Assignment | None:
        held = set(person.assignments.filter(state=State.ACTIVE).values_list("pk", flat=True))
        lanes = dict(QueueItem.objects.values_list("pk", "lane"))
        assignment = claim_next(person, ahead=ahead)
        if assignment is not None and assignment.pk not in held:
            allowed = (*SERVED, Lane.REVIEW) if person.role == Role.MANAGER else SERVED
            assert lanes[assignment.item_id] in allowed
            assert (person.pk, assignment.solution_id) not in self.over
        if assignment is None:
            assert self.what_there_was_for(person) == []
        else:
            assert not assignment.is_expired
            assert assignment.state == State.ACTIVE
        return assignment

    def what_there_was_for(self, person: Membership) -> list[QueueItem]:
        """What this person neither holds nor has finished or given to others, and nobody else holds."""
        lanes = (*SERVED, Lane.REVIEW) if person.role == Role.MANAGER else SERVED
        run_out = Q(assignments__state=State.ACTIVE, assignments__lease_until__lte=timezone.now())
        free = QueueItem.objects.filter(Q(taken__lt=F("wanted")) | run_out, retired=False, lane__in=lanes)
        held = person.assignments.filter(state=State.ACTIVE)
        return [
            item
            for item in free.exclude(solution__in=held.values("solution")).distinct()
            if (person.pk, item.solution_id) not in self.over
        ]

    @precondition(lambda self: Assignment.objects.exists())
    @rule(number=NUMBER, step=st.integers(0, 1), value=st.sampled_from([-1, 0, 1]))
    def says_something(self, number: int, step: int, value: int) -> None:
        assignment = self.assignment(number)
        first = rating(path_of(assignment)[0], 1)
        acts = [first, *([rating(path_of(assignment)[1], value)] if step else [])]
        self.attempt(lambda: store_acts(assignment, acts), unless=self.is_over(assignment))

    @precondition(lambda self: Assignment.objects.exists())
    @rule(number=NUMBER, reason=st.sampled_from(["found_error", "found_error", "give_up", "bad_problem"]))
    def submits(self, number: int, reason: str) -> None:
        """In time, late, or once more: as a correction."""
        assignment = self.assignment(number)
        labeling = Labeling.objects.filter(assignment=assignment).first()
        again = labeling is not None and labeling.state != Labeling.State.DRAFT
        refused = self.is_over(assignment) or (again and reason == "give_up")
        if again and reason == labeling.finish_reason == "bad_problem":
            refused = refused or labeling.events.last().kind == "submit"  # it says nothing new
        acts = [] if reason != "found_error" else self.an_error(assignment, second=again and labeling.revision % 2 == 1)
        submit = ending(reason, reason="" if reason == "found_error" else "so")
        self.attempt(lambda: submit_labeling(assignment, submit, acts), unless=refused)
        if not refused:
            self.over.add((assignment.membership_id, assignment.solution_id))
            self.last = assignment, submit

    @precondition(lambda self: self.last is not None)
    @rule()
    def submits_the_same_again(self) -> None:
        assert self.last is not None
        before = self.counts()
        submit_labeling(self.fresh(self.last[0]), self.last[1])
        assert self.counts() == before

    @precondition(lambda self: Assignment.objects.exists())
    @rule(number=NUMBER, how=st.sampled_from(["release", "postpone", "skip"]))
    def gives_back(self, number: int, how: str) -> None:
        assignment = self.assignment(number)
        held = assignment.state == State.ACTIVE
        self.attempt(lambda: return_assignment(assignment, how), unless=not held)
        if held and how == "skip":
            self.over.add((assignment.membership_id, assignment.solution_id))

    @precondition(lambda self: Assignment.objects.filter(state=State.ACTIVE).exists())
    @rule(number=NUMBER)
    def leaves(self, number: int) -> None:
        """The lease runs out."""
        expire(self.assignment(number, state=State.ACTIVE))

    @precondition(lambda self: Assignment.objects.filter(state=State.ACTIVE).exists())
    @rule(number=NUMBER, taker=st.integers(0, 3))
    def leaves_and_somebody_takes_over(self, number: int, taker: int) -> None:
        self.leaves(number)
        self.claim(people[taker])

    @precondition(lambda self: Assignment.objects.exists())
    @rule(number=NUMBER)
    def is_still_there(self, number: int) -> None:
        assignment = self.assignment(number)
        self.attempt(lambda: renew_lease(assignment), unless=assignment.state != State.ACTIVE)

    @precondition(lambda self: Assignment.objects.exists())
    @rule(number=NUMBER)
    def is_freed(self, number: int) -> None:
        assignment = self.assignment(number)
        self.attempt(lambda: free_lease(assignment, actor=people[3].user), unless=assignment.state != State.ACTIVE)

    @precondition(lambda self: Labeling.objects.exists())
    @rule(number=NUMBER)
    def is_withdrawn(self, number: int) -> None:
        labelings = Labeling.objects.order_by("pk").select_related("campaign", "assignment")
        labeling = labelings[number % labelings.count()]
        submitted = labeling.state in (Labeling.State.SUBMITTED, Labeling.State.SURPLUS)
        self.attempt(lambda: withdraw_labeling(labeling, actor=people[3].user, reason="wrong"), unless=not submitted)

    @rule(wanted=st.integers(1, MOST_WANTED))
    def wants_more_or_fewer(self, wanted: int) -> None:
        Campaign.objects.update(labelings_wanted=wanted)
        rewant(Campaign.objects.get())
        live = QueueItem.objects.filter(retired=False)
        assert not live.exclude(wanted=wanted).exclude(wanted__gt=wanted, wanted=F("taken")).exists()

    @precondition(lambda self: Report.objects.filter(kind="bad_problem", state="open").exists())
    @rule()
    def problem_is_sound(self) -> None:
        report = Report.objects.filter(kind="bad_problem", state="open").first()
        assert report is not None
        release_problem(report, actor=people[3].user)

    @precondition(lambda self: QueueItem.objects.filter(lane=Lane.REVIEW, retired=False).exists())
    @rule()
    def labelers_should_try_once_more(self) -> None:
        item = QueueItem.objects.filter(lane=Lane.REVIEW, retired=False).order_by("pk")[0]
        report = Report.objects.filter(kind="give_up", labeling__solution=item.solution_id).first()
        assert report is not None
        return_to_labelers(report, actor=people[3].user)

    @precondition(lambda self: Assignment.objects.filter(item__generation__closed_at=None).exists())
    @rule(count=st.integers(1, 4))
    def next_generation(self, count: int) -> None:
        current = Campaign.objects.get()
        open_generation(current, plan_stream(current, QueueItem.Arm.RANDOM, count), checkpoint=None)

    # --- What always holds ---

    @invariant()
    def permits_are_those_who_hold_or_have_finished(self) -> None:
        counted = Count("assignments", filter=Q(assignments__state__in=[State.ACTIVE, State.DONE]))
        items = list(QueueItem.objects.annotate(counted=counted).values_list("taken", "counted", "wanted", "pk"))
        assert [row for row in items if row[0] != row[1] or row[0] > row[2]] == []

    @invariant()
    def everybody_has_one_solution_and_one_ahead(self) -> None:
        active = Assignment.objects.filter(state=State.ACTIVE)
        held = list(active.values_list("membership", "ahead"))
        assert len(held) == len(set(held))
        assert not active.filter(labeling__isnull=False).exclude(labeling__state=Labeling.State.DRAFT).exists()

    @invariant()
    def what_is_done_is_submitted_once(self) -> None:
        submitted = Labeling.objects.filter(state=Labeling.State.SUBMITTED).exclude(finish_reason="give_up")
        done = Assignment.objects.filter(state=State.DONE)
        assert sorted(submitted.values_list("assignment", flat=True)) == sorted(done.values_list("pk", flat=True))

    def teardown(self) -> None:
        """Everybody has left. Others can finish everything that is open, managers also what was given up twice."""
        try:
            self.finish_everything()
        finally:
            transaction.set_rollback(True)
            self.example.__exit__(None, None, None)

    def finish_everything(self) -> None:
        for assignment in Assignment.objects.filter(state=State.ACTIVE):
            expire(assignment)
        for person in helpers:
            while assignment := self.claim(person):
                submit_labeling(self.fresh(assignment), ending("found_error"), self.an_error(assignment))
                self.over.add((person.pk, assignment.solution_id))
        live = QueueItem.objects.filter(retired=False).exclude(lane=Lane.HELD)
        done = Count("assignments", filter=Q(assignments__state=State.DONE))
        unfinished = live.annotate(done=done).exclude(done=F("wanted"), taken=F("wanted"))
        assert list(unfinished.values_list("pk", "lane", "taken", "done", "wanted")) == []
        self.permits_are_those_who_hold_or_have_finished()

    # --- How ---

    def assignment(self, number: int, **chosen: str) -> Assignment:
        """One that somebody has had, as a request fetches it."""
        rows = Assignment.objects.filter(**chosen).order_by("created_at")
        return self.fresh(rows[number % rows.count()])

    def fresh(self, assignment: Assignment) -> Assignment:
        around = Assignment.objects.select_related("membership__user", "campaign", "item__generation")
        return around.get(pk=assignment.pk)

    def an_error(self, assignment: Assignment, *, second: bool = False) -> list[Act]:
        first_step, second_step = path_of(assignment)
        return [rating(first_step, 1), rating(second_step, -1)] if second else [rating(first_step, -1)]

    def is_over(self, assignment: Assignment) -> bool:
        """Given to others, or withdrawn: its labeler has no more say."""
        labeling = Labeling.objects.filter(assignment=assignment).first()
        if labeling is not None and labeling.state == Labeling.State.SURPLUS:
            return False
        return assignment.state == State.SKIPPED or (
            labeling is not None and labeling.state == Labeling.State.WITHDRAWN
        )

    def counts(self) -> list[tuple[int, ...]]:
        items = list(QueueItem.objects.order_by("pk").values_list("taken", "wanted", "give_ups"))
        return [*items, (Labeling.objects.count(), Assignment.objects.filter(state=State.DONE).count())]

    def attempt(self, act: Callable[[], object], *, unless: bool) -> None:
        if unless:
            with pytest.raises(Conflict):
                act()
        else:
            act()


# Examples are short as they are; shrinking one takes minutes.
PHASES = [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)]


@pytest.mark.slow
def test_whatever_people_do_the_queue_stays_right_and_nothing_is_stranded() -> None:
    open_campaign()
    run_state_machine_as_test(
        Queue, settings=settings(max_examples=100, stateful_step_count=30, deadline=None, phases=PHASES)
    )


# --- What it has found -----------------------------------------------------------------------------------------------


def expire(assignment: Assignment) -> None:
    Assignment.objects.filter(pk=assignment.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


def claim(person: Membership) -> Assignment:
    assignment = claim_next(person)
    assert assignment is not None
    return assignment


def one_solution() -> tuple[Membership, Membership]:
    draft = make_campaign(audit_per_generation=0)
    fill_pool(draft, train=1)
    only = activate_campaign(draft, actor=None)
    return make_member(only, "lea"), make_member(only, "max")


def test_what_was_submitted_too_late_is_not_served_to_its_labeler_again() -> None:
    lea, max_ = one_solution()
    late = claim(lea)
    expire(late)
    taken_over = claim(max_)
    assert label(late, [-1]).state == "surplus"
    return_assignment(taken_over, "skip")
    assert claim_next(lea) is None
    assert label(late, [1, -1]).revision == 2, "it may be corrected all the same"


@pytest.mark.parametrize("how", ["expire", "release", "postpone"])
def test_who_once_had_a_solution_takes_it_over_when_the_next_one_leaves(how: str) -> None:
    lea, max_ = one_solution()
    had = claim(lea)
    expire(had) if how == "expire" else return_assignment(had, how)
    expire(claim(max_))
    assert claim(lea).pk == had.pk
    assert QueueItem.objects.get().taken == 1
