"""A process full of labelers who share nothing with other processes but the database:

    python -m tests.annotator.labelers_at_work FILE MEMBERSHIP ...

They work in turn until everything is done. What the database has acknowledged is noted in the file before they go on:
the client id of each act and submit, a line each.
"""

from __future__ import annotations

import os
import random
import sys
import time

import django

django.setup()

from annotator.actions.labeling import SubmitAct, store_acts, submit_labeling  # noqa: E402  after django.setup()
from annotator.actions.queue import claim_next, return_assignment  # noqa: E402
from annotator.models import Assignment, Membership, QueueItem  # noqa: E402
from annotator.protocol import Act  # noqa: E402
from tests.annotator.cast import ending, path_of, rating  # noqa: E402

AHEAD, GIVEN_BACK = 0.1, 0.03
PAUSE_SECONDS = 0.3


class Labelers:
    def __init__(self, file: str, people: list[Membership]) -> None:
        self.people = people
        # Written by the system call itself: what is noted survives the death of this process.
        self.notes = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def work(self) -> None:
        while not self.all_is_done():
            random.shuffle(self.people)
            if not sum(self.do_one(person) for person in self.people):
                time.sleep(PAUSE_SECONDS)

    def do_one(self, person: Membership) -> bool:
        """Whether there was anything to do."""
        claimed = claim_next(person)
        if claimed is None:
            return False
        if random.random() < AHEAD:
            claim_next(person, ahead=True)
        assignment = Assignment.objects.select_related("membership__user", "campaign", "item__generation").get(
            pk=claimed.pk
        )
        if random.random() < GIVEN_BACK:
            return_assignment(assignment, random.choice(["release", "postpone", "skip"]))
            return True
        self.label(assignment)
        return True

    def label(self, assignment: Assignment) -> None:
        path = path_of(assignment)
        first, second = rating(path[0], 1), rating(path[1], -1)
        store_acts(assignment, [first])
        self.note([first])
        submit = ending("found_error")
        submit_labeling(assignment, submit, [second])
        self.note([second, submit])

    def note(self, acknowledged: list[Act | SubmitAct]) -> None:
        os.write(self.notes, "".join(f"{act.client_id}\n" for act in acknowledged).encode())

    def all_is_done(self) -> bool:
        open_items = QueueItem.objects.exclude(taken=2).exists()
        return not open_items and not Assignment.objects.filter(state=Assignment.State.ACTIVE).exists()


if __name__ == "__main__":
    chosen = Membership.objects.filter(pk__in=sys.argv[2:]).select_related("campaign", "user")
    Labelers(sys.argv[1], list(chosen)).work()
