"""Researchers take datasets by program: list, order, download."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from annotator.actions.campaigns import activate_campaign
from annotator.actions.queue import claim_next
from annotator.dispatch import run_here
from annotator.models import Campaign, Job
from tests.annotator.cast import Role, fill_pool, label, make_campaign, make_member

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    campaign = make_campaign(audit_per_generation=0)
    fill_pool(campaign, train=1)
    campaign = activate_campaign(campaign, actor=None)
    assignment = claim_next(make_member(campaign, "lea"))
    assert assignment is not None
    label(assignment, [1, -1])
    return campaign


@pytest.fixture
def researcher(campaign: Campaign) -> Client:
    client = Client()
    client.force_login(make_member(campaign, "rob", Role.RESEARCHER).user)
    return client


def test_a_version_is_ordered_listed_and_downloaded(campaign: Campaign, researcher: Client) -> None:
    ordered = researcher.post("/api/v1/campaigns/algebra/datasets/")
    assert ordered.status_code == 202
    assert researcher.post("/api/v1/campaigns/algebra/datasets/").json()["error"]["code"] == "already_running"
    run_here(Job.objects.get(pk=ordered.json()["id"]))
    listed = researcher.get("/api/v1/campaigns/algebra/datasets/").json()
    assert [(row["number"], row["manifest"]["counts"]["records"]) for row in listed] == [(1, 1)]
    download = researcher.get("/api/v1/campaigns/algebra/datasets/1/records/")
    assert json.loads(download.getvalue())["label"]["finish_reason"] == "found_error"
    trl = researcher.get("/api/v1/campaigns/algebra/datasets/1/records/?as=trl")
    assert json.loads(trl.getvalue())["labels"] == [True, False]


def test_an_unknown_form_or_version_is_refused(campaign: Campaign, researcher: Client) -> None:
    assert researcher.get("/api/v1/campaigns/algebra/datasets/7/records/").status_code == 404
    run_here(Job.objects.get(pk=researcher.post("/api/v1/campaigns/algebra/datasets/").json()["id"]))
    refused = researcher.get("/api/v1/campaigns/algebra/datasets/1/records/?as=xml")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_format")


def test_the_schema_describes_every_route_without_a_warning(researcher: Client) -> None:
    schema = researcher.get("/api/schema/?format=json").json()
    assert "/api/v1/assignments/{assignment}/submit/" in schema["paths"]
    page = researcher.get("/api/docs/")
    assert page.status_code == 200
    assert b"<script>" not in page.content
