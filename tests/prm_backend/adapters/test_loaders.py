"""What a checkpoint must have, and what is said of one that lacks it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2ForCausalLM, dynamic_module_utils

from prm_backend import adapters
from prm_backend.adapters import PRESETS, LoadedPrm, adapter
from prm_backend.adapters.loaders import Tensors
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.types import Solution
from tests.prm_backend.adapters import tokenizers
from tests.prm_backend.adapters.published import noise, qwen_config, write

Published = Callable[[str], Path]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOLUTION = Solution("one", "p", "What is 1 + 1?", ("One.", "So 2."))


@pytest.fixture
def spare(published: Published, tmp_path: Path) -> Published:
    """A copy of a published folder that a test may damage."""
    return lambda name: Path(shutil.copytree(published(name), tmp_path / "copy"))


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Edit the tensors of a folder with one safetensors file."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("pure", "score.weight"),
        ("reasoneval-34b", "score_head.weight"),
        ("actprm", "score.model.nn2.bias"),
        ("uw-qwen-prm800k", "lm_head.weight"),
        ("pure", "model.layers.1.mlp.up_proj.weight"),
    ],
)
def test_a_missing_tensor_is_named(name: str, tensor: str, spare: Published) -> None:
    folder = spare(name)
    change(folder, lambda tensors: tensors.pop(tensor))
    named = tensor.removeprefix("model.") if tensor.startswith("model.") else tensor
    with pytest.raises(CheckpointError, match=f"tensor {named} is missing"):
        adapters.load(folder, name)


def test_a_head_of_another_shape_is_named_with_both_shapes(spare: Published) -> None:
    folder = spare("pure")
    change(folder, lambda tensors: tensors.update({"score.weight": noise(3, 16)}))
    with pytest.raises(CheckpointError, match=r"tensor score.weight is 3 × 16; the model and its adapter need 2 × 16"):
        adapters.load(folder, "pure")


def test_a_body_of_another_shape_does_not_load(spare: Published) -> None:
    folder = spare("pure")
    change(folder, lambda tensors: tensors.update({"model.norm.weight": noise(8)}))
    with pytest.raises(CheckpointError, match="the model does not load"):
        adapters.load(folder, "pure")


def test_a_checkpoint_of_another_family_is_refused(published: Published) -> None:
    with pytest.raises(CheckpointError, match=r"tensor score\.0\.weight is missing"):
        adapters.load(published("pure"), "qwen2.5-math-prm")
    with pytest.raises(CheckpointError, match=r"behind step 1 became the tokens .*, not \[12902\]"):
        adapters.load(published("rlhflow-llama3.1-mistral"), "math-shepherd-mistral")


def test_a_tokenizer_with_another_separator_is_an_error_and_not_a_plausible_number(published: Published) -> None:
    with pytest.raises(CheckpointError, match=r"became the tokens \[22701\], not \[23535\]"):
        adapters.load(published("uw-qwen-prm800k"), "versaprm")
    other = replace(adapter("trl-h4"), separator_ids=(382,))
    with pytest.raises(CheckpointError, match=r"gives \[271\] for the separator .*; adapter trl-h4 states \[382\]"):
        adapters.load(published("trl-h4"), other)


def test_a_tokenizer_without_the_control_token_is_an_error(spare: Published) -> None:
    folder = spare("qwen2.5-math-prm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        file = folder / name
        file.write_text(file.read_text().replace("<extra_0>", "<quad_end>"))
    with pytest.raises(CheckpointError, match="the separator '<extra_0>' behind step 1 became the tokens"):
        adapters.load(folder, "qwen2.5-math-prm")


def test_labels_with_other_ids_than_stated_are_an_error(published: Published) -> None:
    swapped = replace(adapter("uw-qwen-prm800k"), label_ids=(10, 12))
    with pytest.raises(CheckpointError, match=r"the tokenizer gives \[12, 10\] for the labels \['-', '\+'\]"):
        adapters.load(published("uw-qwen-prm800k"), swapped)
    alike = replace(adapter("uw-qwen-prm800k"), label_ids=(), label_words=("ab", "ac"))
    with pytest.raises(CheckpointError, match="begin with the same token"):
        adapters.load(published("uw-qwen-prm800k"), alike)


def test_a_missing_beginning_or_chat_template_is_an_error(published: Published, spare: Published) -> None:
    with pytest.raises(CheckpointError, match="no beginning-of-sequence token"):
        adapters.load(published("pure"), replace(adapter("pure"), bos="required"))
    folder = spare("fover")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="chat template cannot be used"):
        adapters.load(folder, "fover")


def test_a_template_that_renders_later_turns_otherwise_is_refused(spare: Published) -> None:
    folder = spare("fover")
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text(template + "{% if messages|length > 2 %}!{% endif %}")
    adapters.load(folder, "fover")
    odd = template.replace("message['role'] + '<|end", "message['role'] + loop.index|string + '<|end")
    (folder / "chat_template.jinja").write_text(odd)
    with pytest.raises(CheckpointError, match="does not render all turns alike"):
        adapters.load(folder, "fover")


def test_label_words_can_come_from_tied_embeddings(tmp_path: Path) -> None:
    config = qwen_config()
    config.tie_word_embeddings = True
    folder = write(tmp_path / "tied", Qwen2ForCausalLM(config), tokenizers.qwen())
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    prm = adapters.load(folder, "uw-qwen-prm800k")
    assert torch.equal(prm.model.head.weight, prm.model.body.embed_tokens.weight[[12, 10]])


def test_an_adapter_of_peft_needs_all_of_its_tensors(published: Published, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(published("math-psa"), tmp_path / "psa"))
    base = published("math-psa").with_name(f"{published('math-psa').name}-base")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(next(name for name in tensors if "layers.1.self_attn.q_proj.lora_B" in name))
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"does not load on .*layers\.1\.self_attn\.q_proj\.lora_B"):
        adapters.load(folder, "math-psa", base=base)


def test_a_repository_may_keep_its_checkpoint_in_a_folder(published: Published, tmp_path: Path) -> None:
    within = Path(shutil.copytree(published("math-psa"), tmp_path / "repository" / "checkpoint-2127"))
    base = published("math-psa").with_name(f"{published('math-psa').name}-base")
    whole = adapters.load(within.parent, "math-psa", base=base, device="cpu")
    assert whole.digest() == adapters.load(within, "math-psa", base=base, device="cpu").digest()


def test_the_digest_tells_other_weights_and_another_dtype_apart(spare: Published) -> None:
    folder = spare("pure")
    first = adapters.load(folder, "pure", device="cpu").digest()
    assert adapters.load(folder, "pure", device="cpu").digest() == first
    assert adapters.load(folder, "pure", device="cpu", dtype=torch.bfloat16).digest() != first
    change(folder, lambda tensors: tensors.update({"score.bias": tensors["score.bias"] + 1}))
    assert adapters.load(folder, "pure", device="cpu").digest() != first


def test_the_vocabulary_is_not_in_the_model(loaded: Callable[[str], LoadedPrm]) -> None:
    for name in ("math-shepherd-mistral", "versaprm", "math-psa", "fover"):
        assert loaded(name).model.head.weight.shape == (2, 16)


def test_the_body_keeps_its_dtype_and_the_head_is_fp32(published: Published) -> None:
    prm = adapters.load(published("pure"), "pure", dtype=torch.bfloat16, device="cpu")
    assert next(prm.model.body.parameters()).dtype == torch.bfloat16
    assert next(prm.model.head.parameters()).dtype == torch.float32
    ((_, exact),) = adapters.load(published("pure"), "pure", device="cpu").score([SOLUTION])
    ((_, rounded),) = prm.score([SOLUTION])
    assert rounded.bad == pytest.approx(exact.bad, abs=0.05)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        adapters.load(tmp_path / "nothing here", "pure")


def test_a_folder_without_weights_is_an_error(spare: Published) -> None:
    folder = spare("pure")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="does not load"):
        adapters.load(folder, "pure")
    with pytest.raises(CheckpointError, match="there are no weights"):
        Tensors(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 64])
def test_damaged_weights_are_an_error(content: bytes, spare: Published) -> None:
    folder = spare("pure")
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError):
        adapters.load(folder, "pure")
    with pytest.raises(CheckpointError, match="the weights cannot be read"):
        Tensors(folder)


def test_a_pickle_that_would_run_code_is_not_run(spare: Published, tmp_path: Path) -> None:
    folder, mark = spare("skywork-o1-prm"), tmp_path / "ran"
    torch.save({"v_head.summary.weight": Bomb(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError):
        adapters.load(folder, "skywork-o1-prm")
    assert not mark.exists()


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def unknown_architecture(folder: Path, mark: Path) -> Path:
    """A folder whose architecture transformers does not have, with code that leaves a mark when it runs."""
    config = json.loads((folder / "config.json").read_text()) | {
        "model_type": "odd",
        "auto_map": {"AutoConfig": "odd_model.OddConfig", "AutoModel": "odd_model.OddModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "odd_model.py").write_text(
        "from pathlib import Path\nfrom transformers import Qwen2Config, Qwen2Model\n"
        f"Path({str(mark)!r}).touch()\n"
        "class OddConfig(Qwen2Config):\n    model_type = 'odd'\n"
        "class OddModel(Qwen2Model):\n    config_class = OddConfig\n"
    )
    return folder


def test_code_of_a_checkpoint_runs_only_where_allowed_and_pinned(
    spare: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    mark = tmp_path / "ran"
    folder = unknown_architecture(spare("pure"), mark)
    with pytest.raises(CheckpointError, match="does not load"):
        adapters.load(folder, "pure")
    for loose in ("", "main", "v1.0"):
        with pytest.raises(CheckpointError, match="remote code needs a pinned revision"):
            adapters.load(folder, "pure", allow_remote_code=True, revision=loose)
    assert not mark.exists()
    prm = adapters.load(folder, "pure", allow_remote_code=True, revision=COMMIT, device="cpu")
    assert mark.exists()
    assert prm.adapter.revision == COMMIT


def test_a_known_architecture_never_needs_the_code_beside_it(published: Published) -> None:
    prm = adapters.load(
        published("qwen2.5-math-prm"), "qwen2.5-math-prm", allow_remote_code=True, revision=COMMIT, device="cpu"
    )
    assert type(prm.model.body).__module__ == "transformers.models.qwen2.modeling_qwen2"


def test_what_the_body_has_no_use_for_is_no_alarm(published: Published, caplog: pytest.LogCaptureFixture) -> None:
    adapters.load(published("pure"), "pure", device="cpu")
    assert "UNEXPECTED" not in caplog.text


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.head == "none"])
def test_what_has_no_head_is_loaded_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(PrmError, match=r"has no head on a step: load it with prm_backend\.adapters\."):
        adapters.load(tmp_path, name)
