"""Checkpoints in the layout in which their authors published them, as a `StepModel`.

The body is a plain transformers model and the head is read tensor by tensor, so that neither remote code nor a wrapper
class is needed, and what is missing has a name. Where a PRM answers by words of its vocabulary, only their rows of the
language-modelling head are read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from prm_backend.adapters.presets import adapter as preset
from prm_backend.adapters.readout import EnsembleHead, readout_of
from prm_backend.adapters.render import Renderer
from prm_backend.adapters.spec import Adapter
from prm_backend.batching import Encoded
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.stepmodel import StepModel
from prm_backend.types import Solution, SolutionTree, StepScores

PINNED = re.compile(r"[0-9a-f]{40}")
UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    AttributeError,
    ImportError,
    EOFError,
    UnpicklingError,
    SafetensorError,
)


@dataclass(frozen=True, eq=False)
class LoadedPrm:
    """A public PRM with its tokenizer, ready to score: a step reader for `prm_backend.engine`."""

    adapter: Adapter
    tokenizer: PreTrainedTokenizerBase
    model: StepModel
    renderer: Renderer

    def encode(self, item: Solution | SolutionTree, /) -> Encoded:
        """Raises `SolutionTooLong` for what the model cannot read whole, and `PrmError` for a step that cannot be told
        from its surroundings."""
        return self.renderer.encode(item)

    def digest(self) -> str:
        """SHA-256 of all weights and of the tokenizer, in one pass over them. With the adapter it names what scores
        depend on, as a cache of them must."""
        content = hashlib.sha256()
        for name, weights in sorted(self.model.state_dict().items()):
            content.update(f"{name} {weights.dtype} {tuple(weights.shape)}".encode())
            content.update(weights.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        tokenizer: Any = self.tokenizer
        content.update(f"{tokenizer.backend_tokenizer.to_str()} {tokenizer.chat_template}".encode())
        return content.hexdigest()

    def score(self, solutions: Iterable[Solution | SolutionTree]) -> Iterator[tuple[str, StepScores]]:
        """(key, step scores) in input order; what is too long is treated as the adapter says."""
        from prm_backend.engine import score

        return score(self, solutions, too_long=self.adapter.too_long)


def load(
    path_or_id: str | Path,
    adapter: Adapter | str,
    *,
    base: str | Path = "",
    revision: str = "",
    allow_remote_code: bool = False,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> LoadedPrm:
    """A PRM from a folder, or from the Hugging Face hub by its id. `base` and `revision` stand in for the adapter's
    own; `device` is a GPU where there is one, `dtype` (of the body; heads are fp32) that of the checkpoint.

    Code that comes with a checkpoint runs only for an architecture that transformers does not have, only with
    `allow_remote_code`, and then only with a commit hash as revision.

    Raises `CheckpointError` for a checkpoint that does not load, lacks a tensor, has one of another shape, or whose
    tokenizer does not cut text as the adapter states; `PrmError` for an adapter of another kind.
    """
    chosen = preset(adapter) if isinstance(adapter, str) else adapter
    chosen = replace(chosen, revision=revision or chosen.revision, base=str(base) or chosen.base)
    if chosen.loader not in ("transformers", "lora"):
        kind = "implicit.ImplicitPrm" if chosen.readout == "log_ratio" else "generative.GenerativePrm"
        raise PrmError(f"adapter {chosen.name} has no head on a step: load it with prm_backend.adapters.{kind}")
    if allow_remote_code and not PINNED.fullmatch(chosen.revision):
        raise CheckpointError(f"{path_or_id}: remote code needs a pinned revision (a commit hash of 40 hex digits)")
    folder = folder_of(path_or_id, chosen.revision, chosen.subfolder)
    base_folder = folder_of(chosen.base, "") if chosen.loader == "lora" else folder
    described = folder if (folder / "tokenizer_config.json").exists() else base_folder
    remote = allow_remote_code and chosen.loader != "lora" and not is_known(folder)  # nothing pins a base model
    try:
        tokenizer = AutoTokenizer.from_pretrained(described, trust_remote_code=remote)
    except UNREADABLE as error:
        raise CheckpointError(f"{described}: the tokenizer does not load ({error})") from error
    renderer = Renderer(chosen, tokenizer)
    if chosen.loader == "lora":
        body, head = adapted(folder, base_folder, label_ids(chosen, tokenizer), dtype=dtype)
    else:
        body = body_of(folder, dtype=dtype, remote_code=remote)
        head = head_of(folder, chosen, body, tokenizer)
    model = StepModel(body, head.float(), readout_of(chosen))
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return LoadedPrm(chosen, tokenizer, model.to(where).eval().requires_grad_(False), renderer)


def folder_of(path_or_id: str | Path, revision: str, subfolder: str = "") -> Path:
    """The folder itself, or a downloaded copy of the repository; in it `subfolder`, where there is one."""
    folder = Path(path_or_id)
    if not folder.is_dir():
        try:
            folder = Path(snapshot_download(str(path_or_id), revision=revision or None))
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            raise CheckpointError(f"{path_or_id}: no such folder, and nothing on the hub ({error})") from error
    return folder / subfolder if (folder / subfolder).is_dir() else folder


def is_known(folder: Path) -> bool:
    """Whether transformers has this architecture itself, so that no code of the checkpoint's is needed."""
    try:
        return bool(json.loads((folder / "config.json").read_text())["model_type"] in CONFIG_MAPPING)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: config.json cannot be read ({error})") from error


