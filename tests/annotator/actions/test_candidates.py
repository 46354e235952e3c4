"""What a labeler asks the model for: asked once, fetched by one worker, stored once, and never waited for in vain."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from annotator import candidates as sources
from annotator import tasks
from annotator.actions import candidates
from annotator.candidates import EndpointCandidates, ImportedCandidates, source_of
from annotator.dispatch import send_candidates
from annotator.models import Campaign, CandidateRequest, Completion, Critique, Solution
from annotator.queries.candidates import COMING, LATE, waiting_for, wanted_by
from prm_backend.errors import EndpointError
from tests.annotator.cast import import_rows, make_campaign, simple_row
from tests.endpoint import ModelEndpoint

pytestmark = pytest.mark.django_db

STEPS, CRITIQUES = CandidateRequest.Kind.STEPS, CandidateRequest.Kind.CRITIQUES


@pytest.fixture
def endpoint(model_endpoint: ModelEndpoint, settings: Any) -> ModelEndpoint:
    model_endpoint.answers = ["Add them.", "Count.", "So it is 2.\n\n# Answer\n\n2"]
    settings.CANDIDATE_ENDPOINT_URL = model_endpoint.url
    settings.CANDIDATE_TIMEOUT_SECONDS = 5.0
    return model_endpoint


def asking(phase: int, row: dict[str, Any], **fields: Any) -> Solution:
    """The solution of a campaign that asks the model."""
    campaign = make_campaign(phase=phase, candidate_source="endpoint", candidate_model="tiny", **fields)
    import_rows(campaign, [row])
    return campaign.solutions.get()


@pytest.fixture
def tree() -> Solution:
    """A phase 1 solution, still empty."""
    return asking(1, {"problem": "What is 1 plus 1?", "ground_truth_answer": "2"}, candidates_shown=3)


@pytest.fixture
def chain() -> Solution:
    """A ready solution of three steps."""
    return asking(2, simple_row("What is 1 plus 1?"))


def asked(
    solution: Solution, parent: Completion | None = None, kind: CandidateRequest.Kind = STEPS
) -> CandidateRequest:
    request = candidates.request_candidates(solution, parent, kind)
    assert request is not None
    return request


def taken(request: CandidateRequest) -> CandidateRequest:
    mine = candidates.take_request(request.pk)
    assert mine is not None
    return mine


def fresh(request: CandidateRequest) -> CandidateRequest:
    return CandidateRequest.objects.get(pk=request.pk)


def children(solution: Solution, parent: Completion | None = None) -> list[tuple[int, int, str]]:
    rows = solution.completions.filter(parent=parent).order_by("completion_index")
    return [(row.step_index, row.completion_index, row.text) for row in rows]


def step(solution: Solution, index: int) -> Completion:
    return solution.completions.get(step_index=index, completion_index=0)


def let_the_lease_run_out(request: CandidateRequest) -> None:
    CandidateRequest.objects.filter(pk=request.pk).update(lease_until=timezone.now() - datetime.timedelta(seconds=1))


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_asking_wakes_a_worker_once_the_row_is_there(
    tree: Solution, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(candidates, "send_candidates", lambda request: sent.append(request.pk))
    with django_capture_on_commit_callbacks(execute=True):
        request = asked(tree)
        assert asked(tree) == request
        assert sent == []
    assert sent == [request.pk]
    assert (request.campaign, request.state) == (tree.campaign, "queued")


def test_a_dead_broker_does_not_fail_the_labelers_request(tree: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no broker")

    monkeypatch.setattr("annotator.dispatch.app.send_task", refuse)
    request = asked(tree)
    send_candidates(request)
    assert fresh(request).state == "queued"


def test_imported_candidates_are_not_asked_for(chain: Solution) -> None:
    Campaign.objects.update(candidate_source="imported")
    solution = Solution.objects.get()
    assert candidates.request_candidates(solution, None, STEPS) is None
    assert source_of(solution.campaign) == ImportedCandidates()
    assert source_of(solution.campaign).fetch(sources.Wanted("p", (), 3, 1)) == []
    assert not CandidateRequest.objects.exists()


def test_what_is_there_is_not_asked_for(tree: Solution) -> None:
    first = tree.completions.create(step_index=0, completion_index=0, text="Imported.")
    assert candidates.request_candidates(tree, None, STEPS) is None
    first.critiques.create(position=0, text="Wrong.")
    assert candidates.request_candidates(tree, first, CRITIQUES) is None


def test_nothing_follows_a_final_answer(tree: Solution) -> None:
    final = tree.completions.create(step_index=0, completion_index=0, text="Two.\n\n# Answer\n\n2")
    assert candidates.request_candidates(tree, final, STEPS) is None


# --- What the model is told -------------------------------------------------------------------------------------------


def test_the_model_reads_the_path_and_never_the_reference_answer(tree: Solution) -> None:
    first = tree.completions.create(step_index=0, completion_index=1, text="Chosen.")
    tree.completions.create(step_index=0, completion_index=0, text="Not chosen.")
    own = tree.completions.create(
        parent=first, step_index=1, completion_index=0, text="The labeler's own.", source="human"
    )
    wanted = wanted_by(taken(asked(tree, own)))
    assert wanted.steps == ("Chosen.", "The labeler's own.")
    assert (wanted.problem, wanted.count, wanted.wrong_step) == ("What is 1 plus 1?", 3, None)
    assert "ground" not in repr(wanted)


def test_critiques_are_of_the_wrong_step_after_those_before_it(chain: Solution) -> None:
    wanted = wanted_by(taken(asked(chain, step(chain, 1), CRITIQUES)))
    assert (wanted.steps, wanted.wrong_step) == (("First step.",), "Second step.")


# --- Storing ----------------------------------------------------------------------------------------------------------


def test_candidates_follow_their_parent(tree: Solution) -> None:
    request = taken(asked(tree))
    candidates.store_candidates(request, ["Add them.", "Count."])
    assert children(tree) == [(0, 0, "Add them."), (0, 1, "Count.")]
    assert fresh(request).state == "done"
    assert fresh(request).finished_at is not None
    parent = step(tree, 0)
    candidates.store_candidates(taken(asked(tree, parent)), ["So it is 2."])
    assert children(tree, parent) == [(1, 0, "So it is 2.")]
    assert set(tree.completions.values_list("source", flat=True)) == {"model"}


def test_candidates_take_the_next_free_places_beside_what_labelers_wrote(tree: Solution) -> None:
    request = taken(asked(tree))
    tree.completions.create(step_index=0, completion_index=0, text="Add them.", source="human")
    candidates.store_candidates(request, ["Add them."])
    assert children(tree) == [(0, 0, "Add them."), (0, 1, "Add them.")]


def test_alternatives_stand_beside_the_ready_solutions_own_step(chain: Solution) -> None:
    request = taken(asked(chain, step(chain, 0)))
    candidates.store_candidates(request, ["Second  step.", "Another second step.", "A third way."])
    assert children(chain, step(chain, 0)) == [
        (1, 0, "Second step."),
        (1, 1, "Another second step."),
        (1, 2, "A third way."),
    ]
    assert candidates.request_candidates(chain, step(chain, 0), STEPS) is None


def test_nothing_is_added_where_the_models_steps_have_come_from_elsewhere(tree: Solution) -> None:
    request = taken(asked(tree))
    tree.completions.create(step_index=0, completion_index=0, text="Imported meanwhile.")
    candidates.store_candidates(request, ["Too late."])
    assert children(tree) == [(0, 0, "Imported meanwhile.")]
    assert fresh(request).state == "done"


def test_critiques_belong_to_their_completion(chain: Solution) -> None:
    wrong = step(chain, 1)
    request = taken(asked(chain, wrong, CRITIQUES))
    wrong.critiques.create(position=0, text="A labeler's own.", source="human")
    candidates.store_critiques(request, ["It does not follow."])
    assert list(Critique.objects.values_list("position", "text", "source")) == [
        (0, "A labeler's own.", "human"),
        (1, "It does not follow.", "model"),
    ]
    assert fresh(request).state == "done"


# --- Leases and attempts ----------------------------------------------------------------------------------------------


def test_one_worker_has_a_request_at_a_time(tree: Solution) -> None:
    request = asked(tree)
    assert taken(request).attempt == 1
    assert candidates.take_request(request.pk) is None


def test_a_worker_that_lost_its_lease_writes_nothing(tree: Solution) -> None:
    request = asked(tree)
    slow = taken(request)
    let_the_lease_run_out(request)
    second = taken(request)
    candidates.store_candidates(slow, ["From the slow worker."])
    candidates.fail_request(slow, "The slow worker gave up.")
    candidates.release_request(slow, "The slow worker broke.")
    assert (children(tree), fresh(request).state) == ([], "running")
    candidates.store_candidates(second, ["From the second."])
    candidates.store_candidates(slow, ["From the slow worker."])
    assert children(tree) == [(0, 0, "From the second.")]


def test_what_a_worker_left_behind_is_sent_again_and_in_the_end_failed(tree: Solution) -> None:
    request = asked(tree)
    CandidateRequest.objects.update(sent_at=timezone.now())
    assert candidates.sweep_requests() == []
    for _attempt in range(CandidateRequest.MAX_ATTEMPTS):
        taken(request)
        assert candidates.sweep_requests(resend_after=datetime.timedelta(0)) == []
        let_the_lease_run_out(request)
        left = candidates.sweep_requests(resend_after=datetime.timedelta(0))
    assert left == []
    assert candidates.take_request(request.pk) is None
    assert (fresh(request).state, fresh(request).error) == ("failed", candidates.NEVER_FINISHED)


def test_a_request_whose_message_was_lost_is_sent_again(tree: Solution) -> None:
    request = asked(tree)
    assert candidates.sweep_requests() == [request]


def test_a_failed_request_is_asked_again_only_on_demand(tree: Solution) -> None:
    request = taken(asked(tree))
    assert not candidates.retry_request(request)
    candidates.fail_request(request, "The model endpoint cannot be reached.")
    assert asked(tree).state == "failed"
    assert candidates.retry_request(request)
    assert not candidates.retry_request(request)
    again = fresh(request)
    assert (again.state, again.attempt, again.error, again.finished_at) == ("queued", 0, "", None)


# --- What the page says -----------------------------------------------------------------------------------------------


def test_the_page_knows_what_is_coming_and_what_failed(chain: Solution) -> None:
    asked(chain, step(chain, 0))
    candidates.fail_request(taken(asked(chain, step(chain, 1), CRITIQUES)), "The model endpoint is busy (HTTP 429).")
    candidates.store_candidates(taken(asked(chain, step(chain, 1))), ["Else."])
    assert waiting_for(chain.pk) == [
        {"parent": step(chain, 0).pk, "kind": "steps", "state": "coming", "message": COMING},
        {
            "parent": step(chain, 1).pk,
            "kind": "critiques",
            "state": "failed",
            "message": "The model endpoint is busy (HTTP 429).",
        },
    ]


def test_nobody_waits_for_a_worker_that_is_not_there(tree: Solution) -> None:
    request = asked(tree)
    CandidateRequest.objects.update(created_at=timezone.now() - datetime.timedelta(minutes=5))
    assert waiting_for(tree.pk) == [{"parent": None, "kind": "steps", "state": "failed", "message": LATE}]
    candidates.store_candidates(taken(request), ["It came after all."])
    assert waiting_for(tree.pk) == []


# --- The task ---------------------------------------------------------------------------------------------------------


def test_the_task_brings_candidates(tree: Solution, endpoint: ModelEndpoint) -> None:
    request = asked(tree)
    tasks.fetch_candidates(request.pk)
    tasks.fetch_candidates(request.pk)
    assert children(tree) == [(0, 0, "Add them."), (0, 1, "Count."), (0, 2, "So it is 2.\n\n# Answer\n\n2")]
    assert step(tree, 0).is_final is False
    assert Completion.objects.get(completion_index=2).is_final
    assert [(each["model"], each["n"]) for each in endpoint.requests] == [("tiny", 3)]


def test_the_task_brings_critiques(chain: Solution, endpoint: ModelEndpoint) -> None:
    endpoint.answers = ["It repeats itself."]
    tasks.fetch_candidates(asked(chain, step(chain, 1), CRITIQUES).pk)
    assert step(chain, 1).critiques.get().text == "It repeats itself."


def test_a_refusal_is_a_sentence_without_the_key(
    tree: Solution, endpoint: ModelEndpoint, settings: Any, caplog: Any
) -> None:
    settings.CANDIDATE_ENDPOINT_KEY = "sk-very-secret"
    endpoint.status, endpoint.body = 401, b'{"error": "no such key: sk-very-secret"}'
    request = asked(tree)
    tasks.fetch_candidates(request.pk)
    assert (fresh(request).state, fresh(request).error) == (
        "failed",
        "The model endpoint does not accept its key (HTTP 401).",
    )
    assert "no such key" in caplog.text
    assert "sk-very-secret" not in caplog.text


def test_an_answer_without_a_step_fails_in_words(tree: Solution, endpoint: ModelEndpoint) -> None:
    endpoint.answers = ["", "  "]
    request = asked(tree)
    tasks.fetch_candidates(request.pk)
    assert (fresh(request).state, fresh(request).error) == ("failed", candidates.NOTHING_NEW)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("CANDIDATE_ENDPOINT_URL", "", "The operator has set no model endpoint for candidates."),
        ("CANDIDATE_ENDPOINT_URL", "models:8000", "The address of the model endpoint has to start with"),
        ("CANDIDATE_ENDPOINT_KEY_FILE", "/no/such/file", "The worker cannot read the key of the model endpoint."),
    ],
)
def test_a_source_that_is_not_set_up_says_so(
    tree: Solution, endpoint: ModelEndpoint, settings: Any, field: str, value: str, says: str
) -> None:
    setattr(settings, field, value)
    request = asked(tree)
    tasks.fetch_candidates(request.pk)
    assert fresh(request).state == "failed"
    assert fresh(request).error.startswith(says)
    assert endpoint.requests == []


def test_a_campaign_has_to_name_a_model(endpoint: ModelEndpoint) -> None:
    with pytest.raises(EndpointError, match="names no model"):
        EndpointCandidates("").fetch(sources.Wanted("p", (), 1, 1))


def test_the_key_may_lie_in_a_file(tree: Solution, endpoint: ModelEndpoint, settings: Any, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-from-file\n")
    settings.CANDIDATE_ENDPOINT_KEY_FILE = str(tmp_path / "key")
    tasks.fetch_candidates(asked(tree).pk)
    assert endpoint.keys == ["Bearer sk-from-file"]


def test_a_fault_of_ours_is_tried_again_and_then_failed(
    tree: Solution, endpoint: ModelEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*args: Any) -> None:
        raise RuntimeError(f"internal {uuid.uuid4()}")

    monkeypatch.setattr(candidates, "store_candidates", break_down)
    request = asked(tree)
    states = []
    for _attempt in range(CandidateRequest.MAX_ATTEMPTS):
        tasks.fetch_candidates(request.pk)
        states.append(fresh(request).state)
    assert states == ["queued", "queued", "failed"]
    assert fresh(request).error == "Asking the model failed: RuntimeError."


def test_reconcile_wakes_what_waits(tree: Solution, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(tasks, "send_candidates", lambda request: sent.append(request.pk))
    request = asked(tree)
    tasks.reconcile()
    assert sent == [request.pk]
