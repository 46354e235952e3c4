"""The command line round: campaign, people, import, export, with clear words when something is wrong."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from annotator.models import Campaign, Completion, Critique, Membership, User
from tests.annotator.cast import simple_row

pytestmark = pytest.mark.django_db


def run(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(simple_row(f"P{n}?", ratings=[1, 0, -1])) + "\n" for n in range(3)))
    return file


@pytest.fixture
def campaign() -> Campaign:
    run("create_campaign", "algebra", "--name", "Algebra")
    return Campaign.objects.get()


def test_a_campaign_with_people(campaign: Campaign) -> None:
    assert (campaign.slug, campaign.phase, campaign.status) == ("algebra", 2, "draft")
    assert "one-time password: " in run(
        "create_user", "lea", "--email", "lea@example.org", "--campaign", "algebra", "--role", "manager"
    )
    assert Membership.objects.get().role == "manager"
    assert User.objects.get(username="lea").must_change_password


def test_a_user_with_a_password_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPMARK_PASSWORD", "a long enough one")
    run("create_user", "ada", "--email", "ada@example.org", "--staff")
    ada = User.objects.get()
    assert ada.check_password("a long enough one")
    assert ada.is_staff
    assert not ada.must_change_password


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create_campaign", "no good"], "is not a slug"),
        (["create_campaign", "algebra"], "already a campaign called algebra"),
        (["create_campaign", "geometry", "--manager", "nobody"], "no user nobody"),
        (["create_user", "lea", "--email", "not an address"], "valid email"),
        (["create_user", "lea", "--email", "lea@example.org", "--campaign", "nowhere"], "no campaign nowhere"),
        (["import_solutions", "rows.jsonl", "--campaign", "nowhere"], "no campaign nowhere"),
        (["import_solutions", "not/there.jsonl", "--campaign", "algebra"], "No such file"),
        (["export_dataset", "--campaign", "nowhere"], "no campaign nowhere"),
        (["export_dataset", "--campaign", "algebra", "--format", "csv"], "prm800k, trl"),
        (["export_dataset", "--campaign", "algebra", "--number", "7"], "no dataset 7"),
        (["export_dataset", "--campaign", "algebra", "--output", "/not/there/at.all"], "No such file"),
        (["simulate_campaign", "--campaign", "algebra"], "imported with --labels oracle"),
    ],
)
def test_mistakes_are_named(campaign: Campaign, arguments: list[str], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        run(*arguments)


def test_an_import_reports_its_counts_and_an_export_writes_the_file(
    campaign: Campaign, rows: Path, tmp_path: Path
) -> None:
    report = run("import_solutions", str(rows), "--campaign", "algebra", "--labels", "labelings")
    assert report.strip() == "3 rows, 3 problems, 3 solutions, 0 repeats, 3 labelings, 0 gold labels"
    out = tmp_path / "dataset.jsonl"
    assert "3 records" in run("export_dataset", "--campaign", "algebra", "--output", str(out))
    assert [json.loads(line)["label"]["finish_reason"] for line in out.read_text().splitlines()] == ["found_error"] * 3


def test_an_import_reports_what_stands_beside_the_steps(campaign: Campaign, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(simple_row("P?", ["One."], alternatives=[["Uno."]], critiques=[["Late."]])))
    report = run("import_solutions", str(rows), "--campaign", "algebra")
    assert report.strip().endswith("0 gold labels, 1 alternatives, 1 critiques")
    assert run("import_solutions", str(rows), "--campaign", "algebra").strip().endswith("0 gold labels, 1 not added")


def test_the_companion_is_written_beside(campaign: Campaign, rows: Path, tmp_path: Path) -> None:
    run("import_solutions", str(rows), "--campaign", "algebra", "--labels", "labelings")
    out, beside = tmp_path / "dataset.jsonl", tmp_path / "companion.jsonl"
    run("export_dataset", "--campaign", "algebra", "--output", str(out), "--companion", str(beside))
    assert [json.loads(line)["record"] for line in beside.read_text().splitlines()] == [1, 2, 3]
    assert len(out.read_text().splitlines()) == 3


def test_a_bad_file_is_named_with_its_line_and_keeps_an_existing_export(
    campaign: Campaign, rows: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(rows.read_text() + '{"problem": "P?", "steps": [\n')
    with pytest.raises(CommandError, match=r"broken\.jsonl: line 4"):
        run("import_solutions", str(broken), "--campaign", "algebra")
    assert not campaign.solutions.exists()


def test_a_device_is_written_to_not_replaced(campaign: Campaign, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "file")
    run("export_dataset", "--campaign", "algebra", "--output", str(link))
    assert link.is_symlink()
    assert (tmp_path / "file").exists()


def test_simulated_labels_leave_only_when_asked_for(campaign: Campaign, tmp_path: Path) -> None:
    Campaign.objects.update(simulated=True)
    with pytest.raises(CommandError, match="--include-simulated"):
        run("export_dataset", "--campaign", "algebra")
    assert "0 records" in run(
        "export_dataset", "--campaign", "algebra", "--include-simulated", "--output", str(tmp_path / "out")
    )


def test_the_demo_can_be_made_in_two_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("annotator.management.commands.create_demo.activate_campaign", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("create_demo", "--problems", "40")
    assert "Created the campaign demo" in run("create_demo", "--problems", "40")
    demo = Campaign.objects.get()
    assert demo.status == "active"
    assert demo.imports.count() == 1
    assert demo.generations.get().queue_items.exists()
    assert (demo.progress, demo.critiques, demo.alternatives) == ("optional", "optional", "optional")
    assert Critique.objects.exists()
    assert Completion.objects.filter(completion_index__gt=0).exists()
    assert not demo.memberships.exclude(guideline=demo.guideline).exists()
    with pytest.raises(CommandError, match="a campaign demo already"):
        run("create_demo")
