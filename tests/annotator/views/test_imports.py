from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from annotator.dispatch import run_here
from annotator.models import ImportRun, Job, Solution
from tests.annotator.cast import fill_pool, simple_row
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def upload(cast: Cast, url: Url, content: bytes, **fields: str) -> tuple[int, str]:
    file = SimpleUploadedFile("rows.jsonl", content)
    response = cast.manager.post(url("imports/"), {"file": file, "format": "auto", "labels": "", **fields})
    return response.status_code, response.get("Location") or response.content.decode()


def rows(count: int = 2) -> bytes:
    return b"".join(json.dumps(simple_row(f"What is {n} plus 1?")).encode() + b"\n" for n in range(count))


def test_an_upload_becomes_a_job_and_its_report_can_be_read(cast: Cast, url: Url) -> None:
    status, location = upload(cast, url, rows())
    run = ImportRun.objects.get()
    assert (status, location) == (302, url(f"imports/{run.pk}/"))
    assert 'data-live-seconds="1"' in cast.manager.get(location).content.decode()
    run_here(Job.objects.get(kind=Job.Kind.IMPORT))
    body = cast.manager.get(f"{location}live/").content.decode()
    assert 'data-live-seconds="0"' in body
    assert "Report" in body
    assert Solution.objects.filter(campaign=cast.campaign).count() == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"not json\n", "line 1"), (b'{"a": 1}\n', "fit none of the formats"), (b"", "empty")],
)
def test_a_file_of_no_known_kind_is_refused_on_the_form(cast: Cast, url: Url, content: bytes, complaint: str) -> None:
    status, body = upload(cast, url, content)
    assert status == 400
    assert complaint in body
    assert not ImportRun.objects.exists()


def test_a_mistake_inside_is_named_with_line_and_field(cast: Cast, url: Url) -> None:
    _, location = upload(cast, url, rows() + json.dumps({**simple_row("Third?"), "steps": []}).encode())
    run_here(Job.objects.get(kind=Job.Kind.IMPORT))
    body = cast.manager.get(location).content.decode()
    assert "Line 3, field steps" in body
    assert "Correct the file and import it again" in body
    assert "nothing was changed" in body
    assert not Solution.objects.exists()


def test_a_second_import_waits_its_turn(cast: Cast, url: Url) -> None:
    upload(cast, url, rows())
    status, body = upload(cast, url, rows(3))
    assert status == 409
    assert "Another file is being imported" in body


def test_a_file_beyond_the_limit_is_refused_with_the_other_way(cast: Cast, url: Url, settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 10
    status, body = upload(cast, url, rows())
    assert status == 400
    assert "manage.py import_solutions" in body


def test_an_unlabeled_import_is_taken_out_again(cast: Cast, url: Url) -> None:
    fill_pool(cast.campaign)
    run = ImportRun.objects.get()
    path = url(f"imports/{run.pk}/")
    assert cast.manager.post(f"{path}undo/")["Location"] == path
    assert "Being taken out again." in cast.manager.get(f"{path}live/").content.decode()
    run_here(Job.objects.get(kind=Job.Kind.UNDO))
    assert "Its rows have been taken out again." in cast.manager.get(path).content.decode()
    assert not Solution.objects.exists()


def test_a_labeled_import_stays(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, 1, 1)
    response = cast.manager.post(url(f"imports/{ImportRun.objects.get().pk}/undo/"))
    assert response.status_code == 409
    assert "it stays" in response.content.decode()
