"""Everything that decides what a training run does, as plain data that a checkpoint keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from prm_backend.errors import PrmError

Trains = Literal["head", "all"]
Classes = Literal["three", "two"]
Neutral = Literal["keep", "as_good", "ignore"]
Precision = Literal["fp32", "bf16", "fp16"]
TooLong = Literal["error", "skip"]
Weights = tuple[float, float, float]


class RecipeError(PrmError):
    """A recipe that cannot be followed; the message begins with the field."""


def _one_of(holder: object, name: str, kinds: Any) -> None:
    if getattr(holder, name) not in get_args(kinds):
        raise RecipeError(f"{name}: must be one of {', '.join(get_args(kinds))}, not {getattr(holder, name)!r:.40}")


def _number(
    holder: object,
    name: str,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    whole: bool = False,
    optional: bool = False,
) -> None:
    value = getattr(holder, name)
    if value is None and optional:
        return
    right_kind = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not right_kind or not math.isfinite(value):
        raise RecipeError(f"{name}: must be a {'whole ' if whole else ''}number, not {value!r:.40}")
    if not (least <= value <= most and above < value < below):
        bounds = [
            f"{sign} {bound}"
            for sign, bound in (("at least", least), ("at most", most), ("above", above), ("below", below))
            if math.isfinite(bound)
        ]
        raise RecipeError(f"{name}: must be {' and '.join(bounds)}, not {value}")


def _numbers(name: str, values: Any, count: int, *, least: float, below: float = math.inf) -> None:
    fits = isinstance(values, tuple) and len(values) == count
    if not fits or not all(isinstance(value, int | float) and least <= value < below for value in values):
        raise RecipeError(f"{name}: must be {count} numbers from {least}, not {values!r:.60}")
    if not any(values):
        raise RecipeError(f"{name}: all are 0")


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a run, with a schedule of its own. `trains` the head alone, or everything that was trainable in the
    model as it was given (with LoRA that is not the backbone). `epochs` may be a fraction; `steps`, where given, is the
    number of optimizer steps instead. `head_learning_rate` is that of the backbone where None."""

    trains: Trains = "all"
    epochs: float = 2.0
    steps: int | None = None
    learning_rate: float = 1e-5
    head_learning_rate: float | None = None

    def __post_init__(self) -> None:
        _one_of(self, "trains", Trains)
        _number(self, "epochs", above=0)
        _number(self, "steps", least=1, whole=True, optional=True)
        _number(self, "learning_rate", above=0)
        _number(self, "head_learning_rate", above=0, optional=True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    An optimizer step is made from `solutions_per_step` labeled trees over all processes; a forward pass holds at most
    `batch_tokens` padded tokens, or one tree (None: what suits the device, `plan.PASS_TOKENS`). How a step is cut into
    passes, and over how many processes, does not change what is learned. Trees are drawn anew in each epoch; those of
    `window_steps` steps are sorted by length together: more make denser batches, 1 keeps every step an unbiased draw.

    The learning rate rises over the first `warmup` share of a stage's steps and falls along a cosine to `floor` times
    its value. Validation takes place every `evaluate_every` steps (None: each epoch); with `patience`, a stage ends
    after that many validations in a row without a lower loss, and the best weights are taken. A resumable state is
    written every `save_every` steps (None: at each validation).

    `classes`: three (−, 0, +), or two: − against not −. `neutral` steps are kept, count as good, or carry no loss.
    `up_to_first_error`: steps behind a bad one carry no loss. `class_weights` of −, 0, + multiply the loss ("balanced":
    in inverse proportion to what the labels hold); not-bad takes the mean of 0 and +. `fresh_head` starts the head from
    new random weights, else training goes on from those given. Of an ensemble, `bootstrap` shows each head its own
    sample of the problems, and `pull` is the strength of its regulariser as a prior. `shared_prefixes` off writes trees
    out as plain solutions, for models that take no tree mask. `too_long` solutions raise, or are skipped and named.
    """

    stages: tuple[Stage, ...] = (Stage(),)
    solutions_per_step: int = 32
    batch_tokens: int | None = None
    window_steps: int = 1
    warmup: float = 0.05
    floor: float = 0.0
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    max_grad_norm: float | None = 1.0
    precision: Precision = "fp32"
    seed: int = 0
    evaluate_every: int | None = None
    save_every: int | None = None
    patience: int | None = None
    classes: Classes = "three"
    neutral: Neutral = "keep"
    up_to_first_error: bool = False
    class_weights: Weights | Literal["balanced"] | None = None
    label_smoothing: float = 0.0
    fresh_head: bool = False
    bootstrap: bool = True
    pull: float = 1.0
    shared_prefixes: bool = True
    gradient_checkpointing: bool = False
    too_long: TooLong = "error"

    def __post_init__(self) -> None:
        if not self.stages or not all(isinstance(stage, Stage) for stage in self.stages):
            raise RecipeError("stages: must be one stage or more")
        for name, kinds in (
            ("precision", Precision),
            ("classes", Classes),
            ("neutral", Neutral),
            ("too_long", TooLong),
        ):
            _one_of(self, name, kinds)
        for name in ("solutions_per_step", "window_steps"):
            _number(self, name, least=1, whole=True)
        for name in ("batch_tokens", "evaluate_every", "save_every", "patience"):
            _number(self, name, least=1, whole=True, optional=True)
        for name in ("warmup", "floor"):
            _number(self, name, least=0, most=1)
        _number(self, "weight_decay", least=0)
        _number(self, "pull", least=0)
        _number(self, "max_grad_norm", above=0, optional=True)
        _number(self, "seed", least=0, whole=True)
        _number(self, "label_smoothing", least=0, below=1)
        for name in ("up_to_first_error", "fresh_head", "bootstrap", "shared_prefixes", "gradient_checkpointing"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"{name}: must be true or false, not {getattr(self, name)!r}")
        _numbers("betas", self.betas, 2, least=0.0, below=1.0)
        if self.class_weights not in (None, "balanced"):
            _numbers("class_weights", self.class_weights, 3, least=0.0)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; `from_dict` of it is equal to the recipe."""
        row = asdict(self)
        row["stages"] = list(row["stages"])
        return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Recipe:
        """Fields left out take their defaults. Raises `RecipeError`, which names the field."""
        values = dict(_known(cls, row, ""))
        stages = values.pop("stages", None)
        if stages is not None:
            if not isinstance(stages, list | tuple):
                raise RecipeError(f"stages: must be a list, not {stages!r:.40}")
            values["stages"] = tuple(_stage(stage, f"stages[{index}]") for index, stage in enumerate(stages))
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**values)


def _stage(row: object, where: str) -> Stage:
    if not isinstance(row, Mapping):
        raise RecipeError(f"{where}: must be an object, not {row!r:.40}")
    try:
        return Stage(**_known(Stage, row, f"{where}."))
    except RecipeError as error:
        raise error if str(error).startswith(where) else RecipeError(f"{where}.{error}") from None


def _known(kind: type[Recipe] | type[Stage], row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    names = [field.name for field in fields(kind)]
    for name in row:
        if name not in names:
            raise RecipeError(f"{where}{name}: no such field; there are {', '.join(names)}")
    return row
