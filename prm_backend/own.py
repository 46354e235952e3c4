"""A PRM of one's own on any transformers backbone, causal or encoder: built, read, saved and loaded.

Text layout: prefix, problem, problem separator, step 0, separator, step 1, separator, … Every piece is tokenised on its
own, so later steps never change the ids of earlier ones; a step is read at the last token of the separator behind it.

A step's score never depends on later steps. A causal body gives that for nothing. An encoder would look ahead, so it is
held to read in blocks: the tokens of the problem see each other, those of a step see the problem, the steps before it
on its way and the whole of their own step, in both directions. One pass then scores every step as if the later ones
were not there, and trees share their beginnings in encoders too. An encoder was not pretrained to read so: tune it, or
train its heads on what it gives under the same mask. That the mask is obeyed is tried when a body is loaded.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from prm_backend.batching import Encoded, TokenBatch
from prm_backend.bodies import (
    chosen_device,
    load_backbone,
    load_lora,
    save_backbone,
    save_lora,
    training_dtype,
    with_lora,
)
from prm_backend.card import Metric
from prm_backend.checkpoints import (
    BACKBONE,
    HEAD,
    LORA,
    FullMetadata,
    Tuning,
    link_or_copy,
    load_full_metadata,
    verify_files,
    write_full_checkpoint,
)
from prm_backend.encoding import Adapter, SolutionTooLong, StepEncoder
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.heads import EnsembleHead, HeadSpec, ensemble_readout, pooling_module
from prm_backend.masks import attention_mask
from prm_backend.stepmodel import StepModel
from prm_backend.types import Solution, SolutionTree

ENSEMBLE = HeadSpec()
TOKEN_FIELDS = ("prefix_ids", "problem_separator_ids", "separator_ids")
SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Layout:
    """What stands around problem and steps, as token ids, and how many tokens the way to a step may have."""

    prefix_ids: tuple[int, ...]
    problem_separator_ids: tuple[int, ...]
    separator_ids: tuple[int, ...]
    max_tokens: int

    def __post_init__(self) -> None:
        if not self.separator_ids:
            raise PrmError("the separator behind a step has no tokens in this tokenizer: there is nothing to read at")

    def as_dict(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Layout:
        prefix, problem, step = (tuple(map(int, raw[name])) for name in TOKEN_FIELDS)
        return cls(prefix, problem, step, int(raw["max_tokens"]))


class OwnStepModel(StepModel):
    """`body` with an `EnsembleHead` on the pooled hidden states of each step; raw output (S, heads, 3). A bidirectional
    body (`causal` is false) reads in blocks. `shares_beginnings`: the body obeys the mask of a tree."""

    head: EnsembleHead

    def __init__(self, body: nn.Module, head: EnsembleHead, pooling: nn.Module) -> None:
        super().__init__(body, head, ensemble_readout)
        self.pooling = pooling
        self.shares_beginnings = True
        # RoBERTa and its kin number positions from behind the padding id.
        embeddings: Any = getattr(body, "embeddings", None)
        numbered = hasattr(embeddings, "create_position_ids_from_input_ids")
        self.first_position = embeddings.padding_idx + 1 if numbered else 0

    @property
    def reads_trees(self) -> bool:
        return self.shares_beginnings

    def hidden(self, batch: TokenBatch) -> torch.Tensor:
        if self.causal:
            return super().hidden(batch)
        body: Any = self.body
        dtype = next(body.parameters()).dtype
        output = body(
            input_ids=batch.ids,
            attention_mask=attention_mask(batch, body.config, bidirectional=True, dtype=dtype),
            position_ids=batch.positions + self.first_position,
            use_cache=False,
        )
        hidden: torch.Tensor = output.last_hidden_state
        return hidden

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        raw: torch.Tensor = self.head(self.pooling(self.hidden(batch), batch))
        return raw

    def train(self, mode: bool = True) -> OwnStepModel:
        """A body that is not tuned keeps its dropout off."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.body.parameters()):
            self.body.eval()
        return self


