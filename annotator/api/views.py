"""API v1. The labeling page uses it too, so a browser and a program go the same way."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, cast
from uuid import UUID

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.authtoken.models import Token
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import ScopedRateThrottle
from rest_framework.views import APIView

from annotator import access
from annotator.actions import datasets
from annotator.actions.campaigns import acknowledge_guideline
from annotator.actions.frontier import retry_candidates, want_first_candidates
from annotator.actions.labeling import store_acts, submit_labeling
from annotator.actions.preferences import set_keys
from annotator.actions.queue import claim_next, renew_lease, return_assignment
from annotator.api import serializers as shapes
from annotator.errors import Forbidden
from annotator.models import DatasetVersion, Membership, User
from annotator.queries.figures import labeler_figures
from annotator.queries.items import item_payload, waiting
from annotator.queries.queue import why_empty
from annotator.queries.totals import campaign_totals

REFUSED = {400: shapes.ErrorOutput, 404: shapes.ErrorOutput, 409: shapes.ErrorOutput}


def _user(request: Request) -> User:
    return cast(User, request.user)


def _checked(serializer: Any) -> dict[str, Any]:
    serializer.is_valid(raise_exception=True)
    return cast(dict[str, Any], serializer.validated_data)


class TokenView(ObtainAuthToken):
    """Exchange name and password for a token: send it as `Authorization: Token …`."""

    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "login"

    @extend_schema(summary="Log in", responses={200: shapes.TokenOutput})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        serializer = self.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        user = serializer.validated_data["user"]
        if user.must_change_password:
            raise Forbidden("own_password_needed", "Log in on the site and choose your own password first.")
        token, _ = Token.objects.get_or_create(user=user)
        return Response({"token": token.key})


class CampaignListView(APIView):
    @extend_schema(summary="My campaigns", responses=shapes.CampaignOutput(many=True))
    def get(self, request: Request) -> Response:
        memberships = Membership.objects.filter(user=_user(request)).select_related("campaign").order_by("campaign")
        rows = [
            {
                "slug": membership.campaign.slug,
                "name": membership.campaign.name,
                "status": membership.campaign.status,
                "phase": membership.campaign.phase,
                "role": membership.role,
            }
            for membership in memberships
        ]
        return Response(shapes.CampaignOutput(rows, many=True).data)


class NextView(APIView):
    @extend_schema(
        summary="Claim the next solution",
        description="Gives the solution that you hold, else the next open one; `empty` says why there is none. With "
        "`ahead` the one after that, so that it is there when you need it.",
        request=shapes.NextInput,
        responses={200: shapes.NextOutput, 404: shapes.ErrorOutput},
    )
    def post(self, request: Request, slug: str) -> Response:
        membership = access.access_membership(_user(request), slug, *access.LABELING)
        assignment = claim_next(membership, ahead=_checked(shapes.NextInput(data=request.data))["ahead"])
        if assignment is None:
            return Response({"item": None, "empty": why_empty(membership).as_dict()})
        want_first_candidates(assignment)
        return Response({"item": item_payload(assignment), "empty": None})


class AssignmentView(APIView):
    @extend_schema(
        summary="One of my solutions",
        description="As it is now: with what I have said of it, and the candidates that have come.",
        responses={200: shapes.ItemOutput, 404: shapes.ErrorOutput},
    )
    def get(self, request: Request, assignment: UUID) -> Response:
        return Response(item_payload(access.access_assignment(_user(request), assignment)))


class ActsView(APIView):
    @extend_schema(
        summary="Say something",
        description="Acts in their order: all are stored, or none. Repeating one under its client id is harmless.",
        request=shapes.ActsInput,
        responses={200: shapes.StoredOutput, **REFUSED},
    )
    def post(self, request: Request, assignment: UUID) -> Response:
        found = access.access_assignment(_user(request), assignment)
        acts = _checked(shapes.ActsInput(data=request.data))["acts"]
        session = store_acts(found, [shapes.act(row) for row in acts])
        return Response(
            {
                "state": session.labeling.state if session.labeling else "",
                "written": {own: row.pk for own, row in session.written.items()},
                "waiting": waiting(session.assignment, session.tree),
            }
        )


class SubmitView(APIView):
    @extend_schema(
        summary="End a labeling",
        description="`acts` may carry all acts at once. Repeating a submit under its client id is harmless; another "
        "submit of the same solution, within the campaign's window, is a correction.",
        request=shapes.SubmitInput,
        responses={200: shapes.LabelingOutput, **REFUSED},
    )
    def post(self, request: Request, assignment: UUID) -> Response:
        found = access.access_assignment(_user(request), assignment)
        data = _checked(shapes.SubmitInput(data=request.data))
        labeling = submit_labeling(found, shapes.submit_act(data), [shapes.act(row) for row in data["acts"]])
        return Response(
            {"state": labeling.state, "finish_reason": labeling.finish_reason, "revision": labeling.revision}
        )


class ReturnView(APIView):
    @extend_schema(summary="Give the solution back", request=shapes.ReturnInput, responses={204: None, **REFUSED})
    def post(self, request: Request, assignment: UUID) -> Response:
        found = access.access_assignment(_user(request), assignment)
        data = _checked(shapes.ReturnInput(data=request.data))
        return_assignment(found, data["how"], client_id=data.get("client_id"))
        return Response(status=204)


class LeaseView(APIView):
    @extend_schema(summary="Keep the solution", request=None, responses={200: shapes.LeaseOutput, **REFUSED})
    def post(self, request: Request, assignment: UUID) -> Response:
        until = renew_lease(access.access_assignment(_user(request), assignment))
        return Response({"lease_until": until})


class CandidatesView(APIView):
    throttle_classes = (ScopedRateThrottle,)
    throttle_scope = "candidates"

    @extend_schema(
        summary="Ask the model again",
        request=None,
        responses={202: None, **REFUSED},
        description="For candidates that could not be fetched.",
    )
    def post(self, request: Request, assignment: UUID) -> Response:
        retry_candidates(access.access_assignment(_user(request), assignment))
        return Response(status=202)


class GuidelineView(APIView):
    @extend_schema(
        summary="Acknowledge the guideline",
        description="A changed guideline is acknowledged before the next solution.",
        request=shapes.AcknowledgeInput,
        responses={204: None, **REFUSED},
    )
    def post(self, request: Request, slug: str) -> Response:
        membership = access.access_campaign_to_label(_user(request), slug)
        acknowledge_guideline(membership, _checked(shapes.AcknowledgeInput(data=request.data))["version"])
        return Response(status=204)


class FiguresView(APIView):
    @extend_schema(
        summary="My own figures",
        responses={200: shapes.FiguresOutput, 404: shapes.ErrorOutput},
        description="The same figures that the campaign's managers see.",
    )
    def get(self, request: Request, slug: str) -> Response:
        membership = access.access_membership(_user(request), slug)
        return Response({"figures": asdict(labeler_figures(membership))})


class KeysView(APIView):
    @extend_schema(summary="My keys of the labeling page", request=shapes.KeysInput, responses={204: None, **REFUSED})
    def put(self, request: Request) -> Response:
        set_keys(_user(request), _checked(shapes.KeysInput(data=request.data))["keys"])
        return Response(status=204)


class ProgressView(APIView):
    @extend_schema(summary="How far a campaign is", responses={200: shapes.ProgressOutput, 404: shapes.ErrorOutput})
    def get(self, request: Request, slug: str) -> Response:
        membership = access.access_membership(_user(request), slug)
        return Response(shapes.ProgressOutput(campaign_totals(membership.campaign)).data)


class DatasetListView(APIView):
    @extend_schema(summary="Dataset versions", responses=shapes.DatasetOutput(many=True))
    def get(self, request: Request, slug: str) -> Response:
        campaign = access.access_campaign_to_research(_user(request), slug)
        return Response(shapes.DatasetOutput(DatasetVersion.objects.filter(campaign=campaign), many=True).data)

    @extend_schema(summary="Write a new version", request=None, responses={202: shapes.JobOutput, **REFUSED})
    def post(self, request: Request, slug: str) -> Response:
        campaign = access.access_campaign_to_research(_user(request), slug)
        job = datasets.request_dataset(campaign, actor=_user(request))
        return Response(shapes.JobOutput(job).data, status=202)


class DatasetRecordsView(APIView):
    @extend_schema(
        summary="Download a version",
        parameters=[OpenApiParameter("as", OpenApiTypes.STR, enum=["prm800k", "trl", "companion"], default="prm800k")],
        responses={(200, "application/jsonl"): OpenApiTypes.STR, 400: shapes.ErrorOutput, 404: shapes.ErrorOutput},
    )
    def get(self, request: Request, slug: str, number: int) -> StreamingHttpResponse:
        version = access.access_dataset_version(_user(request), slug, number)
        lines = datasets.export_lines(version, request.query_params.get("as", "prm800k"))
        return StreamingHttpResponse(lines, content_type="application/jsonl")
