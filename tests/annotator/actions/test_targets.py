"""Targeted labeling: which steps are asked, what the labeler may say of the others, and how it ends."""

from __future__ import annotations

import pytest

from annotator.actions.campaigns import activate_campaign
from annotator.actions.generations import PlannedItem, open_generation
from annotator.actions.labeling import submit_labeling
from annotator.actions.queue import claim_next
from annotator.errors import Conflict, Invalid
from annotator.models import Assignment, Campaign, QueueItem, Solution
from annotator.queries.items import item_payload
from annotator.queries.labelings import training_labelings
from tests.annotator.cast import ending, fill_pool, make_campaign, make_member, path_of, rate, rating

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    campaign = make_campaign(scope="targeted", target_steps=1, audit_per_generation=1)
    fill_pool(campaign, train=2, validation=1)
    return activate_campaign(campaign, actor=None)


@pytest.fixture
def assignment(campaign: Campaign) -> Assignment:
    """A solution whose second of three steps is asked."""
    QueueItem.objects.filter(arm="audit").update(retired=True)
    QueueItem.objects.update(target_steps=[1])
    claimed = claim_next(make_member(campaign, "lea"))
    assert claimed is not None
    return claimed


def test_the_random_arm_asks_drawn_steps_and_the_audit_stream_whole_solutions(campaign: Campaign) -> None:
    for item in QueueItem.objects.all():
        targets = item.target_steps
        assert targets is None if item.arm == "audit" else (len(targets) == 1 and targets[0] in range(3))


def test_selection_marks_the_steps_of_the_active_arm(campaign: Campaign) -> None:
    solution = Solution.objects.filter(split="train").first()
    assert solution is not None
    QueueItem.objects.update(retired=True)
    open_generation(
        campaign,
        [PlannedItem(solution.pk, QueueItem.Arm.ACTIVE, "disagreement", 1.0, target_steps=(2, 0))],
        checkpoint=None,
    )
    assert QueueItem.objects.get(retired=False).target_steps == [0, 2]


def test_the_item_names_its_targets(assignment: Assignment) -> None:
    item = item_payload(assignment)
    assert (item["targets"], item["protocol"]["scope"]) == ([1], "targeted")


def test_the_marked_step_is_judged_alone_and_trains_alone(assignment: Assignment) -> None:
    first, second, third = path_of(assignment)
    with pytest.raises(Conflict):
        rate(assignment, rating(first, 1))
    with pytest.raises(Conflict):
        rate(assignment, rating(third, -1))
    with pytest.raises(Invalid) as refusal:
        submit_labeling(assignment, ending("solution"), [rating(second, 1)])
    assert refusal.value.code == "wrong_finish_reason", "nobody has judged the whole solution"
    labeling = submit_labeling(assignment, ending(""), [rating(second, 1)])
    assert (labeling.scope, labeling.finish_reason, labeling.state) == ("targeted", "", "submitted")
    assert [(row.step_index, row.value) for row in labeling.ratings.all()] == [(1, 1)]
    assert labeling in training_labelings(assignment.campaign)


def test_an_earlier_step_that_is_wrong_ends_the_item(assignment: Assignment) -> None:
    first, second, _ = path_of(assignment)
    labeling = submit_labeling(assignment, ending("found_error"), [rating(first, -1)])
    assert [(row.step_index, row.value) for row in labeling.ratings.all()] == [(0, -1)]
    with pytest.raises(Conflict):
        rate(assignment, rating(second, 1))
