"""What labelings say beyond PRM800K's words: one line for each record of a dataset version, in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, islice
from typing import Any, TypeAlias

from django.db.models import Exists, OuterRef, Prefetch, QuerySet, Sum

from annotator.models import CritiqueRating, Labeling, QueueItem, Rating, RatingEvent
from annotator.queries.records import labeler_of, ratings_by_step, readable, record_of, timestamp_of
from prm_backend.types import SolutionRecord

# Labelings read in one go: bounds memory, whatever the campaign's size.
CHUNK = 500

Milliseconds: TypeAlias = dict[str, int]
# By labeling; then by completion, or None for what was done beside the steps.
Times: TypeAlias = dict[int, dict[int | None, Milliseconds]]


def records_with_companions(labelings: QuerySet[Labeling]) -> Iterator[tuple[SolutionRecord, dict[str, Any]]]:
    """Stream the records of labelings, each with its companion, in the order of the query."""
    rows = (
        readable(labelings)
        .select_related("guideline", "assignment__item__generation__checkpoint")
        .prefetch_related(
            Prefetch(
                "critique_ratings",
                CritiqueRating.objects.select_related("critique__completion").order_by(
                    "critique__completion__step_index", "critique__position"
                ),
            )
        )
        .iterator(chunk_size=CHUNK)
    )
    lines = count(1)
    while chunk := list(islice(rows, CHUNK)):
        times = _times(chunk)
        for labeling in chunk:
            line = next(lines)
            yield record_of(labeling, line=line), companion_of(labeling, times.get(labeling.pk, {}), line=line)


def _times(labelings: Iterable[Labeling]) -> Times:
    """Milliseconds over all acts up to the last submit, those that were taken back too: the labeler worked all the
    same. A correction that was begun and not submitted is no part of the record."""
    times: Times = {}
    later_submit = RatingEvent.objects.filter(
        labeling=OuterRef("labeling"), kind=RatingEvent.Kind.SUBMIT, pk__gte=OuterRef("pk")
    )
    submits = RatingEvent.objects.filter(labeling=OuterRef("labeling"), kind=RatingEvent.Kind.SUBMIT)
    sums = (
        RatingEvent.objects.filter(
            Exists(later_submit) | ~Exists(submits), labeling__in=[labeling.pk for labeling in labelings]
        )
        .order_by()
        .values_list("labeling", "completion", "completion__step_index")
        .annotate(Sum("active_ms"), Sum("wall_ms"))
    )
    for labeling, completion, step, active, wall in sums:
        times.setdefault(labeling, {})[completion] = {"step": step, "active_ms": active, "wall_ms": wall}
    return times


def companion_of(labeling: Labeling, times: dict[int | None, Milliseconds], *, line: int) -> dict[str, Any]:
    """`steps` goes with the record's `label.steps`: a time for each completion shown there, and the whole step's, which
    has besides what went into completions that are not in the record any more."""
    ratings = ratings_by_step(labeling)
    return {
        "record": line,
        "labeler": labeler_of(labeling),
        "timestamp": timestamp_of(labeling),
        "scope": labeling.scope,
        "revision": labeling.revision,
        "guideline": labeling.guideline.version if labeling.guideline else None,
        "progress": labeling.progress,
        "critiques": [
            {
                "step": rated.critique.completion.step_index,
                "text": rated.critique.text,
                "source": rated.critique.source,
                "rating": rated.value,
            }
            for rated in labeling.critique_ratings.all()
        ],
        "own_critique": labeling.own_critique,
        "reason": labeling.reason,
        "comment": labeling.comment,
        "answer_report": labeling.answer_report,
        "unsure": sum(rating.flagged is True for rating in labeling.ratings.all()),
        "active_ms": labeling.active_ms,
        "wall_ms": labeling.wall_ms,
        "steps": _step_times(labeling, ratings, times),
        "queue": _why_served(labeling),
    }


def _step_times(
    labeling: Labeling, ratings: dict[int, list[Rating]], times: dict[int | None, Milliseconds]
) -> list[dict[str, Any]]:
    ways = {step.step_index: step for step in labeling.steps.all()}
    steps = []
    for index in range(max(ratings.keys() | ways.keys(), default=-1) + 1):
        written = ways[index].human_id if index in ways else None
        shown = [rating for rating in ratings.get(index, []) if rating.completion_id != written]
        steps.append(
            {
                **_total([spent for spent in times.values() if spent["step"] == index]),
                "completions": [
                    _total([times[key]] if (key := rating.completion_id) in times else []) for rating in shown
                ],
            }
        )
    return steps


def _total(spent: Sequence[Milliseconds]) -> Milliseconds:
    return {name: sum(time[name] for time in spent) for name in ("active_ms", "wall_ms")}


def _why_served(labeling: Labeling) -> dict[str, Any] | None:
    """None for imported labelings."""
    if labeling.assignment is None:
        return None
    item: QueueItem = labeling.assignment.item
    checkpoint = item.generation.checkpoint
    return {
        "arm": item.arm,
        "strategy": item.strategy,
        "score": item.score,
        "inclusion_probability": item.inclusion_probability,
        "generation": item.generation.number,
        "checkpoint": checkpoint.number if checkpoint else None,
        "rank": item.rank,
        "lane": item.lane,
        "give_ups": item.give_ups,
        "target_steps": item.target_steps,
    }
