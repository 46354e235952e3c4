"""Other processes: killed by the operating system, and two that train together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prm_backend.finetuning.loop import accelerator_for
from prm_backend.finetuning.recipe import Recipe, Stage
from tests.prm_backend.finetuning import little
from tests.prm_backend.finetuning.little import DEATHS, little_recipe, run_of, weights_of

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
    "CUDA_VISIBLE_DEVICES": "",
    "ACCELERATE_USE_CPU": "true",
}


def start(*words: str, kind: str, folder: Path, recipe: Recipe) -> str:
    command = [sys.executable, *words, str(little.__file__), kind, str(folder), json.dumps(recipe.as_dict())]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_killed_run_ends_with_bit_equal_weights(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("bit equality is promised on a CPU")
    stages = (Stage("head", epochs=1, learning_rate=1e-2), Stage("all", epochs=3, learning_rate=3e-3))
    recipe = little_recipe(stages=stages, save_every=2, patience=10)
    told = start(kind="die", folder=tmp_path, recipe=recipe)
    assert told.splitlines() == [f"{name} -9" for name, _, _ in DEATHS]
    assert not list((tmp_path / "before-any-state").glob("state-*"))
    assert list((tmp_path / "in-a-save").glob(".state-*")), "a draft that was never put in its place"
    expected = weights_of(run_of(tmp_path / "whole", recipe, dropout=0.2))
    for name, _, _ in DEATHS:
        weights = weights_of(run_of(tmp_path / name, recipe, dropout=0.2))
        assert all(torch.equal(weights[key], expected[key]) for key in expected), name
        assert len(list((tmp_path / name).glob("state-*"))) == 2
        assert not list((tmp_path / name).glob(".state-*"))


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    """Label counts differ between them, and 5 solutions a step do not divide by 2."""
    stages = (Stage("head", epochs=1, learning_rate=1e-2), Stage("all", epochs=2, learning_rate=3e-3))
    recipe = little_recipe(stages=stages, solutions_per_step=5, batch_tokens=400, patience=10)
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    start(*launch, kind="train", folder=tmp_path / "two", recipe=recipe)
    one = weights_of(run_of(tmp_path / "one", recipe, dropout=0.0))
    first, second = (load_file(tmp_path / "two" / f"weights-{rank}.safetensors") for rank in range(2))
    for name, weights in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weights, rtol=0, atol=1e-5)
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in lines if row["event"] == "step"] == list(range(1, 13))


def test_one_process_may_train_in_one_precision_after_another() -> None:
    assert accelerator_for(little_recipe(precision="bf16")).mixed_precision == "bf16"
    assert accelerator_for(little_recipe()).mixed_precision == "no"
