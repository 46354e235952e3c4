"""Checkpoints in object stores, by fsspec URL: s3://…, gs://…, memory://…, or a plain path.

The metadata is written last and read first: what an interrupted upload leaves has none, and nothing loads it. What is
fetched is checked against its hashes before it appears in the cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # it ships no type information

from prm_backend.checkpoints import CARD, METADATA, parse_metadata, read_metadata, verify_files
from prm_backend.errors import CheckpointError


def push(folder: Path, url: str) -> None:
    """Copy a checkpoint of any kind to `url`. Does nothing when it is there already; raises `CheckpointError` when
    another one is, or when `folder` is damaged."""
    files = read_metadata(folder)["files"]
    verify_files(folder, files)
    store, root = opened(url)
    if (there := read_remote(store, root)) is not None:
        if there != (folder / METADATA).read_bytes():
            raise CheckpointError(f"{url}: another checkpoint is there; a checkpoint is never changed")
        return
    card = [CARD] if (folder / CARD).exists() else []
    for name in [*files, *card, METADATA]:
        target = f"{root}/{name}"
        try:
            store.makedirs(target.rpartition("/")[0], exist_ok=True)
            store.put_file(str(folder / name), target)
        except OSError as error:
            raise CheckpointError(f"{url}: {name} could not be written ({error})") from error


def fetch(url: str, cache_dir: Path) -> Path:
    """A folder in `cache_dir` with the checkpoint at `url`; fetched once, named by its metadata. Raises
    `CheckpointError` when there is none, or when a file is missing, damaged or would land outside of the folder."""
    store, root = opened(url)
    content = read_remote(store, root)
    if content is None:
        raise CheckpointError(f"{url}: no checkpoint here ({METADATA} is missing)")
    files = parse_metadata(content, url)["files"]
    for name in files:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise CheckpointError(f"{url}: {METADATA} names a file outside of the checkpoint: {name}")
    out = cache_dir / hashlib.sha256(content).hexdigest()[:32]
    if out.exists():
        return out
    cache_dir.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".fetch-", dir=cache_dir))
    try:
        for name in [*files, CARD]:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                store.get_file(f"{root}/{name}", str(draft / name))
            except FileNotFoundError as error:
                if name != CARD:
                    raise CheckpointError(f"{url}: {name} is missing") from error
        verify_files(draft, files)
        (draft / METADATA).write_bytes(content)
        draft.chmod(0o755)
        move_into_place(draft, out)
    except OSError as error:
        raise CheckpointError(f"{url}: could not be fetched ({error})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def move_into_place(draft: Path, out: Path) -> None:
    try:
        os.replace(draft, out)
    except OSError:
        if not out.exists():  # else somebody fetched the same at the same time
            raise


def opened(url: str) -> tuple[Any, str]:
    """File system and root path. Raises `CheckpointError` for a protocol that is unknown or not installed, and for an
    archive in the URL that cannot be opened."""
    try:
        store, root = url_to_fs(url)
    except Exception as error:  # each archive format has errors of its own
        raise CheckpointError(f"{url}: {error}") from error
    return store, root.rstrip("/")


def read_remote(store: Any, root: str) -> bytes | None:
    """What metadata.json holds, past every listing that fsspec may remember; None where there is none."""
    store.invalidate_cache()
    try:
        content: bytes = store.cat_file(f"{root}/{METADATA}")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CheckpointError(f"{root}: {METADATA} could not be read ({error})") from error
    return content
