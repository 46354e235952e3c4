"""The tables, by topic. Rules about one row live here; whatever touches two tables is an action."""

from annotator.models.campaign import Campaign, Generation, Guideline
from annotator.models.dataset import DatasetVersion
from annotator.models.job import AuditEvent, Job, WorkerPulse
from annotator.models.labeling import Assignment, Labeling, LabelingStep, QueueItem, Rating, RatingEvent
from annotator.models.learning import Checkpoint, SolutionScore
from annotator.models.people import Membership, User
from annotator.models.problem import Completion, ImportRun, Problem, Solution
from annotator.models.quality import GoldLabel

__all__ = [
    "Assignment",
    "AuditEvent",
    "Campaign",
    "Checkpoint",
    "Completion",
    "DatasetVersion",
    "Generation",
    "GoldLabel",
    "Guideline",
    "ImportRun",
    "Job",
    "Labeling",
    "LabelingStep",
    "Membership",
    "Problem",
    "QueueItem",
    "Rating",
    "RatingEvent",
    "Solution",
    "SolutionScore",
    "User",
    "WorkerPulse",
]
