"""Bad configuration is a numbered message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.checks import run_checks

from annotator import checks
from annotator.settings import database


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_the_project_as_tested_is_well_configured() -> None:
    assert [message for message in run_checks() if message.level >= 40] == []


def test_a_data_folder_that_cannot_be_made(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings.DATA_DIR = tmp_path / "file" / "data"
    assert ids(checks.check_data_folder(None)) == ["annotator.E001"]


def test_a_database_of_another_kind(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.mysql")
    assert ids(checks.check_database_engine(None)) == ["annotator.E002"]


def test_a_broker_of_another_kind(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "amqp://guest@localhost//"
    assert ids(checks.check_broker(None)) == ["annotator.E003"]


def test_missing_mathematics(settings: Any, tmp_path: Path) -> None:
    settings.KATEX_DIR = tmp_path / "none"
    assert ids(checks.check_mathematics(None)) == ["annotator.W001"]


def test_hosts_wide_open(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert ids(checks.check_hosts(None)) == ["annotator.W002"]


def test_a_socket_in_a_database_url_is_unquoted() -> None:
    assert database("postgres://me@%2Frun%2Fpg/stepmark")["HOST"] == "/run/pg"


def test_sqlite_takes_one_writer_at_a_time_and_keeps_what_it_acknowledged() -> None:
    options = database("sqlite:////tmp/x.sqlite3")["OPTIONS"]
    assert options["transaction_mode"] == "IMMEDIATE"
    assert "synchronous=FULL" in options["init_command"]
