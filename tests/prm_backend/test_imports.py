from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "transformers", "sympy", "django")


@pytest.mark.parametrize(
    "modules",
    ["prm_backend, prm_backend.types, prm_backend.errors, prm_backend.formats", "prm_backend.grading"],
)
def test_the_light_half_loads_nothing_heavy(modules: str) -> None:
    program = f"import {modules}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
