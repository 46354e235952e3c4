from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prm_backend.checkpoints import BACKBONE, HEADS, METADATA, load_checkpoint, load_metadata, write_checkpoint
from prm_backend.errors import CheckpointError
from prm_backend.pretraining import init_backbone
from prm_backend.scoring import Scorer
from tests.prm_backend.tiny import plain_solutions, random_model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    return init_backbone(random_model("llama", folder / "model"), folder / "cold", solutions=plain_solutions(5))


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return rewrite(original, tmp_path / "copy")


def rewrite(source: Path, out: Path) -> Path:
    checkpoint = load_checkpoint(source)
    write_checkpoint(
        out,
        kind="pretrained",
        backbone=source / BACKBONE,
        adapter=checkpoint.metadata.adapter,
        heads=checkpoint.heads,
        data_hash="0",
    )
    return out


def test_what_is_written_is_what_is_loaded(original: Path, copy: Path) -> None:
    assert load_metadata(copy).adapter == load_metadata(original).adapter
    assert load_metadata(copy).digest == load_metadata(original).digest
    pool = plain_solutions(3)
    assert list(Scorer.load(copy).score(pool)) == list(Scorer.load(original).score(pool))


def test_metadata_says_where_it_came_from(copy: Path) -> None:
    metadata = json.loads((copy / METADATA).read_text())
    assert metadata["format_version"] == 1
    fields = "kind adapter data_hash code_version parent recipe metrics files format_version"
    assert list(metadata) == fields.split(), "checkpoints in service were written so"
    assert metadata["code_version"]
    assert {f"{BACKBONE}/config.json", f"{BACKBONE}/model.safetensors", HEADS} <= metadata["files"].keys()


def test_a_checkpoint_is_never_overwritten(copy: Path, original: Path) -> None:
    with pytest.raises(CheckpointError, match="never changed"):
        rewrite(original, copy)


def test_a_failed_write_leaves_nothing_behind(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        rewrite(original, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_on_disk_before_it_has_its_name(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut may otherwise leave the name with empty files."""
    synced, on_disk, replaced = os.fsync, set(), os.replace

    def sync(handle: int) -> None:
        synced(handle)
        on_disk.add(os.fstat(handle).st_ino)

    def check(draft: Path, out: Path) -> None:
        assert {path.stat().st_ino for path in [draft, *draft.rglob("*")]} <= on_disk
        replaced(draft, out)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", check)
    rewrite(original, tmp_path / "new")
    assert tmp_path.stat().st_ino in on_disk


def test_a_metric_that_is_no_number_is_refused(original: Path, tmp_path: Path) -> None:
    """Its metadata would be no JSON."""
    checkpoint = load_checkpoint(original)
    with pytest.raises(CheckpointError, match=r"metadata\.json cannot hold what is not a finite number"):
        write_checkpoint(
            tmp_path / "new",
            kind="pretrained",
            backbone=original / BACKBONE,
            adapter=checkpoint.metadata.adapter,
            heads=checkpoint.heads,
            data_hash="0",
            metrics={"loss": math.nan},
        )
    assert list(tmp_path.iterdir()) == []


def delete_weights(folder: Path) -> None:
    (folder / BACKBONE / "model.safetensors").unlink()


def flip_a_byte(folder: Path) -> None:
    path = folder / HEADS
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.unlink()  # the file may be shared with another checkpoint
    path.write_bytes(raw)


def add_an_adapter(folder: Path) -> None:
    """transformers would put it on the backbone."""
    (folder / BACKBONE / "adapter_config.json").write_text("{}")


def cut_metadata(folder: Path) -> None:
    (folder / METADATA).write_text((folder / METADATA).read_text()[:50])


def metadata_of_another_kind(folder: Path) -> None:
    (folder / METADATA).write_text("[]")


def newer_format(folder: Path) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps({**metadata, "format_version": 99}))


def test_heads_of_another_backbone_are_refused(original: Path, tmp_path: Path) -> None:
    other = init_backbone(random_model("bert", tmp_path / "model"), tmp_path / "other")
    mixed = load_checkpoint(original)
    write_checkpoint(
        tmp_path / "mixed",
        kind="heads",
        backbone=other / BACKBONE,
        adapter=replace(load_metadata(other).adapter, layers=(1,)),
        heads=mixed.heads,
        data_hash="0",
    )
    with pytest.raises(CheckpointError, match="its heads read 197 features, its backbone gives 101"):
        Scorer.load(tmp_path / "mixed")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (delete_weights, r"model\.safetensors is missing"),
        (flip_a_byte, r"heads\.safetensors is damaged"),
        (add_an_adapter, r"backbone/adapter_config\.json is no part of this checkpoint"),
        (cut_metadata, r"metadata\.json is damaged"),
        (metadata_of_another_kind, r"metadata\.json is damaged"),
        (newer_format, "format 99"),
    ],
)
def test_damage_is_found_and_named(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(copy)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        Scorer.load(tmp_path / "nowhere")
