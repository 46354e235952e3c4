from __future__ import annotations

import json
from collections.abc import Callable

from annotator.actions import datasets
from annotator.dispatch import run_here
from annotator.models import DatasetVersion, Job
from tests.annotator.views.conftest import Cast

Url = Callable[..., str]


def version_of(cast: Cast) -> DatasetVersion:
    cast.active()
    cast.label_next(1, -1)
    cast.label_next(1, 0, 1)
    return datasets.publish(datasets.write_draft(cast.campaign), actor=cast.members["researcher"].user)


def body_of(response: object) -> str:
    return b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]


def test_a_researcher_asks_for_a_version_and_sees_it_being_written(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, 1, 1)
    assert cast.researcher.post(url("datasets/"))["Location"] == url("datasets/")
    assert Job.objects.get(kind=Job.Kind.DATASET).created_by == cast.members["researcher"].user
    assert "is being written" in cast.researcher.get(url("datasets/")).content.decode()
    assert cast.researcher.post(url("datasets/")).status_code == 409


def test_labelings_of_single_steps_go_into_a_version_only_when_asked(cast: Cast, url: Url) -> None:
    cast.active()
    cast.label_next(1, -1)
    assert "include_targeted" not in cast.researcher.get(url("datasets/")).content.decode()
    cast.campaign.labelings.update(scope="targeted", finish_reason="")
    assert "include_targeted" in cast.researcher.get(url("datasets/")).content.decode()
    for asked, records in (({}, 0), ({"include_targeted": "on"}, 1)):
        cast.researcher.post(url("datasets/"), asked)
        job = run_here(Job.objects.filter(kind=Job.Kind.DATASET).latest("id"))
        version = DatasetVersion.objects.get(number=job.result["number"])
        assert version.manifest["counts"].get("records", 0) == records
    body = cast.researcher.get(url("datasets/2/")).content.decode()
    assert body.count('class="record"') == 1
    assert "None" not in body.partition("Records, as the labeler")[2].partition("Manifest")[0]


def test_a_version_reads_like_a_dataset_card(cast: Cast, url: Url) -> None:
    version = version_of(cast)
    body = cast.researcher.get(url("datasets/1/")).content.decode()
    assert version.sha256 in body
    assert "Known biases" in body
    assert "/api/v1/campaigns/algebra/datasets/1/records/" in body
    assert body.count('class="record"') == 2
    assert "mark-bad" in body
    assert cast.members["labeler"].user.username not in body.partition("Records, as the labeler")[2]


def test_a_download_is_the_file_in_the_asked_format(cast: Cast, url: Url) -> None:
    version = version_of(cast)
    response = cast.researcher.get(url("datasets/1/download/?format=prm800k"))
    assert response["Content-Disposition"] == 'attachment; filename="algebra-v1.prm800k.jsonl"'
    assert body_of(response) == version.path.read_text()
    trl = body_of(cast.researcher.get(url("datasets/1/download/?format=trl")))
    assert json.loads(trl.splitlines()[0]).keys() == {"prompt", "completions", "labels"}


def test_an_unknown_format_and_a_missing_file_are_refused_in_words(cast: Cast, url: Url) -> None:
    version = version_of(cast)
    unknown = cast.researcher.get(url("datasets/1/download/?format=parquet"))
    assert unknown.status_code == 400
    assert "not parquet" in unknown.content.decode()
    version.path.unlink()
    assert cast.researcher.get(url("datasets/1/download/")).status_code == 400
    assert "is not in the data folder" in cast.researcher.get(url("datasets/1/")).content.decode()
    assert cast.researcher.get(url("datasets/7/")).status_code == 404
