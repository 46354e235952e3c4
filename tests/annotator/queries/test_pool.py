"""What may be served, what a PRM reads, and which labels it learns from."""

from __future__ import annotations

import pytest

from annotator import prm
from annotator.models import Campaign, Checkpoint, ImportRun, Problem, QueueItem, Solution
from annotator.queries.labelings import training_labelings
from annotator.queries.pool import eligible_solutions, ready_solutions, unscored_solutions, visible_solutions
from prm_backend.types import StepLabel
from tests.annotator.cast import import_rows, make_campaign, make_member, problem_texts, simple_row
from tests.annotator.rows import labeling_of, one_solution, rate

pytestmark = pytest.mark.django_db

TRAIN = Problem.SplitName.TRAIN
TEXT = problem_texts("train", 1)[0]


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


def eligible(campaign: Campaign) -> list[Solution]:
    return list(eligible_solutions(campaign, TRAIN))


def test_the_solutions_of_a_held_problem_wait(campaign: Campaign) -> None:
    solution = one_solution(campaign, TEXT)
    other = one_solution(campaign, problem_texts("train", 2)[1])
    Problem.objects.filter(pk=solution.problem_id).update(is_held=True)
    assert eligible(campaign) == [other]
    Problem.objects.update(is_held=False)
    assert len(eligible(campaign)) == 2


def test_only_the_campaigns_phase_is_served_and_only_phase_2_is_scored() -> None:
    phase_1 = make_campaign("trees", phase=1)
    import_rows(phase_1, [simple_row(TEXT), {"problem": TEXT}])
    import_rows(phase_1, [simple_row(TEXT, ["Judged."], ratings=[1])], labels="labelings")
    assert {solution.step_count for solution in eligible(phase_1)} == {3, 0}
    assert visible_solutions(phase_1).count() == 2
    checkpoint = Checkpoint.objects.create(campaign=phase_1, number=0, kind="backbone", folder="none")
    assert [solution.step_count for solution in unscored_solutions(checkpoint)] == [1]
    assert [solution.steps for solution in prm.pool_to_read(phase_1, TRAIN)] == [("Judged.",)]


def test_a_file_that_is_not_in_yet_is_neither_served_nor_read(campaign: Campaign) -> None:
    one_solution(campaign, TEXT)
    ImportRun.objects.update(state="writing")
    assert not visible_solutions(campaign).exists()
    assert not ready_solutions(campaign).exists()


@pytest.mark.parametrize(
    ("phase", "reason", "again"),
    [(1, "solution", False), (1, "give_up", True), (2, "found_error", False), (2, "give_up", True)],
)
def test_what_was_labeled_here_is_not_served_again_but_a_given_up_one_is(phase: int, reason: str, again: bool) -> None:
    campaign = make_campaign(f"phase-{phase}", phase=phase)
    solution = one_solution(campaign, TEXT)
    assert eligible(campaign) == [solution]
    labeling_of(solution, finish_reason=reason)
    QueueItem.objects.update(retired=True)
    assert eligible(campaign) == [], "there is only one labeler, who has had it"
    make_member(campaign, "max")
    assert eligible(campaign) == ([solution] if again else [])


def test_targeted_labelings_teach_only_the_steps_that_were_asked_for(campaign: Campaign) -> None:
    solution = one_solution(campaign, TEXT, ["One.", "Two.", "Three.", "Four."])
    labeling = labeling_of(solution, scope="targeted", finish_reason="", item={"target_steps": [1, 3]})
    rate(labeling, {"Two.": 1, "Four.": 0})
    (labeled,) = prm.labeled_solutions(training_labelings(campaign))
    assert labeled.labels == (None, StepLabel.GOOD, None, StepLabel.NEUTRAL)
    assert labeled.solution.steps == ("One.", "Two.", "Three.", "Four.")


def test_a_targeted_labeling_that_found_an_earlier_error_teaches_that_error(campaign: Campaign) -> None:
    labeling = labeling_of(one_solution(campaign, TEXT, ["One.", "Two.", "Three."]), scope="targeted")
    rate(labeling, {"One.": -1})
    (labeled,) = prm.labeled_solutions(training_labelings(campaign))
    assert labeled.labels == (StepLabel.BAD, None, None)


def test_alternatives_and_unsure_ratings_teach_nothing_of_the_solution(campaign: Campaign) -> None:
    solution = one_solution(campaign, TEXT, ["One.", "Two."], alternatives=[None, ["B."]])
    rate(labeling_of(solution), {"One.": 1, "Two.": -1, "B.": 1}, One=True)
    (labeled,) = prm.labeled_solutions(training_labelings(campaign))
    assert labeled.labels == (None, StepLabel.BAD)


def test_phase_1_labelings_do_not_train_yet() -> None:
    campaign = make_campaign("trees", phase=1)
    rate(labeling_of(one_solution(campaign, TEXT), finish_reason="solution"), {"One.": 1, "Two.": 1})
    assert not training_labelings(campaign).exists()
