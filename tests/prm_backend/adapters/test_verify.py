"""Is a checkpoint the one that its adapter describes: tiny ones in the published layouts, right and spoilt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from prm_backend import adapters
from prm_backend.adapters.beyond_heads import EURUS_PRM_STAGE1, THINK_PRM
from prm_backend.adapters.card_examples import CARD_EXAMPLES, CardExample
from prm_backend.adapters.verify import Report, verify
from prm_backend.errors import PrmError
from tests.prm_backend.adapters.published import MAKERS

QWEN, SHEPHERD = "qwen2.5-math-prm", "math-shepherd-mistral"
Published = Callable[[str], Path]


@pytest.fixture
def spoilt(published: Published, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a right checkpoint, to be spoilt."""
    return lambda name: Path(shutil.copytree(published(name), tmp_path / name))


def card_of(folder: Path, name: str) -> tuple[CardExample, ...]:
    """The inputs of the real card, with the scores that this checkpoint gives as the card's numbers."""
    config = json.loads((folder / "config.json").read_text())
    prm = adapters.load(folder, name, device="cpu")
    mine = [card for card in CARD_EXAMPLES if card.adapter == name]
    return tuple(
        replace(
            card,
            hidden_size=config["hidden_size"],
            layers=config["num_hidden_layers"],
            good=next(prm.score([card.solution]))[1].good,
            tolerance=1e-4,
        )
        for card in mine
    )


