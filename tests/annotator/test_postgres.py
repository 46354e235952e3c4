"""Statements larger than PostgreSQL's protocol carries go through all the same."""

from __future__ import annotations

import pytest

from annotator.models import AuditEvent, Campaign, User
from tests.annotator.cast import make_campaign

pytestmark = pytest.mark.django_db


def test_a_list_of_more_keys_than_the_protocol_counts() -> None:
    campaign = make_campaign()
    assert Campaign.objects.filter(pk__in=[*range(-70_000, 0), campaign.pk]).get() == campaign


def test_more_rows_at_once_than_the_protocol_counts_values() -> None:
    campaign = make_campaign()
    AuditEvent.objects.bulk_create(AuditEvent(campaign=campaign, verb="knock % and 'enter'") for _ in range(15_000))
    assert AuditEvent.objects.filter(verb="knock % and 'enter'").count() == 15_000


def test_a_statement_that_comes_again_and_again() -> None:
    for number in range(8):
        assert not User.objects.filter(username=f"nobody-{number}").exists()
