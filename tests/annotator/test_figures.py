"""One person's figures, which they and their manager see alike."""

from __future__ import annotations

import datetime
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.models import Campaign, Completion, Labeling, Membership, Problem, Rating, Solution
from annotator.queries.figures import SAMPLE, LabelerFigures, figures_of, labeler_figures
from tests.annotator.cast import make_campaign, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def labeler() -> Membership:
    return make_member(make_campaign(), "ada")


def solution_of(campaign: Campaign) -> Solution:
    problem = Problem.objects.create(campaign=campaign, digest=uuid.uuid4().hex, text="?", text_key="", split="train")
    return Solution.objects.create(
        campaign=campaign, problem=problem, digest=uuid.uuid4().hex, phase=2, split="train", draw=0.0, step_count=3
    )


def work(
    member: Membership,
    seconds: float,
    steps: int,
    *,
    state: Labeling.State = Labeling.State.SUBMITTED,
    ago: datetime.timedelta = datetime.timedelta(0),
) -> Labeling:
    solution = solution_of(member.campaign)
    labeling = Labeling.objects.create(
        campaign=member.campaign,
        solution=solution,
        membership=member,
        state=state,
        active_ms=int(seconds * 1000),
        submitted_at=timezone.now() - ago,
    )
    for index in range(steps):
        completion = Completion.objects.create(solution=solution, step_index=index, completion_index=index)
        Rating.objects.create(labeling=labeling, completion=completion, step_index=index, value=1)
    return labeling


def test_a_newcomer_has_none(labeler: Membership) -> None:
    assert labeler_figures(labeler) == LabelerFigures()


def test_counts_and_medians(labeler: Membership) -> None:
    work(labeler, 30, 3)
    work(labeler, 100, 2)
    last = work(labeler, 60, 1)
    figures = labeler_figures(labeler)
    assert (figures.labelings, figures.today, figures.week) == (3, 3, 3)
    assert figures.seconds_per_solution == 60
    assert figures.seconds_per_step == 50  # of 10, 50 and 60
    assert figures.active_seconds == figures.active_seconds_today == 190
    assert figures.last_at == last.submitted_at


def test_earlier_work_is_not_of_today(labeler: Membership) -> None:
    work(labeler, 30, 1, ago=datetime.timedelta(days=2))
    work(labeler, 30, 1, ago=datetime.timedelta(days=9))
    figures = labeler_figures(labeler)
    assert (figures.labelings, figures.today, figures.week) == (2, 0, 1)
    assert figures.active_seconds_today == 0


def test_late_work_counts_as_work_and_what_was_withdrawn_or_not_sent_does_not(labeler: Membership) -> None:
    work(labeler, 30, 1)
    work(labeler, 30, 1, state=Labeling.State.SURPLUS)
    work(labeler, 999, 1, state=Labeling.State.WITHDRAWN)
    work(labeler, 999, 1, state=Labeling.State.DRAFT)
    figures = labeler_figures(labeler)
    assert (figures.labelings, figures.surplus, figures.active_seconds) == (2, 1, 60)


def test_medians_are_of_the_latest_work(labeler: Membership) -> None:
    work(labeler, 500, 1)
    solution = solution_of(labeler.campaign)
    Labeling.objects.bulk_create(
        Labeling(
            campaign=labeler.campaign,
            solution=solution,
            membership=labeler,
            state=Labeling.State.SUBMITTED,
            active_ms=20_000,
            submitted_at=timezone.now(),
        )
        for _ in range(SAMPLE)
    )
    figures = labeler_figures(labeler)
    assert figures.seconds_per_solution == 20
    assert figures.seconds_per_step is None


def test_work_without_a_time_or_a_judged_step_has_no_median(labeler: Membership) -> None:
    work(labeler, 0, 2)
    assert labeler_figures(labeler).seconds_per_solution is None
    work(labeler, 40, 0)
    figures = labeler_figures(labeler)
    assert (figures.seconds_per_solution, figures.seconds_per_step) == (40, None)


def test_each_has_their_own_in_two_queries(labeler: Membership) -> None:
    others = [make_member(labeler.campaign, f"person-{number}") for number in range(5)]
    for number, member in enumerate([labeler, *others], start=1):
        work(member, 10 * number, 1)
    with CaptureQueriesContext(connection) as queries:
        figures = figures_of([labeler, *others])
    assert len(queries) == 2
    assert [figures[member.pk].seconds_per_solution for member in [labeler, *others]] == [10, 20, 30, 40, 50, 60]
    assert figures[labeler.pk] == labeler_figures(labeler)
