from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotator.actions.generations import PlannedItem, open_generation
from annotator.actions.learning import pass_gate, promote, record_scores, register_checkpoint
from annotator.models import Campaign, Checkpoint, Generation, QueueItem, Solution
from annotator.queries.learning import ranked_items
from annotator.queries.pool import eligible_solutions
from annotator.templatetags.stepmark import why
from prm_backend.types import StepScores
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def figures(auroc: float | None) -> dict[str, Any]:
    return {
        "step_auroc": auroc,
        "f1": 0.5,
        "threshold": 0.4,
        "judged_steps": 90,
        "bad_steps": 14,
        "solutions": 31,
        "problems": 31,
        "ece": 0.05,
    }


def add_checkpoint(campaign: Campaign, number: int, *, gated: bool = True, **gate: Any) -> Checkpoint:
    """A checkpoint that went through the gate, with all its baselines."""
    kind = Checkpoint.Kind.HEADS if number else Checkpoint.Kind.BACKBONE
    checkpoint = register_checkpoint(
        campaign, kind=kind, number=number, folder=f"x/{number}", metadata={"seed": 1}, judged_steps=100 * number
    )
    if not gated:
        promote(checkpoint)
        return checkpoint
    baselines = {"surprisal": figures(0.71), "position": figures(0.6), "majority": None}
    pass_gate(
        checkpoint,
        metrics={"candidate": figures(0.84), "current": figures(0.8), "baselines": baselines},
        gate={
            "verdict": "better",
            "difference": 0.041,
            "lower": 0.008,
            "upper": 0.071,
            "against": number - 1,
            "audit_solutions": 31,
            "bad_steps": 14,
            **gate,
        },
    )
    return checkpoint


def score(checkpoint: Checkpoint, *bad: float) -> None:
    """Every solution of the pool gets the same p(−) for its steps."""
    zeros = tuple(0.0 for _ in bad)
    steps = StepScores(bad=bad, neutral=zeros, good=tuple(1 - p for p in bad), spread=zeros)
    record_scores(checkpoint, [(row, steps) for row in Solution.objects.filter(campaign=checkpoint.campaign)])


def release(campaign: Campaign, checkpoint: Checkpoint, *scores: float) -> Generation:
    chosen = eligible_solutions(campaign, "train")[: len(scores)]  # type: ignore[arg-type]  # the value of a choice
    items = [
        PlannedItem(row.pk, QueueItem.Arm.ACTIVE, "disagreement", 1.0, value)
        for row, value in zip(chosen, scores, strict=True)
    ]
    return open_generation(campaign, items, checkpoint=checkpoint)


# --- Generations and items -------------------------------------------------------------------------------------------


def test_generations_count_their_arms_and_what_is_done(cast: Cast, url: Url) -> None:
    cast.active(train=3, validation=2)
    cast.label_next(1, 1, 1)
    body = cast.manager.get(url("generations/")).content.decode()
    assert "chance alone" in body
    assert "1 / 5" in body


def test_the_list_of_generations_costs_the_same_for_many(cast: Cast, url: Url) -> None:
    campaign = cast.active(train=10)
    checkpoint = add_checkpoint(campaign, 0, gated=False)
    client = cast.manager

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url("generations/")).status_code == 200
        return len(queries)

    few = cost()
    for _ in range(4):
        release(campaign, checkpoint, 0.5)
    assert cost() == few


def test_every_item_says_why_in_one_sentence(cast: Cast, url: Url) -> None:
    campaign = cast.campaign
    campaign.generation_size = 2
    campaign.save()
    cast.active(train=8, validation=2)
    checkpoint = add_checkpoint(campaign, 0, gated=False)
    generation = release(campaign, checkpoint, 0.31, 0.62, 0.12)
    sentences = {item.score: why(item) for item in ranked_items(generation)}
    assert sentences[0.62] == "disagreement 0.62, 1st of 3 picks, active arm, checkpoint 0"
    assert sentences[0.31] == "disagreement 0.31, 2nd of 3 picks, active arm, checkpoint 0"
    first = ranked_items(campaign.generations.get(number=0))
    assert {why(item) for item in first if item.arm == "audit"} == {
        "audit stream, next in the seeded draw; probability 100.0 %"
    }
    assert {why(item) for item in first if item.arm == "random"} == {
        "random arm, drawn from the whole pool; probability 25.0 %"
    }
    body = cast.manager.get(url(f"generations/{generation.number}/")).content.decode()
    assert sentences[0.62] in body
    item = generation.queue_items.get(score=0.31)
    assert "Disagreement 0.31, 2nd of 3 picks" in cast.manager.get(url(f"items/{item.pk}/")).content.decode()


