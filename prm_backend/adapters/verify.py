"""Is a downloaded checkpoint the one that its adapter describes, and does it score what its card says it scores?

    print(verify("checkpoints/qwen-prm", "qwen2.5-math-prm"))

The structure is checked from the files' headers, so a wrong download shows in seconds and names what is wrong. Where
the numbers on the card are known (`CARD_EXAMPLES`), the card's own input is scored and compared with them. Where they
are not, the report says so: nothing here then vouches for the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jinja2 import TemplateError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from prm_backend.adapters.card_examples import CARD_EXAMPLES, CardExample
from prm_backend.adapters.loaders import UNREADABLE, LoadedPrm, Tensors, folder_of, head_of, label_ids, load
from prm_backend.adapters.presets import adapter as preset
from prm_backend.adapters.render import Renderer
from prm_backend.adapters.spec import Adapter
from prm_backend.errors import CheckpointError, PrmError

T = TypeVar("T")
CARD = "card example"
PROBE = [{"role": "user", "content": "What is 1 + 1?"}, {"role": "assistant", "content": "It is 2."}]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `detail` says what was found, and what is wrong where `ok` is False."""

    what: str
    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """`ok` where nothing is wrong; `scored` where the numbers of a card were compared."""

    path: str
    adapter: str
    findings: tuple[Finding, ...]
    scored: bool

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        lines = [f"{self.path}, read as {self.adapter}"]
        lines += [f"  {'ok  ' if each.ok else 'FAIL'}  {each.what}: {each.detail}" for each in self.findings]
        if not self.scored and self.ok:
            lines.append(
                "  No card numbers are known for this checkpoint: its structure is right, its scores unchecked."
            )
        lines.append(f"  {'passed' if self.ok else 'FAILED'}")
        return "\n".join(lines)


class Checks:
    """Collects findings: what raises `PrmError` has failed, and what builds on it is not looked at."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def look(self, what: str, at: Callable[[], tuple[T, str]]) -> T | None:
        """What `at` gives, with the words for it; None where it failed."""
        try:
            found, detail = at()
        except PrmError as error:
            self.findings.append(Finding(what, False, str(error)))
            return None
        self.findings.append(Finding(what, True, detail))
        return found

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


def verify(
    path_or_id: str | Path,
    adapter: Adapter | str,
    *,
    base: str | Path = "",
    examples: Sequence[CardExample] = CARD_EXAMPLES,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Report:
    """Looks at everything that can be looked at; a bad checkpoint raises nothing, the report says what is
    wrong with it. Raises `PrmError` for an adapter that does not exist. `base` is the base model's folder, for LoRA."""
    chosen = preset(adapter) if isinstance(adapter, str) else adapter
    checks = Checks()
    known: Sequence[CardExample] = ()
    if (
        folder := checks.look("files", lambda: (folder_of(path_or_id, chosen.revision, chosen.subfolder), "found"))
    ) is not None:
        known = structure(checks, folder, chosen, examples)
    if checks.ok and (known or chosen.loader == "lora"):
        prm = checks.look(
            "loading", lambda: (load(folder or "", chosen, base=base, device=device, dtype=dtype), "done")
        )
        if prm is not None:
            for example in known:
                checks.look(f"{CARD} {example.solution.key}", partial(compared, prm, example))
    scored = any(finding.what.startswith(CARD) for finding in checks.findings)
    return Report(str(path_or_id), chosen.name, tuple(checks.findings), scored)


def structure(checks: Checks, folder: Path, adapter: Adapter, examples: Sequence[CardExample]) -> Sequence[CardExample]:
    """Everything but the scores; gives the examples whose numbers are of this very checkpoint."""
    if adapter.loader == "lora":
        return []
    if (tokenizer := checks.look("tokenizer", lambda: tokenizer_of(folder))) is not None:
        checks.look("text", lambda: text_of(adapter, tokenizer))
        if adapter.head == "label_tokens":
            checks.look("label words", lambda: words_of(adapter, tokenizer))
    body = checks.look("architecture", lambda: body_of(folder))
    if body is None:
        return []
    checks.look("body", lambda: tensors_of(folder, body))
    if tokenizer is not None:
        checks.look("head", lambda: head_in(folder, adapter, body, tokenizer))
    return [example for example in examples if example.is_of(adapter.name, body.config)]


