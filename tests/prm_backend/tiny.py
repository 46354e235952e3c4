"""Small models and made-up solutions for the tests of the torch half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from prm_backend.encoding import train_tokenizer
from prm_backend.synthetic import generate_rows
from prm_backend.types import LABEL_OF_RATING, LabeledSolution, Solution, problem_key

FAMILIES = ("qwen2", "llama", "bert")
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}


def labeled_solutions(problems: int = 40, *, seed: int = 0) -> list[LabeledSolution]:
    rows: list[Any] = list(generate_rows(problems=problems, seed=seed))
    return [
        LabeledSolution(
            Solution(row["id"], problem_key(row["problem"]), row["problem"], tuple(row["steps"])),
            tuple(None if rating is None else LABEL_OF_RATING[rating] for rating in row["ratings"]),
        )
        for row in rows
    ]


def plain_solutions(problems: int = 40, *, seed: int = 0) -> list[Solution]:
    return [item.solution for item in labeled_solutions(problems, seed=seed)]


def byte_level_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """The kind that most language models have; it keeps white space."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    controls = ["<pad>", "<|begin|>", "<|end|>"]
    alphabet = ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=600, special_tokens=controls, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    names = dict(zip(("pad_token", "bos_token", "eos_token"), controls, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def random_model(family: str, folder: Path) -> Path:
    """A transformers model folder with random weights and a tokenizer."""
    texts = [text for solution in plain_solutions() for text in (solution.problem, *solution.steps)]
    tokenizer = byte_level_tokenizer(texts)
    model: PreTrainedModel
    if family == "bert":
        tokenizer = train_tokenizer(texts, vocabulary=600)
        tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
        model = BertModel(BertConfig(vocab_size=len(tokenizer), **SHAPE))
    elif family == "llama":
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **SHAPE))
    else:
        qwen = Qwen2Config(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, num_key_value_heads=2, **SHAPE)
        model = Qwen2ForCausalLM(qwen)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
