"""The request path stays light: a web process never loads the half of prm_backend that needs torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOAD_EVERYTHING = """
import sys
import annotator.wsgi
from django.contrib import admin
from django.urls import get_resolver

def load(resolver):
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            load(pattern)
        else:
            pattern.callback

admin.autodiscover()
load(get_resolver())
print(*sorted({"torch", "transformers", "numpy"} & set(sys.modules)))
"""


def test_a_web_process_with_every_page_loaded_holds_no_torch(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LOAD_EVERYTHING],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "DATA_DIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": "annotator.settings"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
