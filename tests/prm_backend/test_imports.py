from __future__ import annotations

import subprocess
import sys

HEAVY = ("torch", "numpy", "transformers", "sympy", "django")


LIGHT = ("types", "errors", "formats", "grading", "policy")


def test_the_light_half_loads_nothing_heavy() -> None:
    imports = "import prm_backend, " + ", ".join(f"prm_backend.{name}" for name in LIGHT)
    program = f"{imports}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
