"""Who may open which page. One table, so that a page without a line here stands out."""

from __future__ import annotations

import hashlib

import pytest
from django.conf import settings
from django.test import Client
from django.urls import URLPattern

from annotator import urls
from annotator.actions import datasets
from annotator.actions.learning import register_checkpoint
from annotator.models import Attachment, Campaign, Checkpoint, ImportRun, Job, Problem, QueueItem, Report
from tests.annotator.views.conftest import Cast

M, R, L = "manager", "researcher", "labeler"
EVERYBODY = {M, R, L}

# name of the page: (who may GET it, who may POST to it)
PAGES: dict[str, tuple[set[str], set[str]]] = {
    "campaign": (EVERYBODY, set()),  # sends others than managers to their own pages
    "campaign_live": ({M}, set()),
    "campaign_status": (set(), {M}),
    "campaign_settings": ({M}, {M}),
    "guideline": (EVERYBODY, {M}),
    "label": ({M, L}, set()),
    "label_tutorial": ({M, L}, set()),
    "label_tutorial_done": (set(), {M, L}),
    "label_preview": ({M}, set()),
    "attachment": (EVERYBODY, set()),
    "history": ({M, L}, set()),
    "labeling": ({M, L}, set()),  # a labeler's own, a manager's campaign's
    "labeling_withdraw": (set(), {M}),
    "messages_read": (set(), EVERYBODY),
    "reports": ({M}, set()),
    "reports_close": (set(), {M}),
    "report_settle": (set(), {M}),
    "leases": ({M}, set()),
    "lease_free": (set(), {M}),
    "member_message": (set(), {M}),
    "members": ({M}, {M}),
    "member_state": (set(), {M}),
    "member_password": (set(), {M}),
    "imports": ({M}, {M}),
    "import": ({M}, set()),
    "import_live": ({M}, set()),
    "import_undo": (set(), {M}),
    "jobs": ({M}, {M}),
    "jobs_live": ({M}, set()),
    "job_retry": (set(), {M}),
    "job_cancel": (set(), {M}),
    "generations": ({M}, set()),
    "generation": ({M}, set()),
    "queue_item": ({M}, set()),
    "checkpoints": ({M}, set()),
    "checkpoint": ({M}, set()),
    "datasets": ({M, R}, {M, R}),
    "dataset": ({M, R}, set()),
    "dataset_download": ({M, R}, set()),
}


@pytest.fixture
def paths(cast: Cast) -> dict[str, str]:
    """An address that exists, for each page."""
    campaign = cast.active()
    register_checkpoint(
        campaign, kind=Checkpoint.Kind.BACKBONE, number=0, folder="checkpoints/algebra/0000", metadata={}
    )
    said = cast.label_next(1, 1, 1, comment="Look at this.")
    lease = cast.claim()
    datasets.publish(datasets.write_draft(campaign), actor=None)
    pk = {
        "members/<int:pk>": cast.members[L].pk,
        "imports/<int:pk>": ImportRun.objects.get(campaign=campaign).pk,
        "jobs/<int:pk>": Job.objects.filter(campaign=campaign).earliest("id").pk,
        "labelings/<int:pk>": said.pk,
        "reports/<int:pk>": Report.objects.get(campaign=campaign).pk,
        "leases/<uuid:assignment_id>": lease.pk,
        "attachments/<str:sha256>": picture_of(campaign).sha256,
        "items/<int:pk>": QueueItem.objects.filter(campaign=campaign).earliest("rank").pk,
        "generations/<int:number>": 0,
        "checkpoints/<int:number>": 0,
        "datasets/<int:number>": 1,
    }
    found = {}
    for pattern in urls.campaign:
        assert isinstance(pattern, URLPattern)
        route = str(pattern.pattern)
        for prefix, value in pk.items():
            route = route.replace(prefix, prefix.partition("/")[0] + f"/{value}")
        found[str(pattern.name)] = f"/c/{campaign.slug}/{route}"
    return found


def picture_of(campaign: Campaign) -> Attachment:
    problem = Problem.objects.filter(campaign=campaign).earliest("pk")
    content = b"a picture"
    sha256 = hashlib.sha256(content).hexdigest()
    file = settings.DATA_DIR / "files" / "attachments" / sha256
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return Attachment.objects.create(problem=problem, position=0, name="a.png", content_type="image/png", sha256=sha256)


def test_every_page_of_a_campaign_is_in_the_table() -> None:
    assert {str(pattern.name) for pattern in urls.campaign if isinstance(pattern, URLPattern)} == set(PAGES)


def test_pages_open_for_the_right_roles_only(cast: Cast, paths: dict[str, str]) -> None:
    for name, allowances in PAGES.items():
        for method, allowed in zip(("get", "post"), allowances, strict=True):
            for role in sorted(EVERYBODY | {"stranger"}):
                response = getattr(getattr(cast, role), method)(paths[name])
                b"".join(response)  # a file is closed when it has been read
                status = response.status_code
                what = f"{role} {method} {name}: {status}"
                if not allowed:
                    assert status == 405, what
                elif role == "stranger":
                    assert status == 404, what
                elif role not in allowed:
                    assert status == 403, what
                else:
                    assert status in ((200, 302) if method == "get" else (200, 302, 400, 409)), what


def test_pages_ask_the_unknown_to_log_in(paths: dict[str, str]) -> None:
    for name, (readers, _) in PAGES.items():
        response = getattr(Client(), "get" if readers else "post")(paths[name])
        assert response.status_code == 302, name
        assert response["Location"].startswith("/accounts/login/?next="), name


def test_it_hides_what_belongs_to_another_campaign(cast: Cast, paths: dict[str, str]) -> None:
    """A manager of one campaign can neither read nor change another's rows by their number."""
    for name in ("labeling_withdraw", "report_settle", "lease_free", "member_password"):
        assert cast.stranger.post(paths[name].replace("/algebra/", "/geometry/")).status_code == 404, name
    rows = ["import", "queue_item", "generation", "checkpoint", "dataset", "dataset_download", "labeling", "attachment"]
    for name in rows:
        assert cast.stranger.get(paths[name].replace("/algebra/", "/geometry/")).status_code == 404, name


def test_no_page_breaks_the_content_security_policy(cast: Cast, paths: dict[str, str]) -> None:
    """No inline script, style element or style attribute; what is embedded is JSON."""
    for name, (readers, _) in PAGES.items():
        if not readers or name in ("dataset_download", "attachment"):
            continue
        response = cast.manager.get(paths[name])
        assert "script-src 'self'" in response["Content-Security-Policy"]
        body = response.content.decode()
        assert " style=" not in body, name
        assert "<style" not in body, name
        assert " onclick=" not in body, name
        for script in body.split("<script")[1:]:
            assert " src=" in script.partition(">")[0] or 'type="application/json"' in script.partition(">")[0], name
