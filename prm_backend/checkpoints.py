"""A checkpoint is a folder that is written once, whole or not at all, and checked against its hashes when loaded.

metadata.json       what it is, where it came from, the hash of every other file
backbone/           a transformers model with its tokenizer, as `save_pretrained` writes it

Beside it, heads on the frozen features of the backbone (kinds "pretrained" and "heads"):
heads.safetensors   the step heads

or a whole model (kind "full", read and written by `prm_backend.own`):
head.safetensors    the ensemble head, and the pooling before it
lora/               an adapter as peft writes it, where the backbone was tuned by one
README.md           a model card; a person may add to it, so it has no hash
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from prm_backend.card import Metric, model_card
from prm_backend.encoding import Adapter
from prm_backend.errors import CheckpointError
from prm_backend.model import Backbone, StepHeads

FORMAT_VERSION, FULL_FORMAT_VERSION = 1, 2
METADATA, HEADS, BACKBONE = "metadata.json", "heads.safetensors", "backbone"
HEAD, LORA, CARD = "head.safetensors", "lora", "README.md"
Tuning = Literal["full", "lora", "frozen"]


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
class FullMetadata:
    """Of a checkpoint of kind "full". `layout` and `head` are the records of `own.Layout` and `heads.HeadSpec`;
    `tuning` says what of the backbone was trained; `base_model` names the model that it started from. A metric is a
    number, or one with an interval: value, lower, upper."""

    layout: dict[str, Any]
    head: dict[str, Any]
    tuning: Tuning
    base_model: str
    data_hash: str
    data_version: str
    code_version: str
    parent: str | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    kind: str = "full"
    format_version: int = FULL_FORMAT_VERSION

    @property
    def digest(self) -> str:
        """Names the checkpoint by its content."""
        return content_hash(self.files)


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


M = TypeVar("M", CheckpointMetadata, FullMetadata)


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

    def fill(draft: Path) -> CheckpointMetadata:
        shutil.copytree(backbone, draft / BACKBONE, copy_function=link_or_copy)
        heads.save(draft / HEADS)
        return CheckpointMetadata(
            kind=kind,
            adapter=adapter,
            data_hash=data_hash,
            code_version=code_version(),
            parent=parent,
            recipe=dict(recipe or {}),
            metrics=dict(metrics or {}),
            files=file_hashes(draft),
        )

    return write_folder(out, fill)


def write_full_checkpoint(
    out: Path,
    fill: Callable[[Path], None],
    *,
    recipe: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    **described: Any,
) -> FullMetadata:
    """Write what `fill` puts into a folder as a checkpoint of kind "full", atomically, with its model card. `described`
    are the other fields of `FullMetadata`. Raises `CheckpointError` when `out` exists."""

    def describe(draft: Path) -> FullMetadata:
        fill(draft)
        metadata = FullMetadata(
            **described,
            code_version=code_version(),
            recipe=dict(recipe or {}),
            metrics=dict(metrics or {}),
            files=file_hashes(draft),
        )
        (draft / CARD).write_text(model_card(asdict(metadata)))
        return metadata

    return write_folder(out, describe)


def write_folder(out: Path, fill: Callable[[Path], M]) -> M:
    """`fill` writes the files and returns what is known of them, which is written beside them."""
    with whole_folder(out) as draft:
        metadata = fill(draft)
        try:
            content = json.dumps(asdict(metadata), indent=2, allow_nan=False)
        except ValueError as error:
            raise CheckpointError(f"{out}: {METADATA} cannot hold what is not a finite number ({error})") from error
        (draft / METADATA).write_text(content + "\n")
    return metadata


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `out` whole, or not at all. Raises `CheckpointError` when `out` exists."""
    if out.exists():
        raise CheckpointError(f"{out}: already exists; a checkpoint is never changed after it is written")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield draft
        draft.chmod(0o755)
        sync_folder(draft)
        os.replace(draft, out)
        sync(out.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def sync_folder(folder: Path) -> None:
    """Bring all that is in it to disk: a rename may get there before the files that it names."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises `CheckpointError` when the folder is missing, incomplete, damaged or of another format."""
    metadata = load_metadata(path)
    verify_files(path, metadata.files)
    return Checkpoint(path, metadata, StepHeads.load(path / HEADS))


def verify_files(path: Path, files: Mapping[str, str]) -> None:
    """Raises `CheckpointError` naming a file that is missing, not what was written, or was not written with the others:
    a model is loaded by what lies in its folder, so that one more file can make another model of it."""
    found = file_hashes(path)
    for name, digest in files.items():
        if name not in found:
            raise CheckpointError(f"{path}: {name} is missing")
        if found[name] != digest:
            raise CheckpointError(f"{path}: {name} is damaged (its hash is not the recorded one)")
    if unlisted := sorted(found.keys() - files.keys()):
        raise CheckpointError(f"{path}: {unlisted[0]} is no part of this checkpoint ({METADATA} does not list it)")


def load_metadata(path: Path) -> CheckpointMetadata:
    """Metadata alone of heads on frozen features, without checking the weights."""
    raw = read_metadata(path)
    if raw["format_version"] == FULL_FORMAT_VERSION:
        raise CheckpointError(f"{path}: a whole model, not heads on frozen features; `own.OwnPrm.load` reads it")
    try:
        adapter = raw["adapter"]
        read = {name: tuple(adapter[name]) for name in ("prefix_ids", "separator_ids", "layers")}
        return CheckpointMetadata(**{**raw, "adapter": Adapter(**read, max_tokens=adapter["max_tokens"])})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path}: {METADATA} is damaged ({error})") from error


def load_full_metadata(path: Path) -> FullMetadata:
    """Metadata alone of a whole model, without checking the weights."""
    raw = read_metadata(path)
    if raw["format_version"] != FULL_FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: heads on frozen features, not a whole model; `scoring.Scorer.load` reads it, and a whole model "
            f"can be built on its {BACKBONE} folder"
        )
    try:
        return FullMetadata(**raw)
    except TypeError as error:
        raise CheckpointError(f"{path}: {METADATA} is damaged ({error})") from error


def read_metadata(path: Path) -> dict[str, Any]:
    """What metadata.json holds, of whatever kind ("kind" and "format_version" are always there)."""
    try:
        return parse_metadata((path / METADATA).read_bytes(), str(path))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no checkpoint here ({METADATA} is missing)") from error
    except OSError as error:
        raise CheckpointError(f"{path}: {METADATA} is damaged ({error})") from error


def parse_metadata(content: bytes, place: str) -> dict[str, Any]:
    try:
        raw: dict[str, Any] = json.loads(content)
        version, _ = raw["format_version"], raw["kind"]
        if not all(isinstance(entry, str) for item in raw["files"].items() for entry in item):
            raise ValueError("files must map names to hashes")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{place}: {METADATA} is damaged ({error})") from error
    if version not in (FORMAT_VERSION, FULL_FORMAT_VERSION):
        raise CheckpointError(f"{place}: checkpoint format {version}, this code reads {FULL_FORMAT_VERSION} at most")
    return raw


def file_hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in (folder / METADATA, folder / CARD):
            with path.open("rb") as file:
                hashes[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def link_or_copy(source: str, target: str) -> None:
    """Files of a checkpoint never change, so a backbone can be shared by its descendants where the disk allows."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
