"""Who may fetch what: the one place that decides, asked directly."""

from __future__ import annotations

import pytest
from django.http import Http404

from annotator import access
from annotator.actions.people import add_member, renew_one_time_password, set_member_state
from annotator.errors import Conflict, Forbidden, Invalid
from annotator.models import Campaign, Membership, User
from tests.annotator.cast import Role, make_campaign, make_member, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


ENTRANCES = [
    (access.access_campaign_to_label, {Role.LABELER, Role.MANAGER}),
    (access.access_campaign_to_manage, {Role.MANAGER}),
    (access.access_campaign_to_research, {Role.RESEARCHER, Role.MANAGER}),
]


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize(("entrance", "allowed"), ENTRANCES)
def test_each_role_goes_where_it_belongs(campaign: Campaign, role, entrance, allowed) -> None:
    user = make_member(campaign, "sam", role).user
    if role in allowed:
        assert entrance(user, "algebra")
    else:
        with pytest.raises(Forbidden):
            entrance(user, "algebra")


@pytest.mark.parametrize("entrance", [entrance for entrance, _ in ENTRANCES])
def test_what_a_stranger_asks_for_looks_like_what_does_not_exist(campaign: Campaign, entrance) -> None:
    stranger = make_user("eve")
    for slug in ("algebra", "nowhere"):
        with pytest.raises(Http404):
            entrance(stranger, slug)


def test_a_manager_of_one_campaign_is_a_stranger_in_another(campaign: Campaign) -> None:
    other = make_campaign("geometry")
    mia = make_member(other, "mia", Role.MANAGER).user
    with pytest.raises(Http404):
        access.access_campaign_to_manage(mia, "algebra")
    generation = campaign.generations.create(number=0, policy={})
    with pytest.raises(Http404):
        access.access_generation(mia, "geometry", generation.number)


def test_paused_labelers_read_why(campaign: Campaign) -> None:
    lea = make_member(campaign, "lea")
    set_member_state(lea, actor=make_user("mia"), state=Membership.State.PAUSED, reason="See me first.")
    with pytest.raises(Forbidden, match="See me first"):
        access.access_campaign_to_label(lea.user, "algebra")


def test_a_new_member_gets_a_one_time_password_and_a_known_one_keeps_theirs(campaign: Campaign) -> None:
    membership, password = add_member(campaign, actor=None, username="lea", email="lea@example.org", role=Role.LABELER)
    assert password is not None
    assert membership.user.check_password(password)
    assert membership.user.must_change_password
    again, nothing = add_member(
        make_campaign("geometry"), actor=None, username="lea", email="lea@example.org", role=Role.LABELER
    )
    assert nothing is None
    assert again.uuid != membership.uuid
    with pytest.raises(Conflict, match="already belongs"):
        add_member(campaign, actor=None, username="lea", email="lea@example.org", role=Role.MANAGER)


def test_a_manager_cannot_take_over_an_account_by_name_or_reset_a_chosen_password(campaign: Campaign) -> None:
    make_user("ada")
    with pytest.raises(Conflict):
        add_member(campaign, actor=None, username="ada", email="mallory@example.org", role=Role.LABELER)
    ada = make_member(campaign, "lea")
    with pytest.raises(Conflict, match="has chosen a password"):
        renew_one_time_password(ada, actor=make_user("mia"))


def test_a_one_time_password_of_somebody_who_belongs_to_others_too_is_out_of_reach(campaign: Campaign) -> None:
    mia = make_user("mia")
    first, _ = add_member(
        make_campaign("geometry"), actor=None, username="lea", email="l@example.org", role=Role.MANAGER
    )
    second, _ = add_member(campaign, actor=None, username="lea", email="l@example.org", role=Role.LABELER)
    with pytest.raises(Conflict, match="belongs to others too"):
        renew_one_time_password(second, actor=mia)
    first.delete()
    assert renew_one_time_password(second, actor=mia)
    User.objects.filter(pk=second.user_id).update(is_staff=True)
    second.refresh_from_db()
    with pytest.raises(Conflict, match="belongs to others too"):
        renew_one_time_password(second, actor=mia)


def test_a_bad_address_is_refused(campaign: Campaign) -> None:
    with pytest.raises(Invalid):
        add_member(campaign, actor=None, username="lea", email="lea", role=Role.LABELER)
