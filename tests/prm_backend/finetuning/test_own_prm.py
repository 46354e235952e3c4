"""The loop and a PRM of one's own: what is built is what trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prm_backend.finetuning.data import LabeledTree, solution_tree
from prm_backend.finetuning.loop import train
from prm_backend.finetuning.recipe import Recipe, Stage
from prm_backend.heads import HeadSpec
from prm_backend.own import OwnPrm
from tests.prm_backend.finetuning.little import weights_of
from tests.prm_backend.tiny import labeled_solutions, random_model

STAGES = (Stage("head", steps=2, learning_rate=1e-2), Stage("all", steps=2, learning_rate=1e-3))


def changed_by_training(prm: OwnPrm, folder: Path, **changes: object) -> set[str]:
    torch.set_num_threads(1)
    data: list[LabeledTree] = [solution_tree(labeled) for labeled in labeled_solutions(6)]
    before = weights_of(prm.model)
    recipe = Recipe(stages=STAGES, solutions_per_step=4, **changes)  # type: ignore[arg-type]  # checked by the recipe
    train(prm, data[:8], data[8:], recipe, folder)
    return {name for name, tensor in weights_of(prm.model).items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("family", ["qwen2", "bert"])
def test_body_heads_and_pooling_train(tmp_path: Path, family: str) -> None:
    head = HeadSpec(heads=3, pooling="attention")
    prm = OwnPrm.build(random_model(family, tmp_path / "backbone"), head=head, max_tokens=256)
    changed = changed_by_training(prm, tmp_path / "run")
    assert {name.split(".")[0] for name in changed} == {"body", "head", "pooling"}
    assert "head.anchor" not in changed


def test_with_lora_the_backbone_itself_stays(tmp_path: Path) -> None:
    backbone = random_model("qwen2", tmp_path / "backbone")
    prm = OwnPrm.build(backbone, head=HeadSpec(heads=2), lora={"r": 2}, max_tokens=256)
    changed = changed_by_training(prm, tmp_path / "run", gradient_checkpointing=True, patience=3)
    assert changed
    assert all(name.startswith("head.") or "lora_" in name for name in changed)
    assert any("lora_" in name for name in changed)
