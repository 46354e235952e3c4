"""A checkpoint that brings code along: it is never run and never asked about, even where somebody would answer yes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import dynamic_module_utils

from prm_backend import adapters
from prm_backend.adapters.beyond_heads import PRIME, THINK_PRM
from prm_backend.adapters.generative import LocalWriter
from prm_backend.adapters.implicit import ImplicitPrm
from prm_backend.adapters.verify import Report, verify
from prm_backend.encoding import Adapter
from prm_backend.errors import CheckpointError
from prm_backend.model import Backbone
from prm_backend.pretraining import init_backbone

CLASSES = ("AutoConfig", "AutoModel", "AutoModelForCausalLM")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hostile:
    """A folder of an unknown architecture, and what would be there had its code run or had somebody been asked."""

    def __init__(self, folder: Path, mark: Path) -> None:
        self.folder, self.mark = folder, mark
        self.asked: list[str] = []

    def answer(self, question: str = "") -> str:
        self.asked.append(question)
        return "yes"


@pytest.fixture
def hostile(published: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    folder, mark = tmp_path / "odd", tmp_path / "ran"
    shutil.copytree(published("uw-qwen-prm800k"), folder)
    code = (
        f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
        "from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2TokenizerFast as OddTokenizer\n"
        "class OddConfig(Qwen2Config):\n    model_type = 'odd'\n"
        "class OddModel(Qwen2ForCausalLM):\n    config_class = OddConfig\n"
    )
    (folder / "odd.py").write_text(code)
    names = {name: f"odd.{'OddConfig' if name == 'AutoConfig' else 'OddModel'}" for name in CLASSES}
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "odd", "auto_map": names}))
    found = Hostile(folder, mark)
    monkeypatch.setattr("builtins.input", found.answer)
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return found


LOADERS: dict[str, Callable[[Path, Path], object]] = {
    "public": lambda folder, _: adapters.load(folder, "uw-qwen-prm800k", device="cpu"),
    "policy": lambda folder, plain: ImplicitPrm.load(folder, PRIME, reference=plain, device="cpu"),
    "reference": lambda folder, plain: ImplicitPrm.load(plain, PRIME, reference=folder, device="cpu"),
    "generative": lambda folder, _: LocalWriter.load(folder, THINK_PRM, device="cpu"),
    "cold start": lambda folder, _: init_backbone(folder, folder.with_name("cold")),
}


@pytest.mark.parametrize("name", LOADERS)
def test_code_of_a_checkpoint_is_not_run(name: str, hostile: Hostile, published: Callable[[str], Path]) -> None:
    with pytest.raises(CheckpointError, match="odd"):
        LOADERS[name](hostile.folder, published("uw-qwen-prm800k"))
    assert not hostile.mark.exists()
    assert hostile.asked == []


def test_code_of_a_backbone_is_not_run(hostile: Hostile) -> None:
    reading = Adapter(prefix_ids=(), separator_ids=(198,), layers=(1, 2), max_tokens=256)
    with pytest.raises(ValueError, match="trust_remote_code"):  # what callers turn into a CheckpointError
        Backbone(hostile.folder, reading)
    assert not hostile.mark.exists()
    assert hostile.asked == []


@pytest.mark.parametrize("allowed", [False, True])
def test_code_of_the_base_model_of_a_lora_is_not_run_even_where_that_of_the_adapter_is_allowed(
    allowed: bool, hostile: Hostile, published: Callable[[str], Path]
) -> None:
    with pytest.raises(CheckpointError, match="odd"):
        adapters.load(
            published("math-psa"),
            "math-psa",
            base=hostile.folder,
            allow_remote_code=allowed,
            revision=COMMIT if allowed else "",
            device="cpu",
        )
    assert not hostile.mark.exists()
    assert hostile.asked == []


@pytest.mark.parametrize("adapter", [adapters.adapter("trl"), PRIME, THINK_PRM], ids=lambda adapter: adapter.name)
def test_a_check_of_a_checkpoint_runs_none_of_its_code(adapter: adapters.Adapter, hostile: Hostile) -> None:
    report = verify(hostile.folder, adapter, device="cpu")
    assert "trust_remote_code" in details(report)["architecture"]
    assert not hostile.mark.exists()
    assert hostile.asked == []


def test_a_tokenizer_that_needs_code_of_its_own_is_refused(hostile: Hostile) -> None:
    """Of a known architecture, whose tokenizer alone is strange."""
    file = hostile.folder / "tokenizer_config.json"
    described = json.loads(file.read_text()) | {"tokenizer_class": "OddTokenizer"}
    file.write_text(json.dumps(described | {"auto_map": {"AutoTokenizer": [None, "odd.OddTokenizer"]}}))
    report = verify(hostile.folder, "trl", device="cpu")
    assert "trust_remote_code" in details(report)["tokenizer"]
    assert not hostile.mark.exists()
    assert hostile.asked == []


def details(report: Report) -> dict[str, str]:
    return {finding.what: finding.detail for finding in report.findings if not finding.ok}
