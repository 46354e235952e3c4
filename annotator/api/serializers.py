"""Shapes of input and output; nothing is written here."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from annotator.actions.labeling import SubmitAct
from annotator.actions.queue import RETURNS
from annotator.protocol import Act
from annotator.queries.items import ACT_KINDS
from prm_backend.types import FinishReason

# A day: no honest figure of one step or item is larger.
MOST_MS = 24 * 3600 * 1000
MOST_TEXT = 20_000
MOST_ACTS = 1000
MOST_KEY = 2**63 - 1


class ActInput(serializers.Serializer[Any]):
    """One act of a labeler. Which of the optional fields it needs depends on its kind."""

    client_id = serializers.UUIDField(help_text="Made by the client; the same id is stored once.")
    kind = serializers.ChoiceField(choices=[kind.value for kind in ACT_KINDS])
    completion = serializers.IntegerField(required=False, min_value=1, max_value=MOST_KEY, help_text="rate, choose")
    critique = serializers.IntegerField(required=False, min_value=1, max_value=MOST_KEY, help_text="critique")
    value = serializers.IntegerField(
        required=False,
        allow_null=True,
        min_value=-1,
        max_value=3,
        help_text="rate, critique: -1, 0, 1; progress: 0 to 3; null takes it back",
    )
    flagged = serializers.BooleanField(default=False, help_text="rate: unsure")
    text = serializers.CharField(
        default="", allow_blank=True, max_length=MOST_TEXT, trim_whitespace=False, help_text="write, own_critique"
    )
    undoes = serializers.UUIDField(required=False, help_text="undo: the last act that has not been taken back")
    active_ms = serializers.IntegerField(default=0, min_value=0, max_value=MOST_MS)
    wall_ms = serializers.IntegerField(default=0, min_value=0, max_value=MOST_MS)

    NEEDS = MappingProxyType(
        {
            "rate": ("completion", "value"),
            "choose": ("completion",),
            "write": ("text",),
            "progress": ("value",),
            "critique": ("critique", "value"),
            "own_critique": ("text",),
            "undo": ("undoes",),
        }
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        lacking = [name for name in self.NEEDS[attrs["kind"]] if name not in attrs]
        if lacking:
            raise serializers.ValidationError(dict.fromkeys(lacking, "This act needs it."))
        if "\0" in attrs["text"]:
            raise serializers.ValidationError({"text": "It holds a NUL character."})
        return attrs


class ActsInput(serializers.Serializer[Any]):
    acts = serializers.ListField(child=ActInput(), allow_empty=False, max_length=MOST_ACTS)


class SubmitInput(serializers.Serializer[Any]):
    client_id = serializers.UUIDField()
    finish_reason = serializers.ChoiceField(choices=[reason.value for reason in FinishReason] + [""])
    reason = serializers.CharField(default="", allow_blank=True, max_length=2000)
    comment = serializers.CharField(default="", allow_blank=True, max_length=5000)
    answer_report = serializers.CharField(default="", allow_blank=True, max_length=2000)
    wall_ms = serializers.IntegerField(default=0, min_value=0, max_value=MOST_KEY)
    active_ms = serializers.IntegerField(default=0, min_value=0, max_value=MOST_KEY)
    acts = serializers.ListField(child=ActInput(), default=list, max_length=MOST_ACTS)


class NextInput(serializers.Serializer[Any]):
    ahead = serializers.BooleanField(default=False, help_text="The one after the current.")


class ReturnInput(serializers.Serializer[Any]):
    client_id = serializers.UUIDField(required=False, help_text="Repeating a return under its client id is harmless.")
    how = serializers.ChoiceField(
        choices=list(RETURNS),
        help_text="release: to all, to me first; postpone: to me after other work; skip: to others only",
    )


class AcknowledgeInput(serializers.Serializer[Any]):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1)


class KeysInput(serializers.Serializer[Any]):
    keys = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField(max_length=20), max_length=4, allow_empty=False),
        help_text="Act to its keys; acts that are left out have the usual ones.",
    )


def act(data: dict[str, Any]) -> Act:
    """What the kind does not need is left out, whatever was sent."""
    needed = {name: data[name] for name in ActInput.NEEDS[data["kind"]]}
    if "undoes" in needed:
        needed["undoes"] = str(needed["undoes"])
    return Act(
        client_id=str(data["client_id"]),
        kind=data["kind"],
        flagged=data["flagged"] and data["kind"] == "rate",
        active_ms=data["active_ms"],
        wall_ms=data["wall_ms"],
        **needed,
    )


def submit_act(data: dict[str, Any]) -> SubmitAct:
    return SubmitAct(**{name: value for name, value in data.items() if name != "acts"})


class ProtocolOutput(serializers.Serializer[Any]):
    phase = serializers.IntegerField()
    scope = serializers.CharField()
    always_grid = serializers.BooleanField()
    continue_by = serializers.CharField()
    candidates = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]  # the wire has the name first
    progress = serializers.CharField()
    critiques = serializers.CharField()
    alternatives = serializers.CharField()


class AttachmentOutput(serializers.Serializer[Any]):
    url = serializers.CharField()
    name = serializers.CharField()


class ProblemOutput(serializers.Serializer[Any]):
    text = serializers.CharField()
    reference_answer = serializers.CharField(allow_null=True)
    answer_differs = serializers.BooleanField(allow_null=True)
    attachments = AttachmentOutput(many=True)


@extend_schema_field({"oneOf": [{"type": "integer"}, {"type": "string", "format": "uuid"}], "nullable": True})
class NodeField(serializers.Field[Any, Any, Any, Any]):
    """A completion, or the client id of a step that the labeler wrote."""

    def to_representation(self, value: Any) -> Any:
        return value


class CompletionOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    parent = NodeField(allow_null=True)  # type: ignore[assignment]  # the wire has the name first
    step = serializers.IntegerField()
    index = serializers.IntegerField()
    text = serializers.CharField()
    own = serializers.BooleanField(help_text="A step that you wrote.")
    draw = serializers.FloatField()


class CritiqueOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    completion = serializers.IntegerField()
    text = serializers.CharField()


class WaitingOutput(serializers.Serializer[Any]):
    parent = NodeField(allow_null=True)  # type: ignore[assignment]  # the wire has the name first
    kind = serializers.CharField()
    state = serializers.CharField(help_text="coming or failed")
    message = serializers.CharField()


class ItemOutput(serializers.Serializer[Any]):
    assignment = serializers.UUIDField()
    state = serializers.CharField()
    ahead = serializers.BooleanField()
    revision = serializers.IntegerField(help_text="Submits so far.")
    lease_until = serializers.DateTimeField()
    protocol = ProtocolOutput()
    problem = ProblemOutput()
    completions = CompletionOutput(many=True)
    targets = serializers.ListField(child=serializers.IntegerField(), allow_null=True)
    critiques = CritiqueOutput(many=True)
    waiting = WaitingOutput(many=True)
    acts = serializers.ListField(child=serializers.DictField(), help_text="What you have said so far, oldest first.")
    active_ms = serializers.IntegerField()
    wall_ms = serializers.IntegerField()


class StoredOutput(serializers.Serializer[Any]):
    state = serializers.CharField()
    written = serializers.DictField(
        child=serializers.IntegerField(), help_text="The completions of the steps you wrote."
    )
    waiting = WaitingOutput(many=True)


class FiguresOutput(serializers.Serializer[Any]):
    figures = serializers.DictField()


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
    revision = serializers.IntegerField()


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
