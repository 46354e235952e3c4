"""docs/adapters.md says what the presets say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from prm_backend import adapters
from prm_backend.adapters.presets import markdown
from prm_backend.adapters.spec import RULES

PAGE = (Path(__file__).parents[3] / "docs" / "adapters.md").read_text()


def test_the_table_of_presets_is_that_of_the_code() -> None:
    assert markdown() in PAGE, "copy the output of prm_backend.adapters.presets.markdown() into docs/adapters.md"


def test_the_rules_are_those_of_the_code() -> None:
    for readout, rule in RULES.items():
        assert f"| `{readout}` | {rule} |" in PAGE


def test_the_examples_run(published: Callable[[str], Path]) -> None:
    first, second = (block.strip() for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    first = first.replace('"Qwen/Qwen2.5-Math-PRM-7B"', repr(str(published("qwen2.5-math-prm"))))
    second = second.replace('"checkpoints/mine"', repr(str(published("trl"))))
    names = {"adapters": adapters}
    exec(compile(first, "first", "exec"), names)  # noqa: S102 -- the page's own example
    exec(compile(second, "second", "exec"), names)  # noqa: S102
    assert len(names["scores"].bad) == 2  # type: ignore[attr-defined]
    assert names["mine"].separator == "\n\n\n"  # type: ignore[attr-defined]
