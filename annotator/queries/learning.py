"""What managers see of selection and learning: why an item was chosen, what people said, how checkpoints compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Prefetch, QuerySet, Window
from django.db.models.functions import Rank

from annotator.models import (
    Assignment,
    Campaign,
    Checkpoint,
    Completion,
    Generation,
    Labeling,
    QueueItem,
    Rating,
    SolutionScore,
)

# Where a checkpoint has no threshold of its own: as likely bad as not.
DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """A checkpoint on the audit stream; a figure is None where too little is judged."""

    checkpoint: Checkpoint
    judged_steps: int
    auroc: float | None
    surprisal: float | None
    position: float | None


def learning_curve(campaign: Campaign) -> list[CurvePoint]:
    """Step AUROC against judged steps, one point for each checkpoint that was measured, baselines beside it."""
    points = []
    for checkpoint in campaign.checkpoints.filter(kind=Checkpoint.Kind.HEADS).order_by("judged_steps", "number"):
        figures = {name: row.get("step_auroc") for name, row in figure_rows(checkpoint)}
        points.append(
            CurvePoint(
                checkpoint,
                checkpoint.judged_steps,
                figures.get("candidate"),
                figures.get("surprisal"),
                figures.get("position"),
            )
        )
    return [point for point in points if point.auroc is not None]


def figure_rows(checkpoint: Checkpoint) -> list[tuple[str, dict[str, Any]]]:
    """The checkpoint's figures and those it is compared with; what was not measured is an empty row."""
    metrics = checkpoint.metrics or {}
    baselines = metrics.get("baselines") or {}
    rows = [("candidate", metrics.get("candidate"))]
    rows += [("current", metrics["current"])] if metrics.get("current") else []
    rows += [(name, baselines.get(name)) for name in ("surprisal", "position", "majority")]
    return [(name, figures or {}) for name, figures in rows]


def threshold_of(checkpoint: Checkpoint | None) -> float:
    figures = ((checkpoint.metrics if checkpoint else None) or {}).get("candidate") or {}
    return float(figures.get("threshold") or DEFAULT_THRESHOLD)


def ranked_items(generation: Generation) -> QuerySet[QueueItem]:
    """The items of a generation in serving order, each with `pick` and `picks`: its rank among those its strategy
    chose, and how many these are."""
    return (
        QueueItem.objects.filter(generation=generation)
        .select_related("solution__problem", "generation__checkpoint")
        .annotate(
            pick=Window(Rank(), partition_by=[F("strategy")], order_by=F("score").desc(nulls_last=True)),
            picks=Window(Count("pk"), partition_by=[F("strategy")]),
        )
        .order_by("rank", "id")
    )


def standing_of(item: QueueItem) -> tuple[int, int]:
    """The rank of one item among those its strategy chose, and how many these are."""
    picks = QueueItem.objects.filter(generation=item.generation, strategy=item.strategy)
    better = picks.filter(score__gt=item.score).count() if item.score is not None else 0
    return better + 1, picks.count()


RATINGS = Prefetch("ratings", Rating.objects.filter(completion__completion_index=0).order_by("step_index"))
ASSIGNMENTS = Prefetch(
    "assignments",
    Assignment.objects.select_related("membership__user").order_by("created_at"),
)
LABELINGS = Prefetch(
    "assignments__labeling",
    Labeling.objects.exclude(state=Labeling.State.DRAFT).prefetch_related(RATINGS),
)


@dataclass(frozen=True, slots=True)
class JudgedStep:
    """A step with what the PRM expects and what each labeler said, in the order of `SolutionView.labelings`."""

    number: int
    text: str
    bad: float | None
    spread: float | None
    predicted_first_error: bool
    ratings: list[Rating | None]

    @property
    def shade(self) -> int | None:
        """0 to 9: ten shades of p(−)."""
        return None if self.bad is None else min(int(self.bad * 10), 9)


@dataclass(frozen=True, slots=True)
class SolutionView:
    """One solution as a manager sees it. `checkpoint` is the one whose scores are shown; None where it has none."""

    steps: list[JudgedStep]
    labelings: list[Labeling]
    checkpoint: Checkpoint | None
    threshold: float
    solution_score: float | None


def solution_view(item: QueueItem) -> SolutionView:
    """The solution of an item with the scores of its generation's checkpoint, else of the one in service."""
    checkpoint = item.generation.checkpoint or item.campaign.checkpoint
    score = SolutionScore.objects.filter(checkpoint=checkpoint, solution=item.solution).first() if checkpoint else None
    threshold = threshold_of(checkpoint)
    labelings = list(
        Labeling.objects.filter(solution=item.solution)
        .exclude(state=Labeling.State.DRAFT)
        .select_related("membership__user", "guideline")
        .prefetch_related(RATINGS)
        .order_by("id")
    )
    said = [{rating.step_index: rating for rating in labeling.ratings.all()} for labeling in labelings]
    rows: Sequence[Sequence[float]] = score.steps if score else []
    first = next((index for index, row in enumerate(rows) if row[0] >= threshold), None)
    path = Completion.objects.filter(solution=item.solution, completion_index=0).order_by("step_index")
    return SolutionView(
        steps=[
            JudgedStep(
                number=step.step_index + 1,
                text=step.text,
                bad=rows[step.step_index][0] if step.step_index < len(rows) else None,
                spread=rows[step.step_index][3] if step.step_index < len(rows) else None,
                predicted_first_error=step.step_index == first,
                ratings=[ratings.get(step.step_index) for ratings in said],
            )
            for step in path
        ],
        labelings=labelings,
        checkpoint=checkpoint if score else None,
        threshold=threshold,
        solution_score=score.solution_score if score else None,
    )
