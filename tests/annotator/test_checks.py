"""Bad configuration is a numbered message."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import run_checks

from annotator import checks
from annotator.settings import database

ROOT = Path(__file__).resolve().parents[2]


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_the_project_as_tested_is_well_configured() -> None:
    assert [message for message in run_checks() if message.level >= 40] == []


def run_with(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if name not in ("SECRET_KEY", "DATABASE_URL")}
    environment = {**given, "DATA_DIR": str(folder), "DJANGO_SETTINGS_MODULE": "annotator.settings"}
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def a_file(folder: Path) -> None:
    folder.write_text("")


def a_key_that_cannot_be_read(folder: Path) -> None:
    (folder / "secret_key").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [a_file, a_key_that_cannot_be_read])
def test_a_data_folder_that_cannot_be_used_is_named(spoil: Callable[[Path], None], tmp_path: Path) -> None:
    spoil(tmp_path / "data")
    checked = run_with(tmp_path / "data", "manage.py", "check")
    assert checked.returncode == 1
    assert f"(annotator.E001) The data folder {tmp_path / 'data'} cannot be used" in checked.stderr
    assert "Traceback" not in checked.stderr
    served = run_with(tmp_path / "data", "-c", "import annotator.wsgi")
    assert "ImproperlyConfigured: The data folder" in served.stderr


def test_a_database_of_another_kind(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.mysql")
    assert ids(checks.check_database_engine(None)) == ["annotator.E002"]


def test_a_broker_of_another_kind(settings: Any) -> None:
    settings.CELERY_BROKER_URL = "amqp://guest@localhost//"
    assert ids(checks.check_broker(None)) == ["annotator.E003"]


@pytest.mark.parametrize("address", ["models:8000", "http://me:secret@models/v1", "http://models:port/v1"])
def test_a_model_endpoint_that_cannot_be_called(settings: Any, address: str) -> None:
    settings.CANDIDATE_ENDPOINT_URL = address
    [message] = checks.check_candidate_endpoint(None)
    assert message.id == "annotator.E004"
    assert "secret" not in str(message)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 601.0, float("nan")])
def test_a_limit_on_time_that_is_none(settings: Any, seconds: float) -> None:
    settings.CANDIDATE_ENDPOINT_URL = "http://models:8000/v1"
    assert checks.check_candidate_endpoint(None) == []
    settings.CANDIDATE_TIMEOUT_SECONDS = seconds
    assert ids(checks.check_candidate_endpoint(None)) == ["annotator.E005"]


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
