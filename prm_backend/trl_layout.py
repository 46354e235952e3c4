"""To and from the form that TRL's PRMTrainer left behind (removed from TRL in 2026): a token-classification model with
two labels, read at the last token of the separator behind each step; label 1 says correct. TRL trained on the beginning
token if there is one, the prompt, and each step with its separator, each tokenised on its own, and nothing between the
prompt and the first step.

What can be said in that form without loss is converted, and nothing else. A head of two classes is one linear layer of
two labels. A head of three is not: p(0) + p(+) = exp z0 + exp z+ is no exponential of a linear function. Nor is the
mean over several heads, nor pooling over a step's tokens; and an encoder of ours does not look ahead, while one of
TRL's does. A LoRA adapter is merged into the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForTokenClassification

from prm_backend.bodies import quiet_loading
from prm_backend.checkpoints import FullMetadata, content_hash, file_hashes, whole_folder
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.heads import HeadSpec
from prm_backend.own import OwnPrm


def to_trl(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint of kind "full" as a folder for `AutoModelForTokenClassification`, with its tokenizer. Score it
    with the separator that `OwnPrm.layout` holds. Raises `CheckpointError` when `checkpoint` does not load or `out`
    exists, `PrmError` where the model cannot be said in this form exactly."""
    prm = OwnPrm.load(checkpoint, device="cpu", dtype=torch.float32)
    refuse_what_is_not_exact(prm, checkpoint)
    body: Any = prm.model.body
    body = body.merge_and_unload() if isinstance(body, PeftModel) else body
    config = body.config
    config.id2label, config.label2id = {0: "LABEL_0", 1: "LABEL_1"}, {"LABEL_0": 0, "LABEL_1": 1}
    try:
        model = AutoModelForTokenClassification.from_config(config, dtype=torch.float32)
    except ValueError as error:
        raise PrmError(f"{checkpoint}: transformers classifies no tokens with {config.model_type}") from error
    linear = linear_of(model, checkpoint)
    model.base_model.load_state_dict(body.state_dict())
    with torch.no_grad():
        linear.weight.copy_(prm.model.head.weight[0])
        linear.bias.copy_(prm.model.head.bias[0])
    with whole_folder(out) as draft:
        model.save_pretrained(draft)
        prm.tokenizer.save_pretrained(draft)


def refuse_what_is_not_exact(prm: OwnPrm, checkpoint: Path) -> None:
    spec, layout = prm.model.head.spec, prm.layout
    start = prm.tokenizer.bos_token_id
    reasons = {
        "its body reads both ways, and TRL's would look ahead": not prm.model.causal,
        "a mean over several heads is not one linear layer": spec.heads > 1,
        "p(0) + p(+) of a three-class head is not linear; train a head of two classes": spec.classes != 2,
        "it pools the tokens of a step, and TRL reads one": spec.pooling != "last",
        "TRL puts nothing between problem and first step": bool(layout.problem_separator_ids),
        "TRL starts with the beginning token if the tokenizer has one": (
            layout.prefix_ids != (() if start is None else (start,))
        ),
    }
    found = [reason for reason, applies in reasons.items() if applies]
    if found:
        raise PrmError(f"{checkpoint}: cannot be written for TRL exactly: {'; '.join(found)}")


def from_trl(
    folder: Path, out: Path, *, separator: str, correct_label: int = 1, max_tokens: int | None = None
) -> FullMetadata:
    """Make a checkpoint of kind "full" from what PRMTrainer wrote. `separator` is the one that it was trained with
    (TRL's default was a line break; others were used, and a wrong one gives plausible numbers in silence). p(−) and
    p(0) + p(+) are those of the model; TRL knows no neutral, so p(0) is next to nothing. Raises `CheckpointError` when
    the folder does not load, is of another form, or reads both ways, or `out` exists."""
    if correct_label not in (0, 1):
        raise PrmError(f"correct_label must be 0 or 1, not {correct_label}")
    linear = trained_head(folder)
    prm = OwnPrm.build(
        folder,
        head=HeadSpec(heads=1, classes=2),
        separator=separator,
        problem_separator="",
        max_tokens=max_tokens,
        device="cpu",
        dtype=torch.float32,
    )
    if not prm.model.causal:
        raise CheckpointError(f"{folder}: an encoder, which TRL let look ahead at later steps")
    order = [1 - correct_label, correct_label]
    head = prm.model.head
    with torch.no_grad():
        head.weight[0] = head.anchor[0] = linear.weight[order]
        head.bias[0] = 0.0 if linear.bias is None else linear.bias[order]
    recipe = {"converted_from": "TRL PRMTrainer", "separator": separator, "correct_label": correct_label}
    return prm.save(out, data_hash="", parent=content_hash(file_hashes(folder)), recipe=recipe)


def trained_head(folder: Path) -> nn.Linear:
    try:
        with quiet_loading():
            model, found = AutoModelForTokenClassification.from_pretrained(
                folder, dtype=torch.float32, trust_remote_code=False, output_loading_info=True
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a token-classification model ({error})") from error
    if missing := sorted(found["missing_keys"]):
        raise CheckpointError(f"{folder}: weights are missing ({', '.join(missing[:3])})")
    return linear_of(model, folder)


def linear_of(model: Any, place: Path) -> nn.Linear:
    """The layer of a token-classification model that gives the labels."""
    linear = getattr(model, "score", None) or getattr(model, "classifier", None)
    if not isinstance(linear, nn.Linear) or linear.out_features != 2:
        raise CheckpointError(f"{place}: its head is not one linear layer of two labels")
    return linear
