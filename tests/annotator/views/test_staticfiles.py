"""Static files as production serves them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from annotator.staticfiles import ChosenFiles, HashedStaticFiles

STATIC = Path(__file__).resolve().parents[3] / "static"


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """The files that pages load, collected: every reference between them has to resolve."""
    storage = HashedStaticFiles(location=tmp_path, base_url="/static/")
    names = []
    for path, source in ChosenFiles().list(None):
        name = f"{source.prefix}/{path}" if source.prefix else path
        with source.open(path) as file:
            names.append(storage.save(name, file))
    for _, _, processed in storage.post_process({name: (storage, name) for name in names}):
        assert not isinstance(processed, Exception), processed
    return tmp_path


def test_modules_import_each_other_by_hashed_names(served: Path) -> None:
    """A page never mixes the modules of two releases."""
    hashed = [path for path in served.rglob("*.js") if re.search(r"\.[0-9a-f]{12}\.js$", path.name)]
    imports = [found for path in hashed for found in re.findall(r'from "(\.[^"]+)"', path.read_text())]
    assert len(imports) >= 8
    assert [name for name in imports if not re.search(r"\.[0-9a-f]{12}\.js$", name)] == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in [*STATIC.rglob("*.js"), *STATIC.rglob("*.css")]:
        assert not re.search(r"https?://(?!www\.w3\.org)|//cdn", path.read_text()), path
