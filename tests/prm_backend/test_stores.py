"""Checkpoints in object stores: an in-memory one and a folder by URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from prm_backend import stores
from prm_backend.checkpoints import CARD, METADATA
from prm_backend.errors import CheckpointError
from prm_backend.heads import HeadSpec
from prm_backend.own import OwnPrm
from prm_backend.pretraining import init_backbone
from prm_backend.scoring import Scorer
from prm_backend.stores import fetch, push
from tests.prm_backend.tiny_bodies import SOLUTION, random_backbone


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> OwnPrm:
    return OwnPrm.build(random_backbone("llama", tmp_path_factory.mktemp("llama")), head=HeadSpec(heads=2))


@pytest.fixture
def folder(prm: OwnPrm, tmp_path: Path) -> Path:
    prm.save(tmp_path / "checkpoint", data_hash="d")
    return tmp_path / "checkpoint"


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield "memory://prms/one" if request.param == "memory" else f"file://{tmp_path}/store/prms/one/"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_pushed_is_what_is_fetched(folder: Path, url: str, tmp_path: Path) -> None:
    push(folder, url)
    fetched = fetch(url, tmp_path / "cache")
    assert content(fetched) == content(folder)
    assert OwnPrm.load(fetched).metadata == OwnPrm.load(folder).metadata
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [fetched.name]


def test_heads_on_frozen_features_travel_too(prm: OwnPrm, url: str, tmp_path: Path) -> None:
    backbone = random_backbone("llama", tmp_path / "model")
    init_backbone(backbone, tmp_path / "cold")
    push(tmp_path / "cold", url)
    fetched = fetch(url, tmp_path / "cache")
    assert list(Scorer.load(fetched).score([SOLUTION])) == list(Scorer.load(tmp_path / "cold").score([SOLUTION]))


def test_a_second_push_and_a_second_fetch_move_nothing(folder: Path, url: str, tmp_path: Path) -> None:
    push(folder, url)
    fetched = fetch(url, tmp_path / "cache")
    push(folder, url)
    before = {path: path.stat().st_mtime_ns for path in fetched.rglob("*")}
    assert fetch(url, tmp_path / "cache") == fetched
    assert {path: path.stat().st_mtime_ns for path in fetched.rglob("*")} == before


def test_two_that_fetch_at_once_end_with_one_folder(
    folder: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(folder, url)
    verify, others = stores.verify_files, []

    def meanwhile(path: Path, files: dict[str, str]) -> None:
        """Another process fetches the same while this one checks what it has."""
        monkeypatch.setattr(stores, "verify_files", verify)
        others.append(fetch(url, tmp_path / "cache"))
        verify(path, files)

    monkeypatch.setattr(stores, "verify_files", meanwhile)
    assert [fetch(url, tmp_path / "cache")] == others == list((tmp_path / "cache").iterdir())


def test_another_checkpoint_is_never_replaced(prm: OwnPrm, folder: Path, url: str, tmp_path: Path) -> None:
    push(folder, url)
    prm.save(tmp_path / "other", data_hash="other")
    with pytest.raises(CheckpointError, match="another checkpoint is there"):
        push(tmp_path / "other", url)


@pytest.mark.parametrize("written", range(7))  # four files of the backbone, head, card, metadata
def test_an_interrupted_push_leaves_nothing_that_loads_and_can_be_repeated(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    put_file, calls = MemoryFileSystem.put_file, iter(range(100))

    def interrupted(self: MemoryFileSystem, source: str, target: str, **options: Any) -> None:
        if next(calls) == written:
            raise OSError("connection lost")
        put_file(self, source, target, **options)

    url = "memory://prms/interrupted"
    monkeypatch.setattr(MemoryFileSystem, "put_file", interrupted)
    with pytest.raises(CheckpointError, match="connection lost"):
        push(folder, url)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        fetch(url, tmp_path / "cache")
    monkeypatch.undo()
    push(folder, url)
    assert content(fetch(url, tmp_path / "cache")) == content(folder)
    fsspec.filesystem("memory").rm("/prms", recursive=True)


def test_a_damaged_folder_is_not_pushed(folder: Path, url: str, tmp_path: Path) -> None:
    (folder / "head.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"head\.safetensors is damaged"):
        push(folder, url)
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        fetch(url, tmp_path / "cache")


@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_what_was_damaged_in_the_store_never_reaches_the_cache(
    folder: Path, url: str, tmp_path: Path, damage: str
) -> None:
    push(folder, url)
    store, root = fsspec.core.url_to_fs(url)
    name = f"{root.rstrip('/')}/head.safetensors"
    store.rm(name)
    if damage == "changed":
        store.pipe_file(name, b"something else")
    with pytest.raises(CheckpointError, match=r"head\.safetensors is (damaged|missing)"):
        fetch(url, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "a/../../b", "..\\outside"])
def test_a_hostile_store_cannot_write_outside_of_the_cache(folder: Path, url: str, tmp_path: Path, name: str) -> None:
    push(folder, url)
    store, root = fsspec.core.url_to_fs(url)
    metadata = json.loads((folder / METADATA).read_text())
    metadata["files"][name] = "0" * 64
    store.pipe_file(f"{root.rstrip('/')}/{METADATA}", json.dumps(metadata).encode())
    with pytest.raises(CheckpointError, match="names a file outside of the checkpoint"):
        fetch(url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_cut_metadata_file_is_damage(folder: Path, url: str, tmp_path: Path) -> None:
    push(folder, url)
    store, root = fsspec.core.url_to_fs(url)
    store.pipe_file(f"{root.rstrip('/')}/{METADATA}", (folder / METADATA).read_bytes()[:40])
    with pytest.raises(CheckpointError, match=r"metadata\.json is damaged"):
        fetch(url, tmp_path / "cache")


def test_a_card_is_no_must(folder: Path, url: str, tmp_path: Path) -> None:
    (folder / CARD).unlink()
    push(folder, url)
    assert not (fetch(url, tmp_path / "cache") / CARD).exists()


@pytest.mark.parametrize("archive", ["missing.zip", "rubbish.zip"])
def test_an_archive_that_cannot_be_opened_is_named(tmp_path: Path, archive: str) -> None:
    (tmp_path / "rubbish.zip").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match=rf"{archive}: "):
        fetch(f"zip://prm::file://{tmp_path}/{archive}", tmp_path / "cache")


def test_an_unknown_protocol_is_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="nosuch://bucket/prm: "):
        push(folder, "nosuch://bucket/prm")
