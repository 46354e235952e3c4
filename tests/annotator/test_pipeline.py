"""The loop on a small pool with the real model: pretrain, score, label, retrain, gate, release."""

from __future__ import annotations

import json
from typing import Any

import pytest

from annotator.actions import jobs, learning
from annotator.actions.campaigns import activate_campaign
from annotator.actions.labeling import submit_labeling
from annotator.actions.pipeline import advance, new_labelings, next_kind
from annotator.actions.queue import claim_next, return_assignment
from annotator.dispatch import enqueue, run_here
from annotator.errors import Conflict
from annotator.models import Campaign, Checkpoint, Generation, Job, Labeling, Problem, QueueItem, SolutionScore
from annotator.queries.labelings import audit_labelings, training_labelings
from annotator.queries.pool import eligible_solutions
from annotator.simulation import Simulation, clone_for_simulation
from prm_backend.synthetic import generate_rows
from prm_backend.types import FinishReason
from tests.annotator.cast import ending, fill_pool, import_rows, label, make_campaign, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    campaign = make_campaign(generation_size=20, audit_per_generation=5, retrain_after=15)
    import_rows(campaign, generate_rows(problems=120, solutions_per_problem=2, seed=3), labels="oracle")
    return campaign


@pytest.fixture(autouse=True)
def short_pretraining(settings: Any) -> None:
    settings.PRETRAIN_STEPS = 10


@pytest.mark.slow
def test_a_simulated_campaign_goes_round_and_leaves_the_real_one_alone(campaign: Campaign) -> None:
    clone = clone_for_simulation(campaign)
    simulation = Simulation(clone)
    reports = list(simulation.play(30))
    clone.refresh_from_db()

    assert [report.number for report in reports] == [0, 1, 2]
    assert [report.labelings for report in reports] == [0, 15, 30]
    assert not Labeling.objects.filter(campaign=campaign).exists()
    assert not campaign.jobs.exclude(kind__in=[Job.Kind.IMPORT, Job.Kind.GRADE]).exists()

    # What trained and what judged come from different problems, and nothing came from test problems.
    assert set(training_labelings(clone).values_list("solution__split", flat=True)) == {"train"}
    assert set(audit_labelings(clone).values_list("solution__split", flat=True)) == {"validation"}
    assert not QueueItem.objects.filter(solution__split=Problem.SplitName.TEST).exists()
    assert not SolutionScore.objects.filter(solution__split=Problem.SplitName.TEST).exists()

    # Each candidate went through the gate, and each item says why it is there.
    candidates = Checkpoint.objects.filter(campaign=clone, kind="heads")
    assert candidates.count() == 2
    for checkpoint in candidates:
        assert checkpoint.state in ("promoted", "rejected")
        assert checkpoint.gate["verdict"] in ("better", "not_worse", "undecided", "not_enough_evidence")
        assert {"majority", "position", "surprisal"} <= set(checkpoint.metrics["baselines"])
    last = Generation.objects.filter(campaign=clone).latest("number")
    arms = set(last.queue_items.values_list("arm", flat=True))
    assert {"audit", "random"} <= arms
    if last.checkpoint is not None and last.checkpoint.kind == "heads":
        active = last.queue_items.filter(arm="active")
        assert active.exists()
        assert not active.filter(score=None, strategy__in=["disagreement", "convincing_wrong_answer"]).exists()
    assert not QueueItem.objects.filter(inclusion_probability__lte=0).exists()
    assert json.dumps(simulation.baselines())


def test_activation_opens_a_random_round_at_once_and_asks_for_a_model(campaign: Campaign) -> None:
    campaign = activate_campaign(campaign, actor=None)
    generation = campaign.generations.get()
    arms = list(generation.queue_items.values_list("arm", flat=True))
    assert (arms.count("audit"), arms.count("random"), arms.count("active")) == (5, 20, 0)
    assert campaign.jobs.filter(kind="pretrain", state="queued").exists()
    eligible = eligible_solutions(campaign, Problem.SplitName.TRAIN).count()
    random_item = generation.queue_items.filter(arm="random").first()
    assert random_item is not None
    assert random_item.inclusion_probability == pytest.approx(20 / eligible)
    activate_campaign(campaign, actor=None)
    assert campaign.generations.count() == 1


def checkpoint(campaign: Campaign, number: int, **fields: Any) -> Checkpoint:
    return Checkpoint.objects.create(campaign=campaign, number=number, folder=f"none/{number}", **fields)


def test_what_comes_next_depends_on_the_tables_alone(campaign: Campaign) -> None:
    campaign = activate_campaign(campaign, actor=None)
    campaign.jobs.all().delete()
    assert next_kind(campaign) == Job.Kind.PRETRAIN
    first = checkpoint(campaign, 0, kind="backbone")
    learning.promote(first)
    campaign.refresh_from_db()
    assert next_kind(campaign) == Job.Kind.SCORE
    Checkpoint.objects.update(pool_scored_at="2026-01-01T00:00Z")
    campaign.refresh_from_db()
    assert next_kind(campaign) is None
    Campaign.objects.update(retrain_after=0)
    campaign.refresh_from_db()
    assert next_kind(campaign) == Job.Kind.RETRAIN
    checkpoint(campaign, 1, kind="heads", state="rejected")
    assert next_kind(campaign) == Job.Kind.RELEASE


