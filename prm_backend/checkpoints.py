"""A checkpoint is a folder that is written once, whole or not at all, and checked against its hashes when loaded.

metadata.json       what it is, where it came from, the hash of every other file
heads.safetensors   the step heads
backbone/           a transformers model with its tokenizer, as `save_pretrained` writes it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prm_backend.encoding import Adapter
from prm_backend.errors import CheckpointError
from prm_backend.model import Backbone, StepHeads

FORMAT_VERSION = 1
METADATA, HEADS, BACKBONE = "metadata.json", "heads.safetensors", "backbone"


@dataclass(frozen=True)
class CheckpointMetadata:
    """`kind` is "pretrained" (no labels seen: a cold start) or "heads". `parent` is the digest of the checkpoint it was
    made from, `data_hash` that of the solutions or labels it saw. `files` maps relative paths to SHA-256."""

    kind: str
    adapter: Adapter
    data_hash: str
    code_version: str
    parent: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @property
    def digest(self) -> str:
        """Names the checkpoint by its content."""
        return content_hash(self.files)

    @property
    def backbone_digest(self) -> str:
        """The same for all checkpoints whose step features are the same."""
        files = {path: digest for path, digest in self.files.items() if path.startswith(f"{BACKBONE}/")}
        return content_hash([files, asdict(self.adapter)])


@dataclass(frozen=True)
class Checkpoint:
    path: Path
    metadata: CheckpointMetadata
    heads: StepHeads

    def backbone(self) -> Backbone:
        try:
            backbone = Backbone(self.path / BACKBONE, self.metadata.adapter)
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{self.path}: the backbone does not load ({error})") from error
        read = self.heads.bad_weight.shape[1]
        if read != backbone.width:
            raise CheckpointError(f"{self.path}: its heads read {read} features, its backbone gives {backbone.width}")
        return backbone


def content_hash(content: object) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def code_version() -> str:
    """Hash of this package's own source, so that a checkpoint names the code that made it."""
    source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        source.update(path.read_bytes())
    return source.hexdigest()[:16]


def write_checkpoint(
    out: Path,
    *,
    kind: str,
    backbone: Path,
    adapter: Adapter,
    heads: StepHeads,
    data_hash: str,
    parent: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> CheckpointMetadata:
    """Write a checkpoint folder atomically. Raises `CheckpointError` when `out` exists: checkpoints never change."""
    if out.exists():
        raise CheckpointError(f"{out}: already exists; a checkpoint is never changed after it is written")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        shutil.copytree(backbone, draft / BACKBONE, copy_function=link_or_copy)
        heads.save(draft / HEADS)
        metadata = CheckpointMetadata(
            kind=kind,
            adapter=adapter,
            data_hash=data_hash,
            code_version=code_version(),
            parent=parent,
            recipe=dict(recipe or {}),
            metrics=dict(metrics or {}),
            files=file_hashes(draft),
        )
        (draft / METADATA).write_text(json.dumps(asdict(metadata), indent=2) + "\n")
        draft.chmod(0o755)
        os.replace(draft, out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return metadata


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises `CheckpointError` when the folder is missing, incomplete, damaged or of another format."""
    metadata = load_metadata(path)
    found = file_hashes(path)
    for name, digest in metadata.files.items():
        if name not in found:
            raise CheckpointError(f"{path}: {name} is missing")
        if found[name] != digest:
            raise CheckpointError(f"{path}: {name} is damaged (its hash is not the recorded one)")
    return Checkpoint(path, metadata, StepHeads.load(path / HEADS))


def load_metadata(path: Path) -> CheckpointMetadata:
    """Metadata alone, without checking the weights."""
    try:
        raw = json.loads((path / METADATA).read_text())
        if raw["format_version"] != FORMAT_VERSION:
            raise CheckpointError(
                f"{path}: checkpoint format {raw['format_version']}, this code reads {FORMAT_VERSION}"
            )
        adapter = raw["adapter"]
        read = {name: tuple(adapter[name]) for name in ("prefix_ids", "separator_ids", "layers")}
        return CheckpointMetadata(**{**raw, "adapter": Adapter(**read, max_tokens=adapter["max_tokens"])})
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no checkpoint here ({METADATA} is missing)") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {METADATA} is damaged ({error})") from error


def file_hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / METADATA:
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def link_or_copy(source: str, target: str) -> None:
    """Files of a checkpoint never change, so a backbone can be shared by its descendants where the disk allows."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
