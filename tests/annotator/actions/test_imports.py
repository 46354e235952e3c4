"""Bringing files in: all or nothing, one solution for each distinct problem and steps, and undone while untouched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotator.actions.campaigns import activate_campaign
from annotator.actions.imports import oracle_file, stored_file, undo_import
from annotator.actions.queue import claim_next
from annotator.dispatch import run_here
from annotator.errors import Conflict, Invalid
from annotator.models import (
    Campaign,
    Completion,
    GoldLabel,
    ImportRun,
    Job,
    Labeling,
    Problem,
    QueueItem,
    Rating,
    Solution,
    User,
)
from annotator.queries.labelings import submitted_labelings, training_labelings
from annotator.queries.pool import visible_solutions
from tests.annotator.cast import (
    fill_pool,
    import_file,
    import_rows,
    label,
    make_campaign,
    make_member,
    make_user,
    problem_texts,
    simple_row,
)

pytestmark = pytest.mark.django_db
DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def campaign() -> Campaign:
    return make_campaign()


def processbench_row(number: int, label: int) -> dict[str, object]:
    return {
        "id": f"gsm8k-{number}",
        "generator": "Qwen2-7B-Instruct",
        "problem": f"Problem {number}",
        "steps": ["One.", "Two.", "Three."],
        "final_answer_correct": label == -1,
        "label": label,
    }


def test_a_simple_file_becomes_problems_solutions_and_paths(campaign: Campaign) -> None:
    run = import_rows(campaign, [simple_row("A?"), simple_row("A?", ["Only step."]), simple_row("B?")])
    assert run.state == "done"
    assert run.report == {"rows": 3, "problems": 2, "solutions": 3, "repeats": 0}
    path = Completion.objects.filter(solution=Solution.objects.get(step_count=3, problem__text="A?")).order_by(
        "step_index"
    )
    assert [step.text for step in path] == ["First step.", "Second step.", "So the answer is 2."]
    assert [step.parent for step in path] == [None, path[0], path[1]]
    assert Labeling.objects.count() == 0


def test_a_repeated_solution_is_stored_once_and_its_rows_add_labelings(campaign: Campaign) -> None:
    rows = [
        simple_row("A?", id="one", ratings=[1, -1, None]),
        simple_row("A?", id="two", ratings=[1, 1, -1]),
    ]
    run = import_rows(campaign, rows, labels="labelings")
    assert (run.report["solutions"], run.report["repeats"], run.report["labelings"]) == (1, 1, 2)
    again = import_rows(campaign, rows, labels="labelings")
    assert (again.report["solutions"], again.report["repeats"], again.report.get("labelings", 0)) == (0, 2, 0)
    assert submitted_labelings(campaign).count() == 2


def test_a_blank_step_is_kept(campaign: Campaign) -> None:
    import_rows(campaign, [simple_row("A?", ["One.", "", "Three."])])
    assert list(Completion.objects.order_by("step_index").values_list("text", flat=True)) == ["One.", "", "Three."]


def test_first_error_sources_say_not_bad_never_plus(campaign: Campaign) -> None:
    run = import_rows(campaign, [processbench_row(1, 2), processbench_row(2, -1)], labels="labelings")
    assert run.format == "processbench"
    by_problem = {
        labeling.solution.problem.text: [(row.value, row.not_bad) for row in labeling.ratings.all()]
        for labeling in Labeling.objects.all()
    }
    assert by_problem == {
        "Problem 1": [(None, True), (None, True), (-1, False)],
        "Problem 2": [(None, True)] * 3,
    }
    assert not Rating.objects.filter(value=1).exists()


def test_labels_are_left_out_unless_asked_for(campaign: Campaign) -> None:
    import_rows(campaign, [processbench_row(1, 2)])
    assert not Labeling.objects.exists()


def test_gold_labels_stand_apart_from_labelings(campaign: Campaign) -> None:
    import_rows(campaign, [simple_row("A?", ratings=[1, 0, -1])], labels="gold")
    assert list(GoldLabel.objects.order_by("completion__step_index").values_list("value", flat=True)) == [1, 0, -1]
    assert not Labeling.objects.exists()


def test_oracle_labels_go_to_a_file_and_to_no_table(campaign: Campaign) -> None:
    run = import_rows(campaign, [simple_row("A?", ratings=[1, -1, None])], labels="oracle")
    kept = [json.loads(line) for line in oracle_file(run).read_text().splitlines()]
    assert kept == [{"solution": Solution.objects.get().digest, "labels": ["good", "bad", None]}]
    assert not Labeling.objects.exists()
    assert not GoldLabel.objects.exists()


BROKEN_LINE_7 = b"".join(json.dumps(simple_row(f"P{n}?")).encode() + b"\n" for n in range(6)) + b'{"problem": "P7\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BROKEN_LINE_7, ["line 7"]),
        (b'{"problem": "P?", "steps": ["a"]}\n{"problem": "P?"}\n', ["line 2", "steps"]),
        (b'{"problem": "P?", "steps": []}\n', ["line 1", "steps"]),
        (b'{"problem": "P?", "steps": ["a", 7]}\n', ["line 1", "steps[1]"]),
        (b'{"problem": "P?", "steps": ["a"], "ratings": [2]}\n', ["line 1", "ratings[0]"]),
        (b'{"problem": "P\\u0000?", "steps": ["a"]}\n', ["line 1", "problem"]),
        (b'{"problem": "P?", "steps": ["a"]}\n' + b"x" * (20 << 20) + b"\n", ["line 2", "16 MiB"]),
    ],
    ids=["broken JSON", "no steps", "empty steps", "step not text", "bad rating", "NUL", "huge line"],
)
def test_a_bad_row_is_named_and_nothing_is_kept(campaign: Campaign, content: bytes, words: list[str]) -> None:
    run = import_file(campaign, content, format="simple")
    assert run.state == "failed"
    for word in words:
        assert word in run.error
    assert not Problem.objects.exists()
    assert not Solution.objects.exists()


def test_a_file_of_no_known_format_is_refused_at_once(campaign: Campaign) -> None:
    with pytest.raises(Invalid, match=r"rows\.jsonl"):
        import_file(campaign, b'{"what": "ever"}\n')
    with pytest.raises(Invalid, match="prm800k, processbench, simple"):
        import_rows(campaign, [simple_row("A?")], format="csv")
    assert not ImportRun.objects.exists()


def test_rows_are_invisible_until_the_whole_file_is_in(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotator.actions.import_rows import ChunkWriter

    write, seen = ChunkWriter.write, []

    def spy(self: ChunkWriter, records: object) -> object:
        result = write(self, records)
        seen.append((Solution.objects.count() > 0, visible_solutions(campaign).count()))
        return result

    monkeypatch.setattr(ChunkWriter, "write", spy)
    import_rows(campaign, [simple_row(f"P{n}?") for n in range(250)])
    assert seen == [(True, 0)] * 5
    assert visible_solutions(campaign).count() == 250


def test_an_import_cut_short_is_taken_up_again_without_doubles(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotator.actions.import_rows import ChunkWriter

    write, calls = ChunkWriter.write, []

    def fail_once(self: ChunkWriter, records: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise OSError("the disk went away")
        return write(self, records)

    monkeypatch.setattr(ChunkWriter, "write", fail_once)
    run = import_rows(campaign, [simple_row(f"P{n}?") for n in range(250)])
    assert run.state == "done"
    assert Solution.objects.count() == run.report["solutions"] == 250
    assert Job.objects.get(kind="import").attempt == 2


def test_two_imports_at_once_are_refused(campaign: Campaign) -> None:
    ImportRun.objects.create(campaign=campaign, file_name="first.jsonl", state="writing")
    with pytest.raises(Conflict, match="Another file is being imported"):
        import_rows(campaign, [simple_row("A?")])


def test_the_same_words_twice_in_a_file_are_two_labelings(campaign: Campaign) -> None:
    rows = [simple_row("A?", ratings=[1, -1, None])] * 2
    assert import_rows(campaign, rows, labels="labelings").report["labelings"] == 2
    assert import_rows(campaign, rows, labels="labelings").report.get("labelings", 0) == 0


def test_labels_after_the_first_error_are_left_out(campaign: Campaign) -> None:
    import_rows(campaign, [simple_row("A?", ["A", "B", "B"], ratings=[1, -1, -1])], labels="labelings")
    labeling = Labeling.objects.get()
    assert [row.value for row in labeling.ratings.all()] == [1, -1]
    assert Completion.objects.count() == 3


def test_a_labeling_that_stopped_half_way_has_no_finish_reason_and_still_trains(campaign: Campaign) -> None:
    row = simple_row(problem_texts("train", 1)[0], ratings=[1, None, None])
    import_rows(campaign, [row], labels="labelings")
    assert Labeling.objects.get().finish_reason == ""
    assert training_labelings(campaign).count() == 1


def undo(run: ImportRun) -> None:
    mia = User.objects.filter(username="mia").first() or make_user("mia")
    run_here(undo_import(run, actor=mia, wake=False))
    run.refresh_from_db()


def test_a_file_that_another_one_repeats_is_undone_after_it(campaign: Campaign) -> None:
    first, second = (import_rows(campaign, [simple_row("A?")]) for _ in range(2))
    with pytest.raises(Conflict, match="undo that one first"):
        undo(first)
    undo(second)
    assert Solution.objects.count() == 1
    undo(first)
    assert not Solution.objects.exists()


def test_an_undo_cut_short_is_finished_later_and_nothing_is_visible_meanwhile(campaign: Campaign) -> None:
    run = import_rows(campaign, [simple_row("A?")])
    job = undo_import(run, actor=make_user("mia"), wake=False)
    assert not visible_solutions(campaign).exists()
    with pytest.raises(Conflict, match="Another file is being imported"):
        import_rows(campaign, [simple_row("A?")])
    run_here(job)
    assert import_rows(campaign, [simple_row("A?")]).report["solutions"] == 1


def test_an_import_can_be_undone(campaign: Campaign) -> None:
    fill_pool(campaign, train=5)
    run = import_rows(campaign, [simple_row("Another?", ratings=[1, 1, 1])], labels="labelings")
    undo(run)
    assert run.state == "undone"
    assert (Problem.objects.count(), Solution.objects.count(), Labeling.objects.count()) == (5, 5, 0)


def test_an_import_that_was_released_but_not_touched_can_be_undone(campaign: Campaign) -> None:
    fill_pool(campaign, train=5)
    activate_campaign(campaign, actor=None)
    undo(campaign.imports.get())
    assert not QueueItem.objects.exists()


def test_an_import_that_somebody_has_labeled_stays(campaign: Campaign) -> None:
    fill_pool(campaign, train=5)
    assignment = claim_next(make_member(activate_campaign(campaign, actor=None), "lea"))
    assert assignment is not None
    label(assignment, [-1])
    with pytest.raises(Conflict, match="have been labeled"):
        undo_import(campaign.imports.get(), actor=make_user("mia"))
    assert Solution.objects.count() == 5
    assert QueueItem.objects.filter(retired=False).count() == 5


def test_the_split_is_the_problems_and_the_draw_is_reproducible(campaign: Campaign) -> None:
    for split in ("train", "validation", "test"):
        import_rows(campaign, [simple_row(problem_texts(split, 1)[0], [split])])
    assert list(Solution.objects.order_by("id").values_list("split", flat=True)) == ["train", "validation", "test"]
    draws = list(Solution.objects.order_by("id").values_list("draw", flat=True))
    for run in campaign.imports.all():
        undo(run)
    for split in ("train", "validation", "test"):
        import_rows(campaign, [simple_row(problem_texts(split, 1)[0], [split])])
    assert list(Solution.objects.order_by("id").values_list("draw", flat=True)) == draws


def test_a_foreign_label_mode_is_refused(campaign: Campaign) -> None:
    with pytest.raises(Invalid, match="ignore, labelings, gold, oracle"):
        import_rows(campaign, [simple_row("A?")], labels="everything")


def test_the_stored_file_is_the_uploaded_one(campaign: Campaign) -> None:
    content = json.dumps(simple_row("A?")).encode()
    run = import_file(campaign, content)
    assert stored_file(run).read_bytes() == content


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real human-labeled data is not beside the project")
@pytest.mark.parametrize("file", sorted(DATA.glob("*.jsonl")) if DATA.is_dir() else [], ids=lambda file: file.stem)
def test_real_files_import_whole(campaign: Campaign, file: Path) -> None:
    with file.open("rb") as upload:
        rows = sum(1 for _ in upload)
        upload.seek(0)
        run = import_file(campaign, upload.read(), labels="labelings")
    assert run.state == "done"
    assert run.report["rows"] == rows == run.report["solutions"] + run.report["repeats"]
