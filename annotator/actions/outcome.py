"""What a submitted labeling amounts to, as rows: ratings in the order in which PRM800K lists them, the way through the
tree, and the ratings of critiques."""

from __future__ import annotations

from annotator.models import Campaign, CritiqueRating, Labeling, LabelingStep, Rating
from annotator.protocol import Item, Said, Stage, walk
from annotator.queries.items import Tree


def write_outcome(labeling: Labeling, item: Item, said: Said, tree: Tree, *, again: bool) -> None:
    """Write the rows of a labeling; `again` replaces those of the submit before."""
    if again:
        labeling.ratings.all().delete()
        labeling.steps.all().delete()
        labeling.critique_ratings.all().delete()
    if item.phase == Campaign.Phase.CHOOSE:
        stages = walk(item, said)
        Rating.objects.bulk_create(_ratings_of_walk(labeling, said, stages))
        LabelingStep.objects.bulk_create(_steps_of_walk(labeling, stages, tree))
        return
    Rating.objects.bulk_create(_ratings_of_path(labeling, item, said))
    if said.critiques:
        CritiqueRating.objects.bulk_create(
            CritiqueRating(labeling=labeling, critique_id=critique, value=value)
            for critique, value in said.critiques.items()
        )


def _ratings_of_path(labeling: Labeling, item: Item, said: Said) -> list[Rating]:
    """Phase 2: the judged steps, and beside the first error its alternatives, where any of them was rated. PRM800K
    writes null for an unmarked ready step and false for an unmarked alternative."""
    rows = [
        Rating(
            labeling=labeling,
            completion_id=completion,
            step_index=step,
            value=said.ratings[completion].value,
            flagged=said.ratings[completion].flagged or None,
        )
        for step, completion in enumerate(item.path)
        if completion in said.ratings
    ]
    error = item.first_error(said)
    beside = item.alternatives(error) if error is not None else ()
    if error is None or not any(completion in said.ratings for completion in beside):
        return rows
    return rows + [
        _candidate(labeling, said, completion, error, position) for position, completion in enumerate(beside, start=1)
    ]


def _ratings_of_walk(labeling: Labeling, said: Said, stages: list[Stage]) -> list[Rating]:
    return [
        _candidate(labeling, said, candidate.id, stage.step, position)
        for stage in stages
        for position, candidate in enumerate(stage.shown)
    ]


def _candidate(labeling: Labeling, said: Said, completion: int, step: int, position: int) -> Rating:
    """One candidate that was shown; without a value where it was not rated."""
    rated = said.ratings.get(completion)
    return Rating(
        labeling=labeling,
        completion_id=completion,
        step_index=step,
        position=position,
        value=rated.value if rated else None,
        flagged=rated.flagged if rated else False,
    )


def _steps_of_walk(labeling: Labeling, stages: list[Stage], tree: Tree) -> list[LabelingStep]:
    """Phase 1: what continued each step. A last step that no candidate had reached is pending, as in PRM800K."""
    row_of = {own: key for key, own in tree.own.items()}
    return [
        LabelingStep(
            labeling=labeling,
            step_index=stage.step,
            chosen_id=stage.next if isinstance(stage.next, int) else None,
            human_id=row_of[stage.next] if isinstance(stage.next, str) else None,
            pending=not stage.shown and stage.next is None,
        )
        for stage in stages
    ]
