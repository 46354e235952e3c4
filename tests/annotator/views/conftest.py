"""The people who look at pages: one of each role in one campaign, and a stranger from another one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from annotator.actions.campaigns import activate_campaign
from annotator.actions.queue import claim_next
from annotator.models import Assignment, Campaign, Labeling, Membership
from tests.annotator.cast import Role, fill_pool, label, make_campaign, make_member


@dataclass
class Cast:
    campaign: Campaign
    members: dict[str, Membership]

    def __getattr__(self, name: str) -> Client:
        """`cast.manager`, `cast.labeler`, …: a browser in which that person has logged in."""
        client = Client()
        client.force_login(self.members[name].user)
        return client

    def active(self, **pool: int) -> Campaign:
        """The campaign with a pool, opened for labeling."""
        if not self.campaign.solutions.exists():
            fill_pool(self.campaign, **(pool or {"train": 4, "validation": 2}))
        self.campaign = activate_campaign(self.campaign, actor=self.members["manager"].user)
        return self.campaign

    def claim(self) -> Assignment:
        """What the labeler gets when they ask for a solution."""
        labeler = self.members["labeler"]
        labeler.campaign.refresh_from_db()
        assignment = claim_next(labeler)
        assert assignment is not None
        return assignment

    def label_next(self, *values: int, **more: Any) -> Labeling:
        """The labeler claims a solution, rates its first steps with these values and submits."""
        return label(self.claim(), values, **more)


@pytest.fixture
def cast(db: None) -> Cast:
    campaign = make_campaign()
    people = {role.value: make_member(campaign, role.value, role) for role in Role}
    return Cast(campaign, {**people, "stranger": make_member(make_campaign("geometry"), "stranger", Role.MANAGER)})


@pytest.fixture
def url(cast: Cast) -> Callable[[str], str]:
    """Where a page of the campaign is: `url("members/")`."""
    return lambda path="": f"/c/{cast.campaign.slug}/{path}"
