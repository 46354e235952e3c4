from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from prm_backend import adapters
from prm_backend.adapters import LoadedPrm
from tests.prm_backend.adapters.published import MAKERS, publish

Published = Callable[[str], Path]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The folder of a tiny checkpoint for a preset, made once for all presets that read the same layout."""
    root = tmp_path_factory.mktemp("published")

    @cache
    def make(name: str) -> Path:
        return publish(name, root / MAKERS[name].__name__)

    first = {maker: name for name, maker in reversed(MAKERS.items())}
    return lambda name: make(first[MAKERS[name]])


@pytest.fixture(scope="session")
def loaded(published: Published) -> Callable[[str], LoadedPrm]:
    @cache
    def load(name: str) -> LoadedPrm:
        folder = published(name)
        base = folder.with_name(f"{folder.name}-base") if name == "math-psa" else ""
        return adapters.load(folder, name, base=base, device="cpu")

    return load