@dataclass
class OwnPrm:
    """A step reader: `encode` and `model` are what scoring and training take. `base_model` names the backbone that it
    was built on; `metadata` is that of the checkpoint it was loaded from."""

    model: OwnStepModel
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    tuning: Tuning
    base_model: str
    metadata: FullMetadata | None = None
    # Where the untuned backbone already lies in a checkpoint: the next one links to it.
    kept_backbone: Path | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        adapter = Adapter(self.layout.prefix_ids, self.layout.separator_ids, (), self.layout.max_tokens)
        self._text_ids = StepEncoder(self.tokenizer, adapter).text_ids

    @classmethod
    def build(
        cls,
        backbone: Path | str,
        *,
        head: HeadSpec = ENSEMBLE,
        separator: str = SEPARATOR,
        problem_separator: str | None = None,
        max_tokens: int | None = None,
        lora: Mapping[str, Any] | None = None,
        frozen: bool = False,
        seed: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """Put fresh heads on a transformers folder (or hub name) of any causal or encoder model.

        All weights train, or with `lora` (arguments of `peft.LoraConfig`; all linear layers where it names none) only
        the adapter, or with `frozen` none of the body; the heads always. `problem_separator` is `separator` unless
        given. `dtype` is that of the body: bf16 on a GPU that has it, but fp32 where all its weights train, for the
        loop to cast by autocast; heads are fp32 always. Raises `CheckpointError` when the backbone does not load or
        cannot be held to read step by step, `PrmError` for a separator without tokens.
        """
        if lora is not None and frozen:
            raise PrmError("a frozen backbone takes no LoRA adapter: give one or the other")
        tuning: Tuning = "frozen" if frozen else "full" if lora is None else "lora"
        place = chosen_device(device)
        body, tokenizer = load_backbone(backbone, dtype or training_dtype(place, tuning))
        layout = layout_for(tokenizer, body.config, separator, problem_separator, max_tokens)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            body = body if lora is None else with_lora(body, lora)
        model = assemble(body, head, seed=seed).to(place)
        hold_to_steps(model, backbone)
        prm = cls(model, tokenizer, layout, tuning, Path(backbone).name)
        prm.tune("all")
        return prm

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        trainable: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> Self:
        """A checkpoint of kind "full". `trainable` gives what was trained before back for more (a warm start), in the
        dtype that `build` would choose; else all weights are fixed, in bf16 where a GPU has it. Raises
        `CheckpointError` when the folder is missing, incomplete, damaged or of another kind."""
        metadata = load_full_metadata(folder)
        verify_files(folder, metadata.files)
        place = chosen_device(device)
        wanted = dtype or training_dtype(place, metadata.tuning if trainable else "frozen")
        body, tokenizer = load_backbone(folder / BACKBONE, wanted)
        try:
            layout, spec = Layout.from_dict(metadata.layout), HeadSpec(**metadata.head)
            if metadata.tuning == "lora":
                body = load_lora(body, folder / LORA, trainable=trainable)
            model = assemble(body, spec)
            state = load_file(folder / HEAD)
            if state.keys() != head_state(model).keys():
                raise ValueError(f"{HEAD} holds {', '.join(sorted(state))}")
            model.load_state_dict(state, strict=False)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: the model does not load ({error})") from error
        model = model.to(place)
        hold_to_steps(model, folder)
        kept = None if metadata.tuning == "full" else folder / BACKBONE
        prm = cls(model, tokenizer, layout, metadata.tuning, metadata.base_model, metadata, kept)
        if trainable:
            prm.tune("all")
        else:
            model.requires_grad_(False).eval()
        return prm

    def tune(self, part: Literal["head", "all"]) -> None:
        """Choose what trains: the heads alone, as in the first stage of a staged recipe, or all that was built to."""
        self.model.requires_grad_(True)
        for name, parameter in self.model.body.named_parameters():
            trains = self.tuning == "full" or (self.tuning == "lora" and "lora_" in name)
            parameter.requires_grad_(part == "all" and trains)
        self.model.train(self.model.training)

    def encode(self, solution: Solution | SolutionTree) -> Encoded:
        """Raises `SolutionTooLong` when the way to a step has more tokens than the backbone can read, `PrmError` for a
        tree where the backbone cannot share beginnings (score each path alone) or where a step precedes its parent."""
        tree = SolutionTree.of(solution) if isinstance(solution, Solution) else solution
        layout = self.layout
        ids = [*layout.prefix_ids, *self._text_ids(tree.problem), *layout.problem_separator_ids]
        starts, ends, ways = [], [], [len(ids)]
        for index, node in enumerate(tree.nodes):
            if not -1 <= node.parent < index:
                raise PrmError(
                    f"solution {tree.key}: step {index} follows step {node.parent}, which does not precede it"
                )
            starts.append(len(ids))
            ids += [*self._text_ids(node.text), *layout.separator_ids]
            ends.append(len(ids))
            ways.append(ways[node.parent + 1] + ends[-1] - starts[-1])
        if max(ways) > layout.max_tokens:
            raise SolutionTooLong(
                f"solution {tree.key}: {max(ways)} tokens, but this model reads {layout.max_tokens} at most"
            )
        parents = tuple(node.parent for node in tree.nodes)
        encoded = Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(end - 1 for end in ends), parents)
        if not self.model.shares_beginnings and not encoded.is_chain:
            raise PrmError(f"solution {tree.key}: this backbone cannot share beginnings; score each path alone")
        return encoded

    def save(
        self,
        out: Path,
        *,
        data_hash: str,
        data_version: str = "",
        recipe: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Metric] | None = None,
        parent: str | None = None,
    ) -> FullMetadata:
        """Write a checkpoint of kind "full"; raises `CheckpointError` when `out` exists. An untuned backbone is shared
        with the checkpoint that it came from, where the disk allows."""

        def fill(draft: Path) -> None:
            if self.kept_backbone is not None and self.kept_backbone.exists():
                shutil.copytree(self.kept_backbone, draft / BACKBONE, copy_function=link_or_copy)
            else:
                save_backbone(self.model.body, draft / BACKBONE)
                self.tokenizer.save_pretrained(draft / BACKBONE)
            if self.tuning == "lora":
                save_lora(self.model.body, draft / LORA, base_model=self.base_model)
            save_file(head_state(self.model), draft / HEAD)

        metadata = write_full_checkpoint(
            out,
            fill,
            layout=self.layout.as_dict(),
            head=self.model.head.spec.as_dict(),
            tuning=self.tuning,
            base_model=self.base_model,
            data_hash=data_hash,
            data_version=data_version,
            parent=parent,
            recipe=recipe,
            metrics=metrics,
        )
        if self.tuning != "full":
            self.kept_backbone = out / BACKBONE
        return metadata


