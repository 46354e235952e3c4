from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.adapters import PRESETS, Adapter, adapter
from prm_backend.adapters.spec import RULES
from prm_backend.errors import FormatError

SHEPHERD = adapter("math-shepherd-mistral")
ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_survives_json(preset: Adapter) -> None:
    assert Adapter.from_dict(json.loads(json.dumps(preset.as_dict()))) == preset


@given(name=st.sampled_from([field.name for field in fields(Adapter)]), value=ANYTHING)
def test_any_value_in_any_field_is_taken_whole_or_refused_by_its_name(name: str, value: Any) -> None:
    found = parsed(SHEPHERD.as_dict() | {name: value})
    if isinstance(found, FormatError):
        assert found.field in {field.name for field in fields(Adapter)}
    else:
        assert Adapter.from_dict(found.as_dict()) == found


def parsed(data: dict[str, Any]) -> Adapter | FormatError:
    try:
        return Adapter.from_dict(data)
    except FormatError as error:
        return error


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"loader": "magic"}, "loader"),
        ({"loader": "generator"}, "loader"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "4096"}, "max_tokens"),
        ({"name": " x"}, "name"),
        ({"label_ids": (648,)}, "label_ids"),
        ({"label_ids": ["648", "387"]}, "label_ids"),
        ({"label_words": ("+",)}, "label_words"),
        ({"classes": ("good", "good")}, "classes"),
        ({"classes": ("good", "wrong")}, "classes"),
        ({"readout": "sigmoid", "classes": ("bad", "neutral", "good")}, "classes"),
        ({"head": "linear"}, "head_tensors"),
        ({"head": "none"}, "head"),
        ({"separator": ""}, "separator"),
        ({"separator_ids": (-1,)}, "separator_ids"),
        ({"every_line": True}, "every_line"),
        ({"position": "before_label"}, "position"),
        ({"turn_label": "+"}, "turn_label"),
        ({"template": "chat"}, "bos"),
        ({"read_offset": -1}, "read_offset"),
        ({"too_long": "truncate"}, "too_long"),
        ({"beta": 0.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"scale": 2.0}, "scale"),
        ({"threshold": 0.5}, "threshold"),
        ({"version": 2}, "version"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(FormatError, match=f"field {field}:"):
        Adapter.from_dict(SHEPHERD.as_dict() | changes)


@pytest.mark.parametrize("field", ["threshold", "scale"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "1", True, None])
def test_a_log_ratio_needs_a_threshold_and_a_scale_that_are_numbers(field: str, value: Any) -> None:
    with pytest.raises(FormatError, match=f"field {field}:"):
        Adapter.from_dict(adapter("prime").as_dict() | {field: value})


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_a_scale_is_above_zero(scale: float) -> None:
    with pytest.raises(FormatError, match="field scale:"):
        replace(adapter("prime"), scale=scale)


def test_a_field_too_many_or_too_few_is_named() -> None:
    data = SHEPHERD.as_dict()
    with pytest.raises(FormatError, match="field seperator: an adapter has no such field"):
        Adapter.from_dict(data | {"seperator": " ки"})
    del data["readout"]
    with pytest.raises(FormatError, match="field readout: is missing"):
        Adapter.from_dict(data)
    with pytest.raises(FormatError, match="an adapter is an object"):
        Adapter.from_dict([])  # type: ignore[arg-type]


def test_a_change_is_checked_like_a_new_adapter() -> None:
    with pytest.raises(FormatError, match="field separator:"):
        replace(SHEPHERD, separator="", separator_ids=())


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_every_preset_says_how_its_outputs_become_three_probabilities(preset: Adapter) -> None:
    assert preset.rule == RULES[preset.readout]
    assert "P(good)" in preset.rule
    assert preset.source
    assert preset.licence


def test_adapters_and_presets_load_nothing_heavy() -> None:
    program = (
        "import sys\nfrom prm_backend import adapters\nadapters.adapter('trl').as_dict()\n"
        "print(*(name for name in ('torch', 'numpy', 'transformers', 'peft') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