def test_a_kind_that_failed_waits_for_a_person(campaign: Campaign) -> None:
    campaign = activate_campaign(campaign, actor=None)
    job = jobs.take_job(campaign.jobs.get(kind="pretrain").pk)
    assert job is not None
    jobs.fail_job(job, "no disk")
    assert advance(campaign) is None
    assert learning.request_scoring(campaign, actor=None).kind == "pretrain"


def test_too_few_labels_skip_the_retrain_with_a_word_and_do_not_loop(campaign: Campaign) -> None:
    campaign = activate_campaign(campaign, actor=None)
    run_here(campaign.jobs.get(kind="pretrain"))
    ended = run_here(enqueue(Job.Kind.RETRAIN, campaign, wake=False))
    assert ended.state == "done"
    assert ended.result["labelings"] == 0
    assert ended.result["skipped"]
    assert new_labelings(campaign) == 0


def test_what_was_not_reached_returns_to_the_draw_and_what_was_judged_does_not(campaign: Campaign) -> None:
    campaign = activate_campaign(campaign, actor=None)
    lea = make_member(campaign, "lea")
    judged = claim_next(lea)
    assert judged is not None
    label(judged, [-1])
    skipped = claim_next(lea)
    assert skipped is not None
    return_assignment(skipped, "skip")
    given_up = claim_next(lea)
    assert given_up is not None
    submit_labeling(given_up, ending(FinishReason.GIVE_UP, reason="too hard"))
    make_member(campaign, "max")  # lea has had them
    splits = [Problem.SplitName.TRAIN, Problem.SplitName.VALIDATION]
    eligible = {row.pk for split in splits for row in eligible_solutions(campaign, split)}
    assert judged.solution_id not in eligible
    assert {skipped.solution_id, given_up.solution_id} <= eligible
    assert len(eligible) == campaign.solutions.exclude(split="test").count() - 1


def test_an_exhausted_queue_is_filled_without_waiting_for_a_model() -> None:
    campaign = make_campaign(generation_size=2, audit_per_generation=0)
    fill_pool(campaign, train=3)
    campaign = activate_campaign(campaign, actor=None)
    lea = make_member(campaign, "lea")
    for _ in range(2):
        assignment = claim_next(lea)
        assert assignment is not None
        label(assignment, [-1])
    assert next_kind(campaign) == Job.Kind.RELEASE
    job = advance(campaign)
    assert job is not None
    run_here(job)
    assert claim_next(lea) is not None
    assert next_kind(campaign) == Job.Kind.PRETRAIN


def test_what_everybody_has_skipped_holds_nobody_up_and_starts_no_rounds_of_its_own() -> None:
    campaign = make_campaign(generation_size=2, audit_per_generation=0)
    fill_pool(campaign, train=3)
    campaign = activate_campaign(campaign, actor=None)
    lea = make_member(campaign, "lea")
    for _ in range(2):
        assignment = claim_next(lea)
        assert assignment is not None
        return_assignment(assignment, "skip")
    assert claim_next(lea) is None
    assert next_kind(campaign) == Job.Kind.RELEASE
    job = advance(campaign)
    assert job is not None
    run_here(job)
    last = claim_next(lea)
    assert last is not None
    label(last, [-1])
    assert next_kind(campaign) != Job.Kind.RELEASE
    make_member(campaign, "max")
    assert next_kind(campaign) == Job.Kind.RELEASE, "max has not had them"


def test_a_campaign_of_phase_1_needs_no_model() -> None:
    campaign = make_campaign(phase=1, generation_size=1, audit_per_generation=0)
    fill_pool(campaign, train=2)
    campaign = activate_campaign(campaign, actor=None)
    assert next_kind(campaign) is None
    QueueItem.objects.update(taken=1)
    assert next_kind(campaign) == Job.Kind.RELEASE


def test_an_empty_pool_is_not_opened() -> None:
    with pytest.raises(Conflict, match="import solutions first"):
        activate_campaign(make_campaign(), actor=None)


def verdict(name: str, difference: float | None, upper: float | None) -> dict[str, Any]:
    return {"verdict": name, "difference": difference, "upper": upper}


@pytest.mark.parametrize(
    ("gate", "better", "not_worse", "unless_worse"),
    [
        (verdict("better", 0.05, 0.09), True, True, True),
        (verdict("not_worse", 0.0, 0.01), False, True, True),
        (verdict("undecided", -0.01, 0.03), False, False, True),
        (verdict("undecided", -0.05, -0.01), False, False, False),
        (verdict("not_enough_evidence", 0.1, 0.3), False, False, True),
        (verdict("not_enough_evidence", -0.1, 0.3), False, False, False),
        (verdict("not_enough_evidence", None, None), False, False, False),
    ],
)
def test_the_gates_policies(gate: dict[str, Any], better: bool, not_worse: bool, unless_worse: bool) -> None:
    policies = ("better", "not_worse", "unless_worse")
    assert [learning.is_good_enough(gate, policy) for policy in policies] == [better, not_worse, unless_worse]
