"""Checkpoints with random weights in the architectures and file layouts of the published ones."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    MistralModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from prm_backend.adapters import PRESETS
from tests.prm_backend.adapters import tokenizers

HEADS = {name: preset for name, preset in PRESETS.items() if preset.head != "none"}

WIDTH = 16
SHAPE: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.4,
    "tie_word_embeddings": False,
}
TOKENIZER_CLASSES = {"qwen2": "Qwen2Tokenizer", "llama": "PreTrainedTokenizerFast", "mistral": "LlamaTokenizer"}
HOSTILE_CODE = "raise AssertionError('code of a checkpoint ran')\n"


def qwen_config(**more: Any) -> Qwen2Config:
    return Qwen2Config(vocab_size=151652, bos_token_id=None, eos_token_id=151645, **SHAPE, **more)


def llama_config() -> LlamaConfig:
    return LlamaConfig(vocab_size=128010, bos_token_id=128000, eos_token_id=128009, **SHAPE)


def mistral_config() -> MistralConfig:
    return MistralConfig(vocab_size=12903, bos_token_id=1, eos_token_id=2, sliding_window=4096, **SHAPE)


def write(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    architecture: str = "",
    config: dict[str, Any] | None = None,
    prefix: str = "",
    head: dict[str, torch.Tensor] | None = None,
    shards: int = 1,
    torch_files: bool = False,
) -> Path:
    """A folder as `save_pretrained` writes it, with the published names put in where they differ."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    described = json.loads((folder / "config.json").read_text()) | (config or {})
    cut = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(cut | {"tokenizer_class": TOKENIZER_CLASSES[described["model_type"]]})
    )
    if architecture:
        described["architectures"] = [architecture]
    (folder / "config.json").write_text(json.dumps(described))
    file = folder / "model.safetensors"
    weights = {prefix + name: tensor for name, tensor in load_file(file).items()} | (head or {})
    file.unlink()
    names = sorted(weights)
    stem, suffix = ("pytorch_model", "bin") if torch_files else ("model", "safetensors")
    index: dict[str, str] = {}
    for shard in range(shards):
        part = {name: weights[name].contiguous() for name in names[shard::shards]}
        where = f"{stem}-{shard + 1:05}-of-{shards:05}.{suffix}" if shards > 1 else f"{stem}.{suffix}"
        index |= dict.fromkeys(part, where)
        if torch_files:
            torch.save(part, folder / where)
        else:
            save_file(part, folder / where, metadata={"format": "pt"})
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape) / shape[-1] ** 0.5


def qwen_prm(folder: Path) -> Path:
    head = {
        f"score.{layer}.{kind}": noise(*shape)
        for layer, rows in ((0, WIDTH), (2, 2))
        for kind, shape in (
            ("weight", (rows, WIDTH)),
            ("bias", (rows,)),
        )
    }
    remote = {"auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"}}
    write(
        folder,
        Qwen2Model(qwen_config()),
        tokenizers.qwen(),
        architecture="Qwen2ForProcessRewardModel",
        config=remote,
        prefix="model.",
        head=head,
        shards=3,
    )
    (folder / "code.py").write_text(HOSTILE_CODE)
    return folder


def math_shepherd(folder: Path) -> Path:
    return write(folder, MistralForCausalLM(mistral_config()), tokenizers.mistral(), shards=2, torch_files=True)


def llama_words(folder: Path) -> Path:
    return write(folder, LlamaForCausalLM(llama_config()), tokenizers.llama(), shards=2)


def qwen_words(folder: Path) -> Path:
    return write(folder, Qwen2ForCausalLM(qwen_config()), tokenizers.qwen())


def skywork(folder: Path) -> Path:
    head = {"v_head.summary.weight": noise(1, WIDTH), "v_head.summary.bias": noise(1)}
    tokenizer = tokenizers.qwen(bos="<|im_start|>")
    return write(
        folder, Qwen2ForCausalLM(qwen_config()), tokenizer, architecture="Qwen2ForPrmModel", head=head, torch_files=True
    )


def token_classification(folder: Path) -> Path:
    return write(folder, Qwen2ForTokenClassification(qwen_config(num_labels=2)), tokenizers.qwen())


def reasoneval_7b(folder: Path) -> Path:
    keys = {"score_dimension": 3, "use_bias": True}
    head = {"score_head.weight": noise(3, WIDTH), "score_head.bias": noise(3)}
    tokenizer = tokenizers.mistral(pad="<s>")
    return write(
        folder,
        MistralModel(mistral_config()),
        tokenizer,
        architecture="ReasonEval_7B",
        config=keys,
        prefix="model.",
        head=head,
    )


def reasoneval_34b(folder: Path) -> Path:
    keys = {"score_dim": 3, "bias": False}
    return write(
        folder,
        LlamaModel(llama_config()),
        tokenizers.llama(),
        architecture="ReasonEval_34B",
        config=keys,
        prefix="model.",
        head={"score_head.weight": noise(3, WIDTH)},
    )


def math_psa(folder: Path) -> Path:
    """The adapter's folder; its base model stands beside it."""
    base = write(folder.with_name(f"{folder.name}-base"), Qwen2ForCausalLM(qwen_config()), tokenizers.qwen())
    shape = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers for what it is about to drop
        tuned = get_peft_model(Qwen2ForCausalLM.from_pretrained(base), shape)
    for name, weights in tuned.named_parameters():
        if "lora_" in name:
            weights.data = noise(*weights.shape)
    tuned.save_pretrained(folder)
    return folder


def actprm(folder: Path) -> Path:
    heads, inner = 5, 8
    head = {
        f"score.{part}.{layer}.{kind}": noise(heads, *shape)
        for part in ("model", "reg_model")
        for layer, into, out in (("nn1", WIDTH, inner), ("nn2", inner, inner), ("nn_out", inner, 1))
        for kind, shape in (("weight", (into, out)), ("bias", (out,)))
    }
    config = {"num_ensemble": heads, "rr_token": "<extra_0>", "regularization_lambda": 0.5}
    return write(
        folder,
        Qwen2Model(qwen_config()),
        tokenizers.qwen(),
        architecture="Qwen2ForEnsemblePRM",
        config=config,
        prefix="model.",
        head=head,
    )


MAKERS: dict[str, Callable[[Path], Path]] = {
    "qwen2.5-math-prm": qwen_prm,
    "qwen2.5-math-7b-prm800k": qwen_prm,
    "math-shepherd-mistral": math_shepherd,
    "rlhflow-llama3.1-mistral": llama_words,
    "rlhflow-llama3.1-deepseek": llama_words,
    "fover": llama_words,
    "skywork-o1-prm": skywork,
    "pure": token_classification,
    "trl": token_classification,
    "trl-h4": token_classification,
    "reasoneval-7b": reasoneval_7b,
    "reasoneval-34b": reasoneval_34b,
    "versaprm": llama_words,
    "uw-qwen-prm800k": qwen_words,
    "math-psa": math_psa,
    "actprm": actprm,
}


def publish(name: str, folder: Path) -> Path:
    """A tiny checkpoint of the family that the preset `name` is for."""
    torch.manual_seed(sum(map(ord, name)))
    return MAKERS[name](folder)