@contextmanager
def without_load_report() -> Iterator[None]:
    """transformers warns of tensors that the body has no use for: the head, which is read apart."""
    logger = logging.getLogger("transformers.modeling_utils")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def body_of(folder: Path, *, dtype: torch.dtype | None, remote_code: bool) -> PreTrainedModel:
    """The base model without any head. Raises `CheckpointError` naming the first tensor that the files lack."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code)
        with without_load_report():
            loading: Any = AutoModel.from_pretrained(
                folder, config=config, dtype=dtype or "auto", output_loading_info=True, trust_remote_code=remote_code
            )
    except UNREADABLE as error:
        raise CheckpointError(f"{folder}: the model does not load ({error})") from error
    model, report = loading
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"{folder}: tensor {missing[0]} is missing ({len(missing)} in all)")
    body = getattr(model, model.base_model_prefix, model)
    assert isinstance(body, PreTrainedModel)
    return body


def head_of(folder: Path, adapter: Adapter, body: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> nn.Module:
    """The layer that judges, in the checkpoint's own dtype."""
    tensors, width = Tensors(folder), int(body.config.hidden_size)
    outputs = len(adapter.classes) if adapter.readout == "softmax" else 1
    name = adapter.head_tensors
    if adapter.head == "label_tokens":
        tied = body.config.tie_word_embeddings and "lm_head.weight" not in tensors
        rows = label_ids(adapter, tokenizer)
        if tied:
            embeddings: Any = body.get_input_embeddings()
            return linear(embeddings.weight.detach()[list(rows)])
        return linear(tensors.read("lm_head.weight", (None, width), rows=rows))
    if adapter.head == "linear":
        bias = tensors.read(f"{name}.bias", (outputs,)) if f"{name}.bias" in tensors else None
        return linear(tensors.read(f"{name}.weight", (outputs, width)), bias)
    if adapter.head == "two_layers":
        first = linear(tensors.read(f"{name}.0.weight", (None, width)), tensors.read(f"{name}.0.bias", (None,)))
        last = tensors.read(f"{name}.2.weight", (outputs, first.out_features))
        return nn.Sequential(first, nn.ReLU(), linear(last, tensors.read(f"{name}.2.bias", (outputs,))))
    layers: tuple[tuple[str, int | None, int | None], ...] = (
        ("nn1", width, None),
        ("nn2", None, None),
        ("nn_out", None, 1),
    )
    return EnsembleHead(
        [
            (tensors.read(f"{name}.{part}.weight", (None, into, out)), tensors.read(f"{name}.{part}.bias", (None, out)))
            for part, into, out in layers
        ]
    )


def linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return layer


