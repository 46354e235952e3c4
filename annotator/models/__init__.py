"""The tables, by topic. Rules about one row live here; whatever touches two tables is an action."""

from annotator.models.campaign import Campaign, Generation, Guideline
from annotator.models.candidates import CandidateRequest
from annotator.models.dataset import DatasetVersion
from annotator.models.job import AuditEvent, Job, WorkerPulse
from annotator.models.labeling import CritiqueRating, Labeling, LabelingStep, Rating, RatingEvent
from annotator.models.learning import Checkpoint, SolutionScore
from annotator.models.people import Membership, User
from annotator.models.problem import Attachment, Completion, Critique, ImportRun, Problem, Solution
from annotator.models.quality import GoldLabel
from annotator.models.queue import Assignment, QueueItem
from annotator.models.reports import Message, Report

__all__ = [
    "Assignment",
    "Attachment",
    "AuditEvent",
    "Campaign",
    "CandidateRequest",
    "Checkpoint",
    "Completion",
    "Critique",
    "CritiqueRating",
    "DatasetVersion",
    "Generation",
    "GoldLabel",
    "Guideline",
    "ImportRun",
    "Job",
    "Labeling",
    "LabelingStep",
    "Membership",
    "Message",
    "Problem",
    "QueueItem",
    "Rating",
    "RatingEvent",
    "Report",
    "Solution",
    "SolutionScore",
    "User",
    "WorkerPulse",
]
