"""The training loop: torch and accelerate over any discriminative PRM.

One process or several (started by `accelerate launch` or, on CPUs, torchrun): each optimizer step is made of the same
labeled trees either way, its loss is divided by the label weight of all of them, and so neither the number of processes
nor the cut into forward passes changes what is learned. FSDP goes through accelerate's own configuration; it is
untested here, as it needs GPUs.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, set_seed

from prm_backend.checkpoints import content_hash
from prm_backend.errors import Cancelled, NotEnoughData, PrmError
from prm_backend.finetuning.data import LabeledTree
from prm_backend.finetuning.examples import Examples, StepReader, read_examples
from prm_backend.finetuning.memory import MemoryEstimate, estimate_memory
from prm_backend.finetuning.plan import (
    PASS_TOKENS,
    epoch_order,
    forward_passes,
    learning_rate_factor,
    steps_of_stage,
    steps_per_epoch,
)
from prm_backend.finetuning.recipe import Recipe, Stage, Weights
from prm_backend.finetuning.state import (
    Position,
    State,
    Tensors,
    clear_states,
    load_state,
    random_state,
    save_state,
    set_random_state,
    weights_digest,
)
from prm_backend.finetuning.targets import class_weights_of
from prm_backend.finetuning.trainer import Trainer
from prm_backend.heads import EnsembleHead
from prm_backend.types import Progress, ReportProgress, ignore_progress

METRICS = "metrics.jsonl"
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True, slots=True)
class TrainResult:
    """`validation_loss` is that of the weights that the model now has, in nats for each unit of label weight;
    `class_weights` those that were used; `skipped` the keys of solutions too long for the model; `seconds` those of
    this call; `metrics` the file with one JSON line for each optimizer step and each validation."""

    optimizer_steps: int
    stopped_early: bool
    validation_loss: float | None
    class_weights: Weights | None
    solutions: int
    labeled_steps: int
    skipped: tuple[str, ...]
    memory: MemoryEstimate
    seconds: float
    metrics: Path


def train(
    reader: StepReader,
    train: Iterable[LabeledTree],
    validation: Iterable[LabeledTree],
    recipe: Recipe,
    out_dir: Path,
    *,
    resume: bool = True,
    progress: ReportProgress = ignore_progress,
    accelerator: Accelerator | None = None,
) -> TrainResult:
    """Train `reader.model` in place. `out_dir` takes the metrics and the resumable states, not a checkpoint.

    With `resume`, a run that was killed or cancelled goes on from its last state, and ends with the very weights it
    would have had; a finished one gives its weights at once. The model must come with the weights that the run began
    with: another model's, even of the same form, are another run. The global random numbers of torch are seeded.
    Raises `NotEnoughData` where no step carries a loss, `SolutionTooLong`, `PrmError` for a loss that is not a number,
    weights that diverge, or a state of another run or number of processes, and `Cancelled` when `progress` does, at
    the end of a step and after a state was written.
    """
    started = time.monotonic()
    accelerator = accelerator or accelerator_for(recipe)
    examples, held_out, class_weights = read_data(reader, list(train), validation, recipe)
    run = Run(reader, examples, held_out, recipe, Path(out_dir), progress, accelerator)
    run.start(resume=resume)
    run.finish()
    return TrainResult(
        optimizer_steps=run.position.done,
        stopped_early=run.position.stopped_early,
        validation_loss=run.position.validation_loss,
        class_weights=class_weights,
        solutions=len(examples.items),
        labeled_steps=sum(example.labeled_steps for example in examples.items),
        skipped=(*examples.skipped, *held_out.skipped),
        memory=run.memory,
        seconds=time.monotonic() - started,
        metrics=run.metrics,
    )


def read_data(
    reader: StepReader, train: Sequence[LabeledTree], validation: Iterable[LabeledTree], recipe: Recipe
) -> tuple[Examples, Examples, Weights | None]:
    """Both parts as token ids with targets, and the class weights used. Validation is not smoothed and not weighted by
    class, so that its loss is comparable between recipes."""
    class_weights = class_weights_of(train, recipe)
    head = reader.model.head
    heads = head.spec.heads if recipe.bootstrap and isinstance(head, EnsembleHead) and head.spec.heads > 1 else 0
    examples = read_examples(reader, train, recipe, class_weights=class_weights, bootstrap_heads=heads)
    held_out = read_examples(reader, validation, replace(recipe, label_smoothing=0.0))
    if not examples.items:
        raise NotEnoughData("no step of the training data carries a loss under this recipe")
    if recipe.patience is not None and not held_out.items:
        raise NotEnoughData("patience: early stopping needs validation data with labeled steps")
    return examples, held_out, class_weights


def accelerator_for(recipe: Recipe) -> Accelerator:
    """accelerate keeps one precision for a whole process; a process that trains twice may want two."""
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=PRECISIONS[recipe.precision])


class Run:
    """One training run of one model, from a position to its end."""

    def __init__(
        self,
        reader: StepReader,
        examples: Examples,
        held_out: Examples,
        recipe: Recipe,
        folder: Path,
        progress: ReportProgress,
        accelerator: Accelerator,
    ) -> None:
        if accelerator.mixed_precision != PRECISIONS[recipe.precision]:
            raise PrmError(f"precision: the recipe says {recipe.precision}, accelerate {accelerator.mixed_precision}")
        if recipe.precision == "fp16" and accelerator.device.type == "cpu":
            raise PrmError("precision: fp16 is not trained on a CPU (accelerate would take fp32 in silence); take bf16")
        self.examples, self.held_out, self.recipe, self.folder = examples, held_out, recipe, folder
        self.progress, self.accelerator = progress, accelerator
        self.trainer = Trainer(reader.model, recipe, accelerator, total_weight=examples.weight)
        self.lengths, self.held_out_lengths = examples.lengths, held_out.lengths
        self.metrics = folder / METRICS
        self.position = Position()
        self.best: Tensors | None = None
        began_with = weights_digest(reader.model.state_dict())
        self.name = content_hash([recipe.as_dict(), examples.digest(), held_out.digest(), began_with])
        self.memory = self._memory()
        self.steps = [steps_of_stage(stage, len(examples.items), recipe) for stage in recipe.stages]

    def _memory(self) -> MemoryEstimate:
        """Over the first epoch."""
        passes = [
            [self.lengths[index] for index in batch]
            for step in epoch_order(self.lengths, self.recipe, epoch=0)
            for process in self._cut(step, self.lengths)
            for batch in process
        ]
        with self.accelerator.autocast():
            return estimate_memory(
                self.trainer.model,
                passes,
                trees=any(not example.encoded.is_chain for example in self.examples.items),
                gradient_checkpointing=self.recipe.gradient_checkpointing,
            )

    def _cut(self, step: Sequence[int], lengths: Sequence[int]) -> list[list[list[int]]]:
        tokens = self.recipe.batch_tokens or PASS_TOKENS.get(self.accelerator.device.type, PASS_TOKENS["cuda"])
        return forward_passes(step, lengths, batch_tokens=tokens, processes=self.accelerator.num_processes)

    def start(self, *, resume: bool) -> None:
        """Take up the last state, or begin."""
        set_seed(self.recipe.seed, device_specific=True)
        state = load_state(self.folder, run=self.name) if resume else None
        self.accelerator.wait_for_everyone()
        if state is None:
            if self.accelerator.is_main_process:
                clear_states(self.folder)
            self._trim_metrics(0)
            if self.recipe.fresh_head:
                self.trainer.renew_head()
            self._write({"event": "start", "solutions": len(self.lengths), "memory": self.memory.as_dict()})
            return
        processes, now = len(state.rest["random"]), self.accelerator.num_processes
        if processes != now and not state.position.finished:
            raise PrmError(
                f"{self.folder}: the state of a run in {processes} processes; the {now} of now would draw other random "
                f"numbers; go on with {processes}, or train without resuming"
            )
        self.position, self.best = state.position, state.best
        self._trim_metrics(self.position.metrics_bytes)
        self.trainer.load_weights(state.weights)
        if not self.position.finished and state.rest["optimizer"] is not None:
            self.trainer.begin(self.recipe.stages[self.position.stage])
            self.trainer.load(state.rest)
        if processes == now:
            set_random_state(state.rest["random"][self.accelerator.process_index])

    def finish(self) -> None:
        """Train to the end. The model is unwrapped and in evaluation mode afterwards, whatever happens."""
        try:
            while not self.position.finished:
                stage = self.recipe.stages[self.position.stage]
                if not self.trainer.begun:
                    self.trainer.begin(stage)
                self._stage(stage)
        finally:
            self.trainer.end()

    def _stage(self, stage: Stage) -> None:
        position, examples = self.position, len(self.lengths)
        steps = self.steps[position.stage]
        epoch, order = -1, [[0]]
        while position.step < steps and not self._out_of_patience:
            current, offset = divmod(position.step, steps_per_epoch(examples, self.recipe))
            if current != epoch:
                epoch, order = current, epoch_order(self.lengths, self.recipe, epoch=current)
            row = self._optimizer_step(order[offset], learning_rate_factor(position.step, steps, self.recipe))
            position.step += 1
            position.done += 1
            self._write({"event": "step", "stage": position.stage, "epoch": current, **row})
            self._after_step(steps)
        self._end_of_stage()

    def _optimizer_step(self, step: Sequence[int], factor: float) -> dict[str, float]:
        started, started_cpu = time.monotonic(), time.process_time()
        passes = [
            [self.examples.items[index] for index in batch]
            for batch in self._cut(step, self.lengths)[self.accelerator.process_index]
        ]
        weight = sum(self.examples.items[index].weight for index in step)
        filler = min((self.examples.items[index] for index in step), key=lambda example: len(example.encoded))
        loss, norm = self.trainer.step(passes, filler, weight, factor)
        return {
            "loss": loss,
            "gradient_norm": norm,
            "learning_rate": self.trainer.learning_rate,
            "solutions": len(step),
            "labeled_steps": sum(self.examples.items[index].labeled_steps for index in step),
            "tokens": sum(self.lengths[index] for index in step),
            "seconds": time.monotonic() - started,
            "cpu_seconds": time.process_time() - started_cpu,
        }

    def _after_step(self, steps: int) -> None:
        position, recipe = self.position, self.recipe
        every = recipe.evaluate_every or steps_per_epoch(len(self.lengths), recipe)
        validated = bool(self.held_out.items) and (position.step % every == 0 or position.step == steps)
        if validated:
            self._validate()
        due = position.done % recipe.save_every == 0 if recipe.save_every else validated or position.step % every == 0
        if due:
            self._save()
        self._report(saved=due)

    def _validate(self) -> None:
        position = self.position
        cut = self._cut(range(len(self.held_out_lengths)), self.held_out_lengths)[self.accelerator.process_index]
        passes = [[self.held_out.items[index] for index in batch] for batch in cut]
        loss = self.trainer.served_loss(passes, self.held_out.items[0]) / self.held_out.weight
        position.validation_loss = loss
        position.stale += 1
        if position.best_loss is None or loss < position.best_loss:
            position.best_loss, position.stale = loss, 0
            if self.recipe.patience is not None:
                self.best = self.trainer.weights()
        self._write({"event": "validation", "stage": position.stage, "validation_loss": loss})

    @property
    def _out_of_patience(self) -> bool:
        return self.recipe.patience is not None and self.position.stale >= self.recipe.patience

    def _end_of_stage(self) -> None:
        position = self.position
        position.stopped_early = position.stopped_early or self._out_of_patience
        self.trainer.end()
        if self.best is not None:
            self.trainer.load_weights(self.best)
            position.validation_loss = position.best_loss
        position.stage, position.step, position.stale = position.stage + 1, 0, 0
        position.finished = position.stage == len(self.recipe.stages)
        self._save()

    def _report(self, *, saved: bool) -> None:
        """Tell the caller, in one process; all stop where it wants to."""
        cancelled: Cancelled | None = None
        total = sum(self.steps)
        if self.accelerator.is_main_process:
            try:
                self.progress(Progress(self.position.done, total, f"training: step {self.position.done} of {total}"))
            except Cancelled as error:
                cancelled = error
        if self.accelerator.num_processes > 1:
            told = torch.tensor([float(cancelled is not None)], device=self.accelerator.device)
            stop = bool(self.accelerator.reduce(told, "sum").item())
        else:
            stop = cancelled is not None
        if stop:
            if not saved:
                self._save()
            raise cancelled or Cancelled("training was cancelled in the main process")

    def _save(self) -> None:
        if self.metrics.exists():
            self.position.metrics_bytes = self.metrics.stat().st_size
        weights = self.trainer.weights()
        rest = {**self.trainer.rest(), "random": gather_object([random_state()])}
        if self.accelerator.is_main_process:
            save_state(self.folder, State(self.name, self.position, weights, rest, self.best))
        self.accelerator.wait_for_everyone()

    def _trim_metrics(self, size: int) -> None:
        """What was written after the state belongs to work that is done again."""
        if self.accelerator.is_main_process:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.metrics.open("ab") as file:
                file.truncate(min(size, file.tell()))

    def _write(self, row: dict[str, object]) -> None:
        """A number that JSON does not know is null."""
        if self.accelerator.is_main_process:
            safe = {
                name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in row.items()
            }
            with self.metrics.open("a") as file:
                file.write(json.dumps({"step": self.position.done, **safe}) + "\n")