def adapted(
    folder: Path, base: Path, rows: tuple[int, ...], *, dtype: torch.dtype | None
) -> tuple[nn.Module, nn.Module]:
    """Body and head of a causal language model with a peft adapter merged into it."""
    from peft import PeftModel

    try:
        loading: Any = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype or "auto", output_loading_info=True, trust_remote_code=False
        )
        plain, report = loading
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="Found missing adapter keys")  # peft goes on without them
            merged: Any = PeftModel.from_pretrained(plain, folder).merge_and_unload()
    except (*UNREADABLE, UserWarning) as error:
        raise CheckpointError(f"{folder}: the adapter does not load on {base} ({error})") from error
    if report["missing_keys"]:
        raise CheckpointError(f"{base}: tensor {sorted(report['missing_keys'])[0]} is missing")
    return merged.base_model, linear(merged.get_output_embeddings().weight.detach()[list(rows)])


def label_ids(adapter: Adapter, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The id of each label word, which is that of its first token. Raises `CheckpointError` where the tokenizer gives
    others than the adapter states, or the same for two words."""
    found = []
    for word in adapter.label_words:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        if not ids or ids[0] == tokenizer.unk_token_id:
            raise CheckpointError(f"the tokenizer does not know the label {word!r} of adapter {adapter.name}")
        found.append(ids[0])
    if adapter.label_ids and tuple(found) != adapter.label_ids:
        raise CheckpointError(
            f"the tokenizer gives {found} for the labels {list(adapter.label_words)}; adapter {adapter.name} states "
            f"{list(adapter.label_ids)}"
        )
    if len(set(found)) < len(found):
        raise CheckpointError(f"the labels {list(adapter.label_words)} begin with the same token")
    return tuple(found)


class Tensors:
    """Single tensors of a checkpoint: safetensors or torch files, in one piece or sharded. Nothing else of a torch file
    is unpickled."""

    def __init__(self, folder: Path) -> None:
        """Raises `CheckpointError` where there are no weights, or an index that cannot be read."""
        self.folder = folder
        self.files: dict[str, Path] = {}
        try:
            for name in ("model.safetensors", "pytorch_model.bin"):
                index = folder / f"{name}.index.json"
                if index.exists():
                    weights = json.loads(index.read_text())["weight_map"]
                    self.files = {tensor: folder / file for tensor, file in weights.items()}
                elif (folder / name).exists():
                    self.files = dict.fromkeys(self._names(folder / name), folder / name)
                if self.files:
                    return
        except (*UNREADABLE, TypeError) as error:
            raise CheckpointError(f"{folder}: the weights cannot be read ({error})") from error
        raise CheckpointError(f"{folder}: there are no weights (model.safetensors or pytorch_model.bin)")

    def __contains__(self, name: str) -> bool:
        return name in self.files

    def read(self, name: str, shape: tuple[int | None, ...], *, rows: tuple[int, ...] = ()) -> torch.Tensor:
        """The tensor, or some rows of it. Raises `CheckpointError` where it is missing or of another shape; None in
        `shape` is any size."""
        if name not in self.files:
            raise CheckpointError(f"{self.folder}: tensor {name} is missing")
        try:
            tensor = self._slice(self.files[name], name)
        except UNREADABLE as error:
            raise CheckpointError(f"{self.folder}: tensor {name} cannot be read ({error})") from error
        found = tuple(tensor.get_shape() if hasattr(tensor, "get_shape") else tensor.shape)
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=True))
        if not fits or (rows and max(rows) >= found[0]):
            wanted = " × ".join("any" if size is None else str(size) for size in shape)
            raise CheckpointError(
                f"{self.folder}: tensor {name} is {' × '.join(map(str, found))}; the model and its adapter need"
                f" {wanted}"
            )
        whole = torch.cat([tensor[row : row + 1] for row in rows]) if rows else tensor[:]
        return whole.clone()

    def _names(self, file: Path) -> list[str]:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                return list(opened.keys())
        return list(torch.load(file, map_location="cpu", weights_only=True, mmap=True))

    def _slice(self, file: Path, name: str) -> Any:
        if file.suffix == ".safetensors":
            opened: Any = safe_open(file, framework="pt")
            return opened.get_slice(name)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)[name]
