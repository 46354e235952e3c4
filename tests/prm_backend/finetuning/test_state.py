from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from prm_backend.errors import PrmError
from prm_backend.finetuning.state import Position, State, clear_states, load_state, random_state, save_state


def state(done: int, *, run: str = "run", best: bool = False) -> State:
    weights = {"a.weight": torch.full((3,), float(done))}
    rest = {"optimizer": {"step": torch.tensor(done)}, "random": [random_state()]}
    return State(run, Position(done=done, best_loss=0.5), weights, rest, weights if best else None)


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = state(3, best=True)
    save_state(tmp_path, saved)
    loaded = load_state(tmp_path, run="run")
    assert loaded is not None
    assert loaded.position == saved.position
    assert torch.equal(loaded.weights["a.weight"], saved.weights["a.weight"])
    assert loaded.best is not None
    assert loaded.rest["random"][0]["python"] == saved.rest["random"][0]["python"]
    assert torch.equal(loaded.rest["random"][0]["cpu"], saved.rest["random"][0]["cpu"])


def test_the_last_two_are_kept_and_the_newest_is_taken(tmp_path: Path) -> None:
    for done in (1, 9, 10, 11):
        save_state(tmp_path, state(done))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state-00000010", "state-00000011"]
    loaded = load_state(tmp_path, run="run")
    assert loaded is not None
    assert loaded.position.done == 11


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    save_state(tmp_path, state(3))
    save_state(tmp_path, state(3, best=True))
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000003"]
    loaded = load_state(tmp_path, run="run")
    assert loaded is not None
    assert loaded.best is not None


@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", "rest.pt"])
@pytest.mark.parametrize("damage", ["cut", "gone", "rubbish"])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path, name: str, damage: str) -> None:
    save_state(tmp_path, state(1))
    file = save_state(tmp_path, state(2)) / name
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:20] if damage == "cut" else b"rubbish")
    loaded = load_state(tmp_path, run="run")
    assert loaded is not None
    assert loaded.position.done == 1


def test_no_readable_state_is_an_error_and_none_at_all_is_not(tmp_path: Path) -> None:
    assert load_state(tmp_path, run="run") is None
    assert load_state(tmp_path / "nowhere", run="run") is None
    (save_state(tmp_path, state(1)) / "rest.pt").write_bytes(b"")
    with pytest.raises(PrmError, match=r"no state can be read: state-00000001 \("):
        load_state(tmp_path, run="run")
    clear_states(tmp_path)
    assert load_state(tmp_path, run="run") is None


def test_another_run_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, state(1))
    with pytest.raises(PrmError, match="the state of another run"):
        load_state(tmp_path, run="other")


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path, state(1))

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        save_state(tmp_path, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["state-00000001"]
