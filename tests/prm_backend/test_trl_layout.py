"""Conversion keeps every score, read as TRL reads: in a loop of its own, from transformers alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForTokenClassification, AutoTokenizer

from prm_backend.batching import TokenBatch
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.heads import HeadSpec
from prm_backend.own import OwnPrm
from prm_backend.trl_layout import from_trl, to_trl
from tests.prm_backend.tiny_bodies import OTHER, SOLUTION, random_backbone

CAUSAL = ("qwen2", "llama", "mistral", "qwen3")
TWO_CLASSES = HeadSpec(heads=1, classes=2)


def trl_scores(folder: Path, separator: str) -> torch.Tensor:
    """p(LABEL_1) of each step of two solutions, read as `PRMTrainer.tokenize_row` laid them out."""
    model: Any = AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = []
    for solution in (SOLUTION, OTHER):
        ids = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        ids += tokenizer(solution.problem, add_special_tokens=False)["input_ids"]
        reads = []
        for step in solution.steps:
            ids += tokenizer(step, add_special_tokens=False)["input_ids"]
            ids += tokenizer.encode(separator, add_special_tokens=False)
            reads.append(len(ids) - 1)
        with torch.inference_mode():
            found.append(model(input_ids=torch.tensor([ids])).logits[0, reads].softmax(-1)[:, 1])
    return torch.cat(found)


def own_scores(prm: OwnPrm) -> torch.Tensor:
    """1 − p(−)"""
    return 1 - prm.model.eval().judge(TokenBatch.of([prm.encode(SOLUTION), prm.encode(OTHER)])).p[:, 0]


def trl_folder(family: str, folder: Path) -> Path:
    """What PRMTrainer would have saved of a random model."""
    random_backbone(family, folder)
    config = AutoConfig.from_pretrained(folder, num_labels=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("separator", ["\n", "\n\n"])
@pytest.mark.parametrize("family", CAUSAL)
def test_from_trl_keeps_its_scores(family: str, separator: str, tmp_path: Path) -> None:
    source = trl_folder(family, tmp_path / "trl")
    metadata = from_trl(source, tmp_path / "own", separator=separator)
    prm = OwnPrm.load(tmp_path / "own")
    expected = trl_scores(source, separator)
    assert expected.std() > 0.01
    assert_close(own_scores(prm), expected, atol=1e-5, rtol=0)
    assert metadata.recipe["separator"] == separator


@pytest.mark.parametrize("family", CAUSAL)
def test_there_and_back(family: str, tmp_path: Path) -> None:
    source = trl_folder(family, tmp_path / "trl")
    from_trl(source, tmp_path / "own", separator="\n\n")
    to_trl(tmp_path / "own", tmp_path / "back")
    assert_close(trl_scores(tmp_path / "back", "\n\n"), trl_scores(source, "\n\n"), atol=1e-5, rtol=0)
    config = AutoConfig.from_pretrained(tmp_path / "back")
    assert (config.num_labels, config.id2label[1]) == (2, "LABEL_1")
    from_trl(tmp_path / "back", tmp_path / "own2", separator="\n\n")
    assert_close(own_scores(OwnPrm.load(tmp_path / "own2")), own_scores(OwnPrm.load(tmp_path / "own")))


@pytest.mark.parametrize("lora", [None, {"r": 2, "init_lora_weights": False}], ids=["full", "lora"])
def test_an_own_prm_of_two_classes_goes_to_trl(lora: dict[str, Any] | None, tmp_path: Path) -> None:
    backbone = random_backbone("qwen2", tmp_path / "model")
    prm = OwnPrm.build(backbone, head=TWO_CLASSES, problem_separator="", lora=lora)
    prm.save(tmp_path / "own", data_hash="d")
    to_trl(tmp_path / "own", tmp_path / "trl")
    assert_close(trl_scores(tmp_path / "trl", "\n\n"), own_scores(prm), atol=1e-5, rtol=0)


def test_labels_the_other_way_round(tmp_path: Path) -> None:
    source = trl_folder("llama", tmp_path / "trl")
    from_trl(source, tmp_path / "own", separator="\n", correct_label=0)
    assert_close(own_scores(OwnPrm.load(tmp_path / "own")), 1 - trl_scores(source, "\n"), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "arguments", "reason"),
    [
        ("llama", {"head": HeadSpec(heads=2, classes=2)}, "mean over several heads"),
        ("llama", {"head": HeadSpec(heads=1)}, "three-class head is not linear"),
        ("llama", {"head": HeadSpec(heads=1, classes=2, pooling="attention")}, "pools the tokens of a step"),
        ("llama", {"head": TWO_CLASSES, "problem_separator": None}, "nothing between problem and first step"),
        ("bert", {"head": TWO_CLASSES}, "TRL's would look ahead"),
    ],
)
def test_what_is_not_exact_is_refused(family: str, arguments: dict[str, Any], reason: str, tmp_path: Path) -> None:
    backbone = random_backbone(family, tmp_path / "model")
    OwnPrm.build(backbone, **{"problem_separator": "", **arguments}).save(tmp_path / "own", data_hash="d")
    with pytest.raises(PrmError, match=f"cannot be written for TRL exactly: .*{reason}"):
        to_trl(tmp_path / "own", tmp_path / "trl")
    assert not (tmp_path / "trl").exists()


def test_an_encoder_of_trl_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="look ahead"):
        from_trl(trl_folder("bert", tmp_path / "trl"), tmp_path / "own", separator="\n")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    plain = random_backbone("llama", tmp_path / "plain")
    with pytest.raises(CheckpointError, match=r"weights are missing \(score"):
        from_trl(plain, tmp_path / "own", separator="\n")
    with pytest.raises(CheckpointError, match="not a token-classification model"):
        from_trl(tmp_path / "nowhere", tmp_path / "own", separator="\n")
    config = AutoConfig.from_pretrained(plain, num_labels=3)
    AutoModelForTokenClassification.from_config(config).save_pretrained(plain)
    with pytest.raises(CheckpointError, match="not one linear layer of two labels"):
        from_trl(plain, tmp_path / "own", separator="\n")
    with pytest.raises(PrmError, match="correct_label"):
        from_trl(plain, tmp_path / "own", separator="\n", correct_label=2)
    from_trl(trl_folder("llama", tmp_path / "trl"), tmp_path / "own", separator="\n")
    to_trl(tmp_path / "own", tmp_path / "back")
    with pytest.raises(CheckpointError, match="already exists"):
        to_trl(tmp_path / "own", tmp_path / "back")
