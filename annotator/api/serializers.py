"""Shapes of input and output; nothing is written here."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from annotator.actions.labeling import RatingAct, SubmitAct
from prm_backend.types import FinishReason

# A day: no honest figure of one step or item is larger.
MOST_MS = 24 * 3600 * 1000


class RatingInput(serializers.Serializer[Any]):
    client_id = serializers.UUIDField(help_text="Made by the client; the same id is stored once.")
    value = serializers.ChoiceField(choices=[-1, 0, 1], allow_null=True, help_text="null takes the rating back.")
    flagged = serializers.BooleanField(default=False, help_text="Unsure.")
    active_ms = serializers.IntegerField(default=0, min_value=0, max_value=MOST_MS)


class CompletionRatingInput(RatingInput):
    completion = serializers.IntegerField(min_value=1)


class SubmitInput(serializers.Serializer[Any]):
    client_id = serializers.UUIDField()
    finish_reason = serializers.ChoiceField(choices=[reason.value for reason in FinishReason])
    reason = serializers.CharField(default="", allow_blank=True, max_length=2000)
    comment = serializers.CharField(default="", allow_blank=True, max_length=5000)
    wall_ms = serializers.IntegerField(default=0, min_value=0)
    active_ms = serializers.IntegerField(default=0, min_value=0)
    ratings = CompletionRatingInput(many=True, default=list)


def rating_act(data: dict[str, Any], completion_id: int) -> RatingAct:
    return RatingAct(
        client_id=data["client_id"],
        completion_id=completion_id,
        value=data["value"],
        flagged=data["flagged"],
        active_ms=data["active_ms"],
    )


def submit_act(data: dict[str, Any]) -> SubmitAct:
    return SubmitAct(
        client_id=data["client_id"],
        finish_reason=FinishReason(data["finish_reason"]),
        reason=data["reason"],
        comment=data["comment"],
        wall_ms=data["wall_ms"],
        active_ms=data["active_ms"],
    )


class StepOutput(serializers.Serializer[Any]):
    completion = serializers.IntegerField()
    text = serializers.CharField()
    value = serializers.IntegerField(allow_null=True)
    flagged = serializers.BooleanField()


class ProblemOutput(serializers.Serializer[Any]):
    text = serializers.CharField()
    reference_answer = serializers.CharField(allow_null=True)


class ItemOutput(serializers.Serializer[Any]):
    assignment = serializers.UUIDField()
    lease_until = serializers.DateTimeField()
    problem = ProblemOutput()
    steps = StepOutput(many=True)
    active_ms = serializers.IntegerField()


class EmptyOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    until = serializers.DateTimeField(allow_null=True)


class NextOutput(serializers.Serializer[Any]):
    item = ItemOutput(allow_null=True)
    empty = EmptyOutput(allow_null=True)


class LabelingOutput(serializers.Serializer[Any]):
    state = serializers.CharField()
    finish_reason = serializers.CharField(allow_blank=True)


class LeaseOutput(serializers.Serializer[Any]):
    lease_until = serializers.DateTimeField()


class CampaignOutput(serializers.Serializer[Any]):
    slug = serializers.CharField()
    name = serializers.CharField()
    status = serializers.CharField()
    phase = serializers.IntegerField()
    role = serializers.CharField()


class DatasetOutput(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    created_at = serializers.DateTimeField()
    manifest = serializers.JSONField()


class JobOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    kind = serializers.CharField()
    state = serializers.CharField()


class ProgressOutput(serializers.Serializer[Any]):
    status = serializers.CharField()
    generation = serializers.IntegerField(allow_null=True)
    checkpoint = serializers.IntegerField(allow_null=True)
    items = serializers.IntegerField(help_text="Items of the open generation.")
    items_done = serializers.IntegerField(help_text="Of these, with all the labelings they want.")
    labelings = serializers.IntegerField(help_text="Submitted in the whole campaign.")
    solutions = serializers.IntegerField(help_text="In the pool.")


class TokenOutput(serializers.Serializer[Any]):
    token = serializers.CharField()


class ErrorBody(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    details = serializers.JSONField(required=False, help_text="What is wrong with which field.")


class ErrorOutput(serializers.Serializer[Any]):
    error = ErrorBody()
