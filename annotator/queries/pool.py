"""What may be selected. Reads of the whole pool: for workers and commands, never on the way to a labeler."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, QuerySet

from annotator.models import Campaign, Checkpoint, ImportRun, Labeling, Problem, QueueItem, Solution, SolutionScore
from prm_backend.types import FinishReason


def visible_solutions(campaign: Campaign) -> QuerySet[Solution]:
    return Solution.objects.filter(campaign=campaign, phase=2, import_run__state=ImportRun.State.DONE)


def eligible_solutions(campaign: Campaign, split: Problem.SplitName) -> QuerySet[Solution]:
    """Solutions that may be served: nobody holds them and nobody has judged them, in the order of their seeded draw.
    What lies untouched in the queue counts, since a release takes it back; so does what was skipped or given up.
    Imported labelings keep a solution out of training, but the audit stream is people's work of its own. Test problems
    are never served."""
    if split == Problem.SplitName.TEST:
        raise ValueError("test problems are never served")
    taken = QueueItem.objects.filter(solution=OuterRef("pk"), retired=False, taken__gt=0)
    judged = Labeling.objects.filter(solution=OuterRef("pk"), state=Labeling.State.SUBMITTED).exclude(
        finish_reason=FinishReason.GIVE_UP
    )
    if split == Problem.SplitName.VALIDATION:
        judged = judged.filter(import_run=None)
    return visible_solutions(campaign).filter(~Exists(taken), ~Exists(judged), split=split).order_by("draw", "id")


def unscored_solutions(checkpoint: Checkpoint) -> QuerySet[Solution]:
    """What this checkpoint has still to score. Test problems are left out: nothing is ever selected from them."""
    scored = SolutionScore.objects.filter(checkpoint=checkpoint, solution=OuterRef("pk"))
    splits = (Problem.SplitName.TRAIN, Problem.SplitName.VALIDATION)
    return visible_solutions(checkpoint.campaign).filter(~Exists(scored), split__in=splits, step_count__gt=0)
