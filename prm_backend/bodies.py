"""Backbones without a head: loaded on a device in a dtype, given a LoRA adapter, written so that plain transformers
and peft load them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging

from prm_backend.checkpoints import Tuning
from prm_backend.errors import CheckpointError, PrmError


def chosen_device(device: torch.device | str | None) -> torch.device:
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def training_dtype(device: torch.device, tuning: Tuning) -> torch.dtype:
    """Small updates vanish in bf16 weights, so what trains is fp32; CPUs read bf16 slower, or not at all."""
    half = device.type == "cuda" and torch.cuda.is_bf16_supported() and tuning != "full"
    return torch.bfloat16 if half else torch.float32


# How adapters may start; the other ways that peft knows move a part of the backbone's weights into the adapter.
HARMLESS_STARTS = (True, False, "gaussian", "orthogonal")


@contextmanager
def quiet_loading() -> Iterator[None]:
    """transformers reports at length which weights of a folder it did not use; what is missing is an error here."""
    talk = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(talk)


def load_backbone(source: Path | str, dtype: torch.dtype) -> tuple[Any, PreTrainedTokenizerBase]:
    """A base model without a head, and its tokenizer. Code that a checkpoint brings along is never run.

    Raises `CheckpointError` when it does not load, or when weights are missing, which transformers would make up."""
    try:
        with quiet_loading():
            body, found = AutoModel.from_pretrained(
                source, dtype=dtype, trust_remote_code=False, output_loading_info=True
            )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{source}: not a transformers model with its tokenizer ({error})") from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise CheckpointError(f"{source}: weights are missing ({', '.join(missing[:3])})")
    if hasattr(body, "pooler"):
        body.pooler = None  # reads the first token for a whole text: unused weights here
    return body.eval(), tokenizer


def with_lora(body: Any, arguments: Mapping[str, Any]) -> Any:
    """Raises `PrmError` for arguments that peft does not know, and for those that change or train weights of the
    backbone itself, which a checkpoint keeps as they were."""
    beyond = {"modules_to_save", "trainable_token_indices"} & arguments.keys()
    beyond |= {"bias"} if arguments.get("bias", "none") != "none" else set()
    beyond |= {"init_lora_weights"} if arguments.get("init_lora_weights", True) not in HARMLESS_STARTS else set()
    if beyond:
        raise PrmError(f"LoRA argument {', '.join(sorted(beyond))} would change the backbone beside the adapter")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will change
            return get_peft_model(body, LoraConfig(**{"target_modules": "all-linear", **arguments}))
    except (TypeError, ValueError) as error:
        raise PrmError(f"LoRA arguments {dict(arguments)}: {error}") from error


def save_backbone(body: Any, folder: Path) -> None:
    """The body as plain transformers loads it; an adapter on it is left out, and its names with it."""
    if not isinstance(body, PeftModel):
        body.save_pretrained(folder)
        return
    base: Any = body.get_base_model()
    state = {name.replace(".base_layer.", "."): value for name, value in base.state_dict().items()}
    base.save_pretrained(folder, state_dict={name: value for name, value in state.items() if ".lora_" not in name})


def load_lora(body: Any, folder: Path, *, trainable: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as above
        return PeftModel.from_pretrained(body, folder, is_trainable=trainable)


def save_lora(body: Any, folder: Path, *, base_model: str) -> None:
    body.peft_config["default"].base_model_name_or_path = base_model
    body.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)  # an empty form; the checkpoint has a card of its own