def failures(report: Report) -> dict[str, str]:
    return {finding.what: finding.detail for finding in report.findings if not finding.ok}


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Edit the tensors of a sharded checkpoint, and its index with them."""
    index_file = folder / "model.safetensors.index.json"
    weights: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        weights |= load_file(file)
        file.unlink()
    edit(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    index_file.unlink()


@pytest.mark.parametrize("name", [QWEN, SHEPHERD])
def test_a_right_checkpoint_passes_with_the_numbers_of_its_card(published: Published, name: str) -> None:
    folder = published(name)
    report = verify(folder, name, examples=card_of(folder, name), device="cpu")
    assert report.ok, str(report)
    assert report.scored
    assert str(report).endswith("passed")
    assert "the card states" in str(report)


@pytest.mark.parametrize("name", sorted(set(MAKERS) - {"math-psa"}))
def test_every_preset_passes_on_its_own_layout_and_says_that_no_scores_were_compared(
    published: Published, name: str
) -> None:
    report = verify(published(name), name, device="cpu")
    assert report.ok, str(report)
    assert not report.scored
    assert "No card numbers are known for this checkpoint" in str(report)


def test_a_lora_is_loaded_onto_its_base(published: Published) -> None:
    folder = published("math-psa")
    assert verify(folder, "math-psa", base=folder.with_name(f"{folder.name}-base"), device="cpu").ok
    assert "loading" in failures(verify(folder, "math-psa", base=folder, device="cpu"))


def test_swapped_label_rows_are_told(spoilt: Callable[[str], Path]) -> None:
    folder = spoilt(QWEN)
    card = card_of(folder, QWEN)

    def swap(weights: dict[str, torch.Tensor]) -> None:
        for name in ("score.2.weight", "score.2.bias"):
            weights[name] = weights[name].flip(0).contiguous()

    change(folder, swap)
    [detail] = failures(verify(folder, QWEN, examples=card, device="cpu")).values()
    assert "1 minus the card's numbers, so the rows of good and bad are swapped" in detail


def test_other_weights_are_told_by_the_cards_numbers(spoilt: Callable[[str], Path]) -> None:
    folder = spoilt(QWEN)
    card = card_of(folder, QWEN)
    change(folder, lambda weights: weights.update({"score.2.bias": weights["score.2.bias"] + torch.tensor([0.5, 0.0])}))
    report = verify(folder, QWEN, examples=card, device="cpu")
    [(what, detail)] = failures(report).items()
    assert what == "card example flamingos"
    assert "but the card states" in detail
    assert "swapped" not in detail
    assert str(report).endswith("FAILED")


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda weights: weights.pop("score.2.weight"), "tensor score.2.weight is missing"),
        (lambda weights: weights.update({"score.2.weight": torch.zeros(3, 16)}), "score.2.weight is 3 × 16"),
        (lambda weights: weights.update({"score.0.weight": torch.zeros(16, 8)}), "score.0.weight is 16 × 8"),
    ],
)
def test_a_head_that_does_not_fit_is_told_by_the_name_of_its_tensor(
    spoilt: Callable[[str], Path], edit: Callable[[dict[str, torch.Tensor]], Any], says: str
) -> None:
    folder = spoilt(QWEN)
    change(folder, edit)
    found = failures(verify(folder, QWEN, device="cpu"))
    assert list(found) == ["head"]
    assert says in found["head"]


def test_a_missing_tensor_of_the_body_is_named(spoilt: Callable[[str], Path]) -> None:
    folder = spoilt(QWEN)
    change(folder, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    found = failures(verify(folder, QWEN, device="cpu"))
    assert "tensor model.layers.1.mlp.up_proj.weight is missing (1 of " in found["body"]


def test_a_separator_with_another_id_is_told(published: Published) -> None:
    other = replace(adapters.adapter(QWEN), separator_ids=(151650,))
    found = failures(verify(published(QWEN), other, device="cpu"))
    assert list(found) == ["text"]
    assert "[151651]" in found["text"]
    assert "[151650]" in found["text"]


def test_a_separator_that_the_tokenizer_lacks_is_told(spoilt: Callable[[str], Path]) -> None:
    folder = spoilt(QWEN)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<extra_0>"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for file in ("special_tokens_map.json", "added_tokens.json"):
        (folder / file).unlink(missing_ok=True)
    assert "'<extra_0>'" in failures(verify(folder, QWEN, device="cpu"))["text"]


def test_label_words_with_other_ids_are_told(published: Published) -> None:
    other = replace(adapters.adapter(SHEPHERD), label_ids=(387, 648))
    found = failures(verify(published(SHEPHERD), other, device="cpu"))
    assert "label words" in found
    assert "[648, 387]" in found["label words"]


def test_a_word_of_several_tokens_is_said_to_be_one(published: Published) -> None:
    assert "the first of its" in str(verify(published("fover"), "fover", device="cpu"))


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("config.json", "{", "architecture"),
        ("config.json", '{"model_type": "no-such-model"}', "architecture"),
        ("tokenizer.json", "{", "tokenizer"),
        ("model.safetensors.index.json", "{", "body"),
    ],
)
def test_a_damaged_file_is_a_finding_and_no_traceback(
    spoilt: Callable[[str], Path], file: str, content: str, what: str
) -> None:
    folder = spoilt(QWEN)
    (folder / file).write_text(content)
    assert what in failures(verify(folder, QWEN, device="cpu"))


def test_a_folder_without_weights_is_told(spoilt: Callable[[str], Path]) -> None:
    folder = spoilt(QWEN)
    for file in folder.glob("model*"):
        file.unlink()
    found = failures(verify(folder, QWEN, device="cpu"))
    assert "there are no weights" in found["body"]


def test_a_chat_template_is_needed_where_the_adapter_reads_a_chat(spoilt: Callable[[str], Path]) -> None:
    folder = spoilt(QWEN)
    (folder / "chat_template.jinja").unlink()
    assert "chat template" in failures(verify(folder, QWEN, device="cpu"))["text"]
    assert "chat template" in failures(verify(folder, THINK_PRM, device="cpu"))["text"]


@pytest.mark.parametrize("adapter", [EURUS_PRM_STAGE1, THINK_PRM])
def test_prms_without_a_head_need_a_language_model(published: Published, adapter: adapters.Adapter) -> None:
    words = next(name for name, maker in MAKERS.items() if maker.__name__ == "qwen_words")
    assert verify(published(words), adapter, device="cpu").ok
    found = failures(verify(published(QWEN), adapter, device="cpu"))
    assert list(found) == ["head"]
    assert "tensor lm_head.weight is missing" in found["head"]


def test_an_adapter_that_does_not_exist_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(PrmError, match="no adapter is called 'gpt'"):
        verify(tmp_path, "gpt")


def test_the_cards_numbers_are_of_one_size_only(published: Published) -> None:
    assert not verify(published(QWEN), QWEN, examples=CARD_EXAMPLES, device="cpu").scored