def test_a_generation_filters_by_arm_and_shows_outcomes(cast: Cast, url: Url) -> None:
    cast.active(train=2, validation=1)
    cast.label_next(1, -1)
    cast.label_next(1, 1, 1)
    cast.label_next(1, 0, 1)
    body = cast.manager.get(url("generations/0/")).content.decode()
    assert "first error at step 2" in body
    assert body.count("no error") == 2
    audit = cast.manager.get(url("generations/0/?arm=audit")).content.decode()
    assert audit.count('class="why"') == 1
    assert cast.manager.get(url("generations/0/?arm=nonsense&page=nonsense")).status_code == 200


def test_a_generation_costs_the_same_when_full(cast: Cast, url: Url) -> None:
    cast.active(train=12)
    client = cast.manager

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url("generations/0/")).status_code == 200
        return len(queries)

    cast.label_next(1, 1, 1)
    few = cost()
    for _ in range(8):
        cast.label_next(1, -1)
    assert cost() == few <= 20


def test_an_item_shows_shades_the_predicted_error_and_what_people_said(cast: Cast, url: Url) -> None:
    campaign = cast.active(train=6)
    checkpoint = add_checkpoint(campaign, 0, gated=False)
    score(checkpoint, 0.05, 0.72, 0.91)
    QueueItem.objects.update(retired=True)
    generation = release(campaign, checkpoint, 0.4)
    cast.label_next(1, 1, -1)
    body = cast.manager.get(url(f"items/{generation.queue_items.get().pk}/")).content.decode()
    assert '<td class="heat-0">0.05</td>' in body
    assert '<td class="heat-7 first-error">0.72</td>' in body
    assert '<td class="heat-9">0.91</td>' in body
    assert "mark-bad" in body
    assert "first error at step 3" in body


def test_an_item_without_scores_says_so(cast: Cast, url: Url) -> None:
    cast.active()
    body = cast.manager.get(url(f"items/{QueueItem.objects.first().pk}/")).content.decode()  # type: ignore[union-attr]
    assert "No checkpoint has scored this solution yet" in body
    assert "Nobody has judged it yet." in body


# --- Checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_its_verdict_in_words_before_the_figures(cast: Cast, url: Url) -> None:
    add_checkpoint(cast.campaign, 0, gated=False)
    add_checkpoint(cast.campaign, 1)
    body = cast.manager.get(url("checkpoints/1/")).content.decode()
    assert "Better than checkpoint 0." in body
    assert "It was put into service." in body
    assert "Step AUROC +0.041 (95 % interval +0.008 to +0.071), on 31 audit solutions with 14 bad steps." in body
    assert body.index("Better than") < body.index("Baseline: surprisal")
    for name in ("surprisal", "position", "majority"):
        assert f"Baseline: {name}" in body


def test_a_rejected_and_an_unmeasured_checkpoint_are_described_too(cast: Cast, url: Url) -> None:
    add_checkpoint(cast.campaign, 0, gated=False)
    add_checkpoint(cast.campaign, 1, verdict="undecided", difference=-0.03, lower=-0.05, upper=-0.01)
    bare = register_checkpoint(cast.campaign, kind=Checkpoint.Kind.HEADS, number=2, folder="x/2", metadata={})
    thin = add_checkpoint(
        cast.campaign, 3, verdict="not_enough_evidence", difference=None, lower=None, upper=None, audit_solutions=0
    )
    rejected = cast.manager.get(url("checkpoints/1/")).content.decode()
    assert "It was not put into service." in rejected
    assert "−0.030" in rejected
    assert "has not been through the gate" in cast.manager.get(url(f"checkpoints/{bare.number}/")).content.decode()
    assert "Too little audit evidence" in cast.manager.get(url(f"checkpoints/{thin.number}/")).content.decode()
    assert cast.manager.get(url("checkpoints/0/")).status_code == 200
    assert cast.manager.get(url("checkpoints/9/")).status_code == 404


def test_the_curve_draws_a_dot_for_each_measured_checkpoint_beside_its_baselines(cast: Cast, url: Url) -> None:
    add_checkpoint(cast.campaign, 0, gated=False)
    assert "<circle" not in cast.manager.get(url()).content.decode()
    add_checkpoint(cast.campaign, 1)
    add_checkpoint(cast.campaign, 2, verdict="undecided", difference=-0.03, lower=-0.05, upper=-0.01)
    for page in ("", "checkpoints/"):
        body = cast.manager.get(url(page)).content.decode()
        assert body.count('class="dot dot-promoted"') == 1
        assert body.count('class="dot dot-rejected"') == 1
        for line in ("PRM 0.84", "surprisal 0.71", "position 0.60"):
            assert line in body
