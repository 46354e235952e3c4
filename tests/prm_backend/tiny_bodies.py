"""Tiny random backbones of many families with dropout and short windows, and trees to read with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DebertaV2Config,
    DebertaV2Model,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaModel,
)

from prm_backend.encoding import train_tokenizer
from prm_backend.types import Solution, SolutionTree, StepNode
from tests.prm_backend.tiny import byte_level_tokenizer

CAUSAL = ("qwen2", "qwen2-windows", "qwen3", "llama", "mistral", "mixtral", "gemma2")
ENCODERS = ("bert", "roberta", "modernbert")
WINDOW = 6  # tokens, far fewer than a solution has
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,  # so that attention is not nearly flat, and a wrong mask is seen
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SHAPE, "num_key_value_heads": 2}

SOLUTION = Solution(
    "s1",
    "p1",
    "Ann has 3 boxes of 12 pens and gives 7 away. How many are left?",
    ("She has 3 * 12 = 36 pens.", "36 - 7 = 29.", "So 29 pens are left, which is the answer."),
)
OTHER = Solution("s2", "p1", SOLUTION.problem, ("There are 12 pens.", "12 - 7 = 5."))
TREE = SolutionTree(
    "t1",
    "p1",
    SOLUTION.problem,
    (
        StepNode(SOLUTION.steps[0], -1),
        StepNode("She has 3 + 12 = 15 pens, I think.", -1),
        StepNode(SOLUTION.steps[1], 0),
        StepNode("15 - 7 = 8.", 1),
        StepNode("36 / 7 is not whole.", 0),
        StepNode(SOLUTION.steps[2], 2),
    ),
)


def model_of(family: str, vocabulary: int) -> PreTrainedModel:
    match family:
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **GROUPED))
        case "qwen2-windows":  # one layer with a window, one without
            windows = {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}
            return Qwen2ForCausalLM(Qwen2Config(vocab_size=vocabulary, **windows, **GROUPED))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocabulary, head_dim=8, **GROUPED))
        case "llama":
            return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **GROUPED))
        case "mistral":
            return MistralForCausalLM(MistralConfig(vocab_size=vocabulary, sliding_window=WINDOW, **GROUPED))
        case "mixtral":
            return MixtralForCausalLM(MixtralConfig(vocab_size=vocabulary, num_local_experts=4, **GROUPED))
        case "gemma2":
            return Gemma2ForCausalLM(Gemma2Config(vocab_size=vocabulary, head_dim=8, sliding_window=WINDOW, **GROUPED))
        case "mamba":
            return MambaForCausalLM(MambaConfig(vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2))
        case "deberta-v2":
            return DebertaV2Model(DebertaV2Config(vocab_size=vocabulary, relative_attention=True, **SHAPE))
        case "bert":
            return BertForMaskedLM(BertConfig(vocab_size=vocabulary, **SHAPE))
        case "roberta":
            return RobertaModel(RobertaConfig(vocab_size=vocabulary, **{**SHAPE, "pad_token_id": 1}))
        case "modernbert":
            windows = {"local_attention": 2 * WINDOW, "global_attn_every_n_layers": 2}
            tokens = {"cls_token_id": 1, "sep_token_id": 2}
            return ModernBertModel(ModernBertConfig(vocab_size=vocabulary, **windows, **tokens, **SHAPE))
    raise ValueError(family)


def random_backbone(family: str, folder: Path) -> Path:
    """A transformers folder with random weights (the same each time) and a tokenizer."""
    texts = [text for solution in (SOLUTION, OTHER) for text in (solution.problem, *solution.steps)]
    if family in ENCODERS:
        tokenizer = train_tokenizer(texts, vocabulary=400)
        tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    else:
        tokenizer = byte_level_tokenizer(texts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = model_of(family, len(tokenizer) + 8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def path_to(tree: SolutionTree, node: int) -> Solution:
    """The steps on the way to a node, as a solution of its own."""
    steps: list[str] = []
    while node >= 0:
        steps.insert(0, tree.nodes[node].text)
        node = tree.nodes[node].parent
    return Solution(tree.key, tree.problem_key, tree.problem, tuple(steps))