def tokenizer_of(folder: Path) -> tuple[PreTrainedTokenizerBase, str]:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as error:
        raise CheckpointError(f"does not load ({error})") from error
    return tokenizer, f"{len(tokenizer)} tokens"


def text_of(adapter: Adapter, tokenizer: PreTrainedTokenizerBase) -> tuple[None, str]:
    """Whether separator, beginning-of-sequence token and chat template are those that the adapter states."""
    if adapter.head != "none":
        ids = list(Renderer(adapter, tokenizer).separator_ids)
        return None, f"the separator {adapter.separator!r} is {ids}" if adapter.separator else "steps can be told apart"
    try:
        tokenizer.apply_chat_template(PROBE, tokenize=False)
    except (ValueError, TemplateError) as error:
        raise CheckpointError(f"the tokenizer's chat template cannot be used ({error})") from error
    return None, "the chat template can be used"


def words_of(adapter: Adapter, tokenizer: PreTrainedTokenizerBase) -> tuple[None, str]:
    """Whether the label words have the ids that the adapter states."""
    told = []
    for word, token in zip(adapter.label_words, label_ids(adapter, tokenizer), strict=True):
        pieces = len(tokenizer(word, add_special_tokens=False)["input_ids"])
        told.append(f"{word!r} is {token}" + (f", the first of its {pieces} tokens" if pieces > 1 else ""))
    return None, "; ".join(told)


def body_of(folder: Path) -> tuple[Any, str]:
    """The base model that the configuration describes, without memory for its weights."""
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            body = AutoModel.from_config(config, trust_remote_code=False)
        return body, f"{config.model_type}, {config.num_hidden_layers} layers of {config.hidden_size}"
    except UNREADABLE as error:
        raise CheckpointError(f"the configuration cannot be used ({error})") from error


def tensors_of(folder: Path, body: nn.Module) -> tuple[None, str]:
    """Whether the files hold every tensor of the body, under whatever prefix its author saved it."""
    names, wanted = Tensors(folder).files, list(body.state_dict())
    first = next((name for name in sorted(names, key=len) if name.endswith(wanted[0])), wanted[0])
    prefix = first.removesuffix(wanted[0])
    missing = [prefix + name for name in wanted if prefix + name not in names]
    if missing:
        raise CheckpointError(f"tensor {missing[0]} is missing ({len(missing)} of {len(wanted)} in all)")
    return None, f"all {len(wanted)} tensors"


def head_in(folder: Path, adapter: Adapter, body: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[None, str]:
    """Whether the head's tensors are there in the shapes that its kind and the adapter's classes need."""
    if adapter.head == "none":
        tensors = Tensors(folder)
        if not body.config.tie_word_embeddings:
            tensors.read("lm_head.weight", (None, body.config.hidden_size))
        return None, "a language-modelling head"
    head = head_of(folder, adapter, body, tokenizer)
    shapes = ", ".join(" × ".join(map(str, weights.shape)) for weights in head.parameters())
    return None, f"{adapter.head.replace('_', ' ')}: {shapes}"


def compared(prm: LoadedPrm, example: CardExample) -> tuple[None, str]:
    """The card's numbers beside ours."""
    [(_, scores)] = prm.score([example.solution])
    ours, theirs = (", ".join(f"{p:.4f}" for p in row) for row in (scores.good, example.good))
    if within(scores.good, example.good, example.tolerance):
        return None, f"{ours}; the card states {theirs}"
    swapped = within([1 - p for p in scores.good], example.good, example.tolerance)
    hint = ": these are 1 minus the card's numbers, so the rows of good and bad are swapped" if swapped else ""
    raise CheckpointError(f"{ours}, but the card states {theirs} (± {example.tolerance:g}){hint}")


def within(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> bool:
    return len(ours) == len(theirs) and all(abs(a - b) <= tolerance for a, b in zip(ours, theirs, strict=True))
