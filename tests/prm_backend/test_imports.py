from __future__ import annotations

import subprocess
import sys

import pytest

LIGHT = ("types", "errors", "formats", "grading", "policy", "sampling", "steptext")
ARRAYS = ("evaluation", "baselines", "selection")


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (LIGHT, ("torch", "numpy", "transformers", "sympy", "django")),
        (ARRAYS, ("torch", "transformers", "sympy", "django")),
    ],
    ids=["light", "arrays"],
)
def test_a_fresh_interpreter_loads_nothing_heavier_than_needed(
    modules: tuple[str, ...], heavy: tuple[str, ...]
) -> None:
    imports = "import sys, prm_backend, " + ", ".join(f"prm_backend.{name}" for name in modules)
    program = f"{imports}\nprint(*(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
