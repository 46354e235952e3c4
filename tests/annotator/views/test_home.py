from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotator.actions.campaigns import pause_campaign, publish_guideline
from annotator.actions.people import send_message, set_member_state
from annotator.actions.queue import claim_next, return_assignment
from annotator.models import Assignment, Job, Membership, Message, QueueItem
from annotator.queries.home import MESSAGES, my_campaigns
from tests.annotator.cast import Role, make_campaign, make_member, path_of, rate, rating
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def home_of(cast: Cast, who: str) -> str:
    return str(getattr(cast, who).get("/").content.decode())


def code(cast: Cast, who: str = "labeler") -> str:
    (row,) = my_campaigns(cast.members[who].user)
    return row.code


def test_it_says_what_to_do_next_in_each_role(cast: Cast) -> None:
    cast.active()
    assert 'href="/c/algebra/label/"' in home_of(cast, "labeler")
    assert 'href="/c/algebra/datasets/"' in home_of(cast, "researcher")
    assert "Overview" in home_of(cast, "manager")


def test_a_paused_labeler_reads_why(cast: Cast) -> None:
    cast.active()
    manager = cast.members["manager"].user
    set_member_state(cast.members["labeler"], actor=manager, state=Membership.State.PAUSED, reason="Let us talk first.")
    body = home_of(cast, "labeler")
    assert "Let us talk first." in body
    assert 'href="/c/algebra/label/"' not in body


def test_somebody_without_campaigns_reads_how_to_get_in(cast: Cast) -> None:
    Membership.objects.all().delete()
    assert "adds you by your user name, labeler" in home_of(cast, "labeler")


def test_what_is_in_hand_stands_there_with_its_step(cast: Cast) -> None:
    cast.active()
    claimed = cast.claim()
    body = home_of(cast, "labeler")
    assert "You have not started on it yet:" in body
    assert "Continue" in body
    first, second, _ = path_of(claimed)
    rate(claimed, rating(first, 1), rating(second, 1))
    body = home_of(cast, "labeler")
    assert "You stopped at step 2 of 3:" in body
    assert claimed.solution.problem.text in body


def test_what_was_put_off_is_counted(cast: Cast) -> None:
    cast.active()
    claimed = cast.claim()
    return_assignment(claimed, "postpone")
    assert "1 solution that you put off comes back later." in home_of(cast, "labeler")


# --- Why there is nothing to do --------------------------------------------------------------------------------------


def test_the_queue_has_work_until_it_has_none(cast: Cast) -> None:
    assert code(cast) == "draft"
    cast.active(train=2, validation=0)
    Job.objects.update(state=Job.State.DONE)
    assert code(cast) == "work"
    cast.label_next(1, 1, 1)
    cast.label_next(-1)
    assert code(cast) == "all_done"
    assert "Everything selected so far is labeled." in home_of(cast, "labeler")
    pause_campaign(cast.campaign, actor=cast.members["manager"].user)
    assert code(cast) == "paused"


def test_solutions_with_others_are_said_to_be(cast: Cast) -> None:
    cast.active(train=1, validation=0)
    other = make_member(cast.campaign, "ben")
    held = claim_next(other)
    assert held is not None
    assert code(cast) == "held"
    assert "the last solutions are with others" in home_of(cast, "labeler")
    Assignment.objects.update(lease_until=timezone.now() - datetime.timedelta(minutes=1))
    assert code(cast) == "work"


def test_seen_all_is_not_all_done(cast: Cast) -> None:
    cast.campaign.labelings_wanted = 2
    cast.campaign.save()
    cast.active(train=1, validation=0)
    Job.objects.update(state=Job.State.DONE)
    cast.label_next(1, 1, 1)
    assert code(cast) == "seen_all"


def test_preparation_is_said_to_be(cast: Cast) -> None:
    cast.active(train=1, validation=0)
    cast.label_next(1, 1, 1)
    assert Job.objects.filter(state__in=Job.UNFINISHED).exists()
    assert code(cast) == "waiting"


