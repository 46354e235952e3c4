"""One optimizer step, and one stage's optimizer: the part of the loop that touches tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from prm_backend.errors import PrmError
from prm_backend.finetuning.examples import Batch, Example
from prm_backend.finetuning.loss import Objective
from prm_backend.finetuning.recipe import Recipe, Stage
from prm_backend.finetuning.state import Tensors
from prm_backend.stepmodel import StepModel

# Gathered on one process where the model is sharded.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
PART = StateDictOptions(full_state_dict=True, strict=False)
PREFIX = "model."


class Trainer:
    """Trains `model` in the stages of a recipe. Between `begin` and `end` it is wrapped for the processes."""

    def __init__(self, model: StepModel, recipe: Recipe, accelerator: Accelerator, *, total_weight: float) -> None:
        self.model, self.recipe, self.accelerator = model.to(accelerator.device), recipe, accelerator
        self.trainable = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        if not self.trainable:
            raise PrmError("the model has no parameter that trains")
        self.frozen = {name for name, _ in model.named_parameters()} - set(self.trainable)
        self.pull = recipe.pull / total_weight if hasattr(model.head, "pull") else 0.0
        self.objective = Objective(model, pull=self.pull)
        self.optimizer: Any = None
        self.learning_rate = 0.0
        self.begun = False
        if recipe.gradient_checkpointing and not hasattr(model.body, "activation_checkpointing_enable"):
            raise PrmError("gradient_checkpointing: this backbone has none")

    def _checkpoint_gradients(self, *, on: bool) -> None:
        """Where the recipe wants it; what the model did before is not touched otherwise."""
        body: Any = self.model.body
        if self.recipe.gradient_checkpointing and on:
            body.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        elif self.recipe.gradient_checkpointing:
            body.activation_checkpointing_disable()

    def renew_head(self) -> None:
        """New random weights for everything but the backbone."""
        parts = [part for name, part in self.model.named_modules() if name and name.split(".")[0] != "body"]
        renewed = [part for part in parts if hasattr(part, "reset_parameters")]
        for part in renewed:
            part.reset_parameters()
        told = {id(parameter) for part in renewed for parameter in part.parameters(recurse=False)}
        if any(id(parameter) not in told for part in parts for parameter in part.parameters(recurse=False)):
            raise PrmError("fresh_head: this head cannot be started anew; build the PRM anew instead")

    def begin(self, stage: Stage) -> None:
        """A new optimizer for what the stage trains."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.trainable and (stage.trains == "all" or not _of_body(name)))
        self.objective = Objective(self.model, pull=self.pull)
        # One kernel for all parameters of a kind and device, on CPU too.
        optimizer = torch.optim.AdamW(self._groups(stage), lr=stage.learning_rate, betas=self.recipe.betas, fused=True)
        self._checkpoint_gradients(on=True)
        self.objective, self.optimizer = self.accelerator.prepare(self.objective, optimizer)
        self.begun = True

    def _groups(self, stage: Stage) -> list[dict[str, Any]]:
        """Vectors and biases do not decay, nor does a head that is drawn to weights of its own."""
        rates = {True: stage.learning_rate, False: stage.head_learning_rate or stage.learning_rate}
        groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                pulled = bool(self.pull) and name.startswith("head.")
                flat = parameter.ndim < 2 or name.endswith("bias") or pulled
                key = (rates[_of_body(name)], 0.0 if flat else self.recipe.weight_decay)
                groups.setdefault(key, []).append(parameter)
        if not groups:
            raise PrmError("stages: the head stage has nothing to train, the head of this model is frozen")
        return [
            {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]

    def end(self) -> None:
        """Unwrap the model, drop the optimizer; what trained stays trainable."""
        if self.begun:
            self.accelerator.unwrap_model(self.objective, keep_fp32_wrapper=False)
            self.accelerator.free_memory()
            self.objective = Objective(self.model, pull=self.pull)
            self.optimizer, self.begun = None, False
            self._checkpoint_gradients(on=False)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.trainable)
        self.model.eval()

    def step(
        self, passes: Sequence[Sequence[Example]], filler: Example, weight: float, factor: float
    ) -> tuple[float, float]:
        """One optimizer step from this process's passes: mean loss over the label weight of all processes, and the
        gradient's norm before clipping. An empty pass computes `filler` without loss."""
        processes = self.accelerator.num_processes
        self.model.train()
        losses = []
        for number, examples in enumerate(passes):
            batch = Batch.of(examples or [filler], device=self.accelerator.device, without_loss=not examples)
            # Wrappers average gradients over processes: the factor makes that the sum.
            share = 0.0 if number else weight / processes
            last = number == len(passes) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.objective):
                loss = self.objective(batch.tokens, batch.targets, batch.head_weights, share)
                self.accelerator.backward(loss * (processes / weight))
            losses.append(loss.detach())
        self._check(losses, passes, "loss")
        total = self.accelerator.reduce(torch.stack(losses).sum(), "sum")
        return float(total) / weight, self._update(factor)

    def _check(self, losses: Sequence[torch.Tensor], passes: Sequence[Sequence[Example]], what: str) -> None:
        if bool(torch.isfinite(torch.stack(list(losses))).all()):
            return
        keys = [
            example.key
            for loss, examples in zip(losses, passes, strict=True)
            if not torch.isfinite(loss)
            for example in examples
        ]
        raise PrmError(f"the {what} is not a number in a batch of the solutions {', '.join(keys[:10])}")

    def _update(self, factor: float) -> float:
        """The gradient's norm is not a number where a loss scaler found its scale too high; the scaler then leaves the
        weights as they are."""
        norm = math.nan
        limit = self.recipe.max_grad_norm
        parameters = [parameter for parameter in self.objective.parameters() if parameter.requires_grad]
        if limit is not None:
            clipped = self.accelerator.clip_grad_norm_(parameters, limit)
            norm = math.nan if clipped is None else float(clipped)
        if limit is not None and self.accelerator.scaler is None and not math.isfinite(norm):
            raise PrmError("the gradient is not a number")
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        self.learning_rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # Here, so that no state and no validation ever sees such weights.
        if not bool(torch.isfinite(torch.nn.utils.get_total_norm(parameters))):
            raise PrmError(
                "the training diverged: its weights are not finite after a step with learning rate "
                f"{self.learning_rate:g}; lower it, or set max_grad_norm"
            )
        return norm

    @torch.no_grad()
    def served_loss(self, passes: Sequence[Sequence[Example]], filler: Example) -> float:
        """Sum over all processes of the cross-entropy of the probabilities that the PRM would serve."""
        self.model.eval()
        losses = []
        for examples in passes:
            batch = Batch.of(examples or [filler], device=self.accelerator.device, without_loss=not examples)
            losses.append(self.objective(batch.tokens, batch.targets, None, 0.0, served=True))
        self._check(losses, passes, "validation loss")
        return float(self.accelerator.reduce(torch.stack(losses).sum(), "sum"))

    def weights(self) -> dict[str, torch.Tensor]:
        """What training changes, and the buffers; on the main process where the model is sharded."""
        whole = get_model_state_dict(self.objective, options=WHOLE)
        named = {name.removeprefix(PREFIX): tensor for name, tensor in whole.items() if torch.is_tensor(tensor)}
        return {name: tensor.clone().contiguous() for name, tensor in named.items() if name not in self.frozen}

    def load_weights(self, weights: Tensors) -> None:
        set_model_state_dict(self.objective, {PREFIX + name: w for name, w in weights.items()}, options=PART)

    def rest(self) -> dict[str, Any]:
        """Optimizer and loss scaler; None between stages."""
        optimizer = None
        if self.begun:
            optimizer = get_optimizer_state_dict(self.objective, self._bare, options=WHOLE)
        scaler = self.accelerator.scaler
        return {"optimizer": optimizer, "scaler": None if scaler is None else scaler.state_dict()}

    def load(self, rest: Mapping[str, Any]) -> None:
        set_optimizer_state_dict(self.objective, self._bare, rest["optimizer"], options=PART)
        if self.accelerator.scaler is not None and rest["scaler"] is not None:
            self.accelerator.scaler.load_state_dict(rest["scaler"])

    @property
    def _bare(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self.optimizer.optimizer
        return optimizer


def _of_body(name: str) -> bool:
    return name.startswith("body.")