def layout_for(
    tokenizer: PreTrainedTokenizerBase,
    config: Any,
    separator: str,
    problem_separator: str | None,
    max_tokens: int | None,
) -> Layout:
    """White space has no tokens in most encoders' vocabularies: their own separator token then stands for it."""

    def ids_of(text: str) -> tuple[int, ...]:
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        return ids if ids or not text or tokenizer.sep_token_id is None else (tokenizer.sep_token_id,)

    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
    most = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return Layout(
        prefix_ids=() if start is None else (start,),
        problem_separator_ids=ids_of(separator if problem_separator is None else problem_separator),
        separator_ids=ids_of(separator),
        max_tokens=most if max_tokens is None else min(max_tokens, most),
    )


def assemble(body: Any, spec: HeadSpec, *, seed: int = 0) -> OwnStepModel:
    hidden = body.config.hidden_size
    return OwnStepModel(body, EnsembleHead(hidden, spec, seed=seed), pooling_module(spec, hidden))


def head_state(model: OwnStepModel) -> dict[str, torch.Tensor]:
    """All weights outside the body."""
    state = model.state_dict().items()
    return {name: value.contiguous() for name, value in state if not name.startswith("body.")}


@torch.no_grad()
def hold_to_steps(model: OwnStepModel, source: Path | str) -> None:
    """Find out by trial whether the body looks ahead, and whether it obeys the masks: what a token's hidden state may
    not depend on is changed, and must not change it. Raises `CheckpointError` for a body that cannot be read step by
    step at all."""
    model.eval()
    place = next(model.parameters()).device

    def moved(changed: int, parents: tuple[int, int], kept: slice) -> bool:
        """Does another token at `changed` move the hidden states of `kept`, measured by how much it moves its own?
        Experts of a mixture are multiplied in groups that depend on all tokens, so nothing is equal to the last bit."""
        hidden = []
        for token in (1, 4):
            ids = [1, 2, 3, 1, 2, 3]
            ids[changed] = token
            probe = Encoded(tuple(ids), (2, 4), (4, 6), (3, 5), parents)
            hidden.append(model.hidden(TokenBatch.of([probe], device=place))[0])
        difference = (hidden[0] - hidden[1]).float().abs()
        noise = 1e-5 if hidden[0].dtype == torch.float32 else 0.03
        return bool(difference[kept].max() > noise * difference[changed].max())

    try:
        model.causal = True
        model.causal = not moved(5, (-1, 0), slice(0, 4))
        if not model.causal and moved(5, (-1, 0), slice(0, 4)):
            raise ValueError("it looks ahead and does not obey a mask against it")
    except (TypeError, ValueError, AttributeError, NotImplementedError, RuntimeError, PrmError) as error:
        raise CheckpointError(f"{source}: this architecture cannot be read step by step ({error})") from error
    try:
        model.shares_beginnings = not moved(3, (-1, -1), slice(4, 6))
    except (ValueError, RuntimeError, PrmError):
        model.shares_beginnings = False