def test_what_waits_for_a_reviewer_is_no_work_for_a_labeler(cast: Cast) -> None:
    cast.active(train=1, validation=0)
    Job.objects.update(state=Job.State.DONE)
    QueueItem.objects.update(lane=QueueItem.Lane.REVIEW)
    assert code(cast) == "all_done"


# --- Figures and messages --------------------------------------------------------------------------------------------


def test_the_figures_are_there_and_no_ranking(cast: Cast) -> None:
    cast.active()
    cast.label_next(1, 1, 1)
    (row,) = my_campaigns(cast.members["labeler"].user)
    assert (row.figures.labelings, row.figures.today) == (1, 1)
    body = home_of(cast, "labeler")
    assert "In all" in body
    assert 'href="/c/algebra/history/"' in body


def test_messages_are_unread_until_they_are_read(cast: Cast, url: Url) -> None:
    labeler, manager = cast.members["labeler"], cast.members["manager"].user
    send_message(cast.campaign, actor=manager, text="Well <done>.", to=labeler)
    last = send_message(cast.campaign, actor=manager, text="Friday is off.")
    (row,) = my_campaigns(labeler.user)
    assert [message.text for message in row.unread] == ["Friday is off.", "Well <done>."]
    body = home_of(cast, "labeler")
    assert "Well &lt;done&gt;." in body
    assert cast.labeler.post(url("messages/read/"), {"newest": last.pk})["Location"] == "/"
    send_message(cast.campaign, actor=manager, text="One more.")
    (row,) = my_campaigns(labeler.user)
    assert [message.text for message in row.unread] == ["One more."]
    assert len(row.read) == 2


def test_a_loud_campaign_hides_no_message_of_a_quiet_one(cast: Cast) -> None:
    labeler = cast.members["labeler"]
    send_message(cast.campaign, actor=None, text="Read this.", to=labeler)
    loud = make_campaign("loud")
    Membership.objects.create(campaign=loud, user=labeler.user, role=Role.LABELER)
    Message.objects.bulk_create(Message(campaign=loud, text=f"News {number}.") for number in range(2 * MESSAGES))
    quiet, noisy = my_campaigns(labeler.user)
    assert [message.text for message in quiet.unread] == ["Read this."]
    assert [noisy.unread[0].text, len(noisy.unread)] == [f"News {2 * MESSAGES - 1}.", MESSAGES]


def test_messages_reach_the_right_people_only(cast: Cast) -> None:
    manager = cast.members["manager"].user
    send_message(cast.campaign, actor=manager, text="For the labeler.", to=cast.members["labeler"])
    send_message(cast.campaign, actor=manager, text="For all.")
    newcomer = make_member(cast.campaign, "ben")
    assert "For the labeler." not in home_of(cast, "manager")
    assert "For all." not in home_of(cast, "manager")
    assert "For all." not in home_of(cast, "stranger")
    (row,) = my_campaigns(newcomer.user)
    assert not row.unread


@pytest.mark.parametrize("newest", ["", "nonsense", "999999"])
def test_reading_nothing_is_refused(cast: Cast, url: Url, newest: str) -> None:
    assert cast.labeler.post(url("messages/read/"), {"newest": newest}).status_code == 400


def test_a_changed_guideline_is_announced(cast: Cast) -> None:
    cast.active()
    assert "The guideline has changed" not in home_of(cast, "labeler")
    publish_guideline(cast.campaign, actor=cast.members["manager"].user, text="Be kind.")
    assert "The guideline has changed" in home_of(cast, "labeler")
    assert "The guideline has changed" not in home_of(cast, "manager")  # who wrote it


def test_it_costs_the_same_for_many_campaigns_and_labelings(cast: Cast) -> None:
    def cost() -> int:
        client = cast.labeler
        with CaptureQueriesContext(connection) as queries:
            client.get("/")
        return len(queries)

    cast.active()
    cast.label_next(1, 1, 1)
    cast.claim()
    few = cost()
    user = cast.members["labeler"].user
    for number in range(5):
        more = make_campaign(f"more-{number}")
        member = Membership.objects.create(campaign=more, user=user, role=Role.LABELER)
        send_message(more, actor=None, text="Hello.", to=member)
    cast.label_next(1, -1)
    assert cost() == few <= 10
