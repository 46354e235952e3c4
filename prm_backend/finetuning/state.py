"""The resumable state of a training run: a folder that is written whole or not at all; the last two are kept.

state.json           where the run is, and what it is a run of
weights.safetensors  the parameters that train, and the buffers
rest.pt              optimizer, random number generators of each process, loss scaler
best.safetensors     the weights of the lowest validation loss so far, where early stopping needs them
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from prm_backend.checkpoints import sync, sync_folder
from prm_backend.errors import PrmError

KEPT = 2
Tensors = Mapping[str, torch.Tensor]


@dataclass
class Position:
    """Where a run is. `step` counts optimizer steps of the stage, `done` of the whole run; `stale` the validations in a
    row that were no better; `metrics_bytes` is the length of the metrics file."""

    stage: int = 0
    step: int = 0
    done: int = 0
    best_loss: float | None = None
    validation_loss: float | None = None
    stale: int = 0
    stopped_early: bool = False
    finished: bool = False
    metrics_bytes: int = 0


@dataclass(frozen=True)
class State:
    """`run` names the run by its content: recipe, data, and the weights it began with. Another run's state is
    refused."""

    run: str
    position: Position
    weights: Tensors
    rest: Mapping[str, Any]
    best: Tensors | None = None


def weights_digest(weights: Tensors) -> str:
    """SHA-256 over names, shapes, dtypes and values."""
    found = hashlib.sha256()
    for name, tensor in weights.items():
        found.update(json.dumps([name, list(tensor.shape), str(tensor.dtype)]).encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def random_state() -> dict[str, Any]:
    """Of this process: Python's and torch's generators."""
    return {
        "python": random.getstate(),
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def save_state(folder: Path, state: State) -> Path:
    """Write to a draft, bring it to disk, rename. Older states go only when the new one stands."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".state-", dir=folder))
    try:
        save_file(dict(state.weights), draft / "weights.safetensors")
        if state.best is not None:
            save_file(dict(state.best), draft / "best.safetensors")
        torch.save(dict(state.rest), draft / "rest.pt")
        where = {"run": state.run, "position": asdict(state.position), "best": state.best is not None}
        (draft / "state.json").write_text(json.dumps(where, indent=2) + "\n")
        sync_folder(draft)
        out = folder / f"state-{state.position.done:08}"
        if out.exists():  # the same step was saved before, for another reason
            os.replace(out, Path(tempfile.mkdtemp(prefix=".state-", dir=folder)))
        os.replace(draft, out)
        sync(folder)
    finally:
        for old in [*folder.glob(".state-*"), *_states(folder)[KEPT:]]:
            shutil.rmtree(old, ignore_errors=True)
    return out


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*"), reverse=True)


def load_state(folder: Path, *, run: str) -> State | None:
    """The newest state that can be read, None where there is none. Raises `PrmError` when there are states and none can
    be read, or when they belong to another run."""
    broken = []
    for path in _states(folder):
        try:
            where = json.loads((path / "state.json").read_text())
            if where["run"] != run:
                raise PrmError(
                    f"{path}: the state of another run (its recipe, data or the weights it began with differ); "
                    "train into another folder, or without resuming"
                )
            return State(
                run=run,
                position=Position(**where["position"]),
                weights=load_file(path / "weights.safetensors"),
                rest=torch.load(path / "rest.pt", map_location="cpu", weights_only=True),
                best=load_file(path / "best.safetensors") if where["best"] else None,
            )
        except PrmError:
            raise
        except Exception as error:  # there is no end to what a damaged file can raise
            broken.append(f"{path.name} ({error})")
    if broken:
        raise PrmError(f"{folder}: no state can be read: {', '.join(broken)}")
    return None


def clear_states(folder: Path) -> None:
    for path in [*folder.glob(".state-*"), *_states(folder)]:
        shutil.rmtree(path)
