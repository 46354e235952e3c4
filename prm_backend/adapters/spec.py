"""An adapter says, as plain data, how one family of public PRMs wants its input and what its output means.

Step read-outs are not standardised, and a wrong separator or template gives plausible numbers in silence. So everything
that changes a score is a field here, is checked, and travels with each checkpoint. Light: no torch, no numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from prm_backend.errors import FormatError

SPEC_VERSION = 1

Loader = Literal["transformers", "lora", "policy_and_reference", "generator"]
Head = Literal["linear", "two_layers", "label_tokens", "ensemble", "none"]
Template = Literal["plain", "chat", "turns"]
Tokenization = Literal["joint", "separate"]
Bos = Literal["none", "required", "if_any"]
Position = Literal["separator", "last_step_token", "before_label"]
Readout = Literal["softmax", "sigmoid", "mean_sigmoid", "log_ratio", "generative"]
TooLong = Literal["error", "window"]

CLASSES = ("bad", "neutral", "good")
TWO_CLASSES = "p(−) = P(bad), p(0) = 0, p(+) = P(good)"
RULES: dict[Readout, str] = {
    "softmax": f"P = softmax over the classes in their order; with two of them {TWO_CLASSES}",
    "sigmoid": f"P(good) = sigmoid of the one output, P(bad) = 1 − P(good); {TWO_CLASSES}",
    "mean_sigmoid": f"P(good) = mean of the heads' sigmoids; {TWO_CLASSES}; spread = their standard deviation",
    "log_ratio": "r = beta · Σ over the step of (log p − log p of the reference); P(good) = sigmoid((r − threshold) / "
    f"scale); {TWO_CLASSES}",
    "generative": "P(bad) = (critiques that call the step bad + ½) / (critiques with a verdict on it + 1); "
    f"{TWO_CLASSES}",
}


@dataclass(frozen=True)
class Adapter:
    """How a PRM is read. In `step_prefix`, {i} becomes the number of the step, from 1.

    Layout of the text, by `template`:

    - plain: prompt_prefix, problem, prompt_suffix, then for each step step_prefix, the step and separator, with joiner
      between the separator and the next step
    - chat: `system` (where there is one), a user turn of prompt_prefix, problem and prompt_suffix, and the beginning of
      an assistant turn that holds the steps as above; the chat template is the tokenizer's own
    - turns: `system`, then for each step a user turn (prompt_prefix, problem and prompt_suffix stand before the first
      step in its turn) and an assistant turn that holds `turn_label`, whatever the step is worth

    Loading:
        loader: transformers (one folder), lora (a peft folder on a base model), policy_and_reference (log-ratio),
            generator (writes critiques)
        head, head_tensors: linear and two_layers (Linear, ReLU, Linear) under this tensor name; label_tokens reads the
            rows of the language-modelling head that belong to `label_ids`; ensemble is many networks of three layers
        subfolder: where a repository keeps the checkpoint, if not at its root
        base: the base model of a lora adapter, or the reference model of a log-ratio
        remote_code: the published repository needs its own code under plain transformers. Loading here never runs it
            where a native loader exists

    Reading:
        position: separator (its last token), last_step_token (before the separator), before_label (the token that
            predicts the label turn)
        separator, separator_ids: the ids that the tokenizer must give for it, where it stands behind a step; () = any
        bos: whether the tokenizer's beginning-of-sequence token stands before a plain text
        step_prefix: left out where a step begins with it by itself
        strip_steps: white space around a step is removed, because it would melt into the separator
        every_line: a step of several lines is cut at the separator, as in training; the end of its last line is judged
        read_offset: so many tokens before that position, but within the step
        label_words, label_ids: the words that answer "is the step right?", in the order of `classes`
        classes: the meaning of the outputs, in their order
        beta, threshold, scale: of a log-ratio, see its rule. With scale = beta and threshold 0, p(+) is the probability
            that the policy and not the reference wrote the step
        rule: how outputs become (p−, p0, p+), by `readout`

    max_tokens is the longest input of the checkpoint. What is longer is an error, or read in windows over the steps, as
    `too_long` says; input is never cut in silence.
    """

    name: str
    source: str
    licence: str
    loader: Loader
    head: Head
    readout: Readout
    template: Template
    tokenization: Tokenization
    position: Position
    max_tokens: int
    bos: Bos = "none"
    head_tensors: str = ""
    subfolder: str = ""
    base: str = ""
    system: str = ""
    prompt_prefix: str = ""
    prompt_suffix: str = ""
    step_prefix: str = ""
    separator: str = ""
    joiner: str = ""
    separator_ids: tuple[int, ...] = ()
    every_line: bool = False
    strip_steps: bool = False
    read_offset: int = 0
    turn_label: str = ""
    label_words: tuple[str, ...] = ()
    label_ids: tuple[int, ...] = ()
    classes: tuple[str, ...] = ("bad", "good")
    beta: float = 1.0
    threshold: float = 0.0
    scale: float = 1.0
    question: str = ""
    max_new_tokens: int = 0
    samples: int = 1
    too_long: TooLong = "error"
    revision: str = ""
    remote_code: bool = False
    notes: str = ""
    version: int = SPEC_VERSION

    def __post_init__(self) -> None:
        """Raises `FormatError` that names the field."""
        check_types(self)
        check_sense(self)

    @property
    def rule(self) -> str:
        """How the outputs become (p−, p0, p+)."""
        return RULES[self.readout]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Adapter:
        """Raises `FormatError` that names the field that is unknown, missing, or not what it should be."""
        if not isinstance(data, Mapping):
            raise FormatError(f"an adapter is an object, not {data!r}")
        known = {field.name: field for field in fields(cls)}
        for name in data:
            if name not in known:
                raise FormatError("an adapter has no such field", field=str(name))
        for name, field in known.items():
            if field.default is MISSING and name not in data:
                raise FormatError("is missing", field=name)
        if (version := data.get("version", SPEC_VERSION)) != SPEC_VERSION:
            raise FormatError(f"is {version!r}; this code reads version {SPEC_VERSION}", field="version")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)


def check_types(adapter: Adapter) -> None:
    """Raises `FormatError` for the first value that its annotation does not allow."""
    for name, kind in get_type_hints(Adapter).items():
        value = getattr(adapter, name)
        if get_origin(kind) is Literal:
            if value not in get_args(kind):
                raise FormatError(f"is {value!r}; it is one of {', '.join(get_args(kind))}", field=name)
        elif get_origin(kind) is tuple:
            item = get_args(kind)[0]
            if not isinstance(value, tuple) or any(type(entry) is not item for entry in value):
                raise FormatError(f"is {value!r}; it is a list of {item.__name__}", field=name)
        elif type(value) is not kind and not (kind is float and type(value) is int):
            raise FormatError(f"is {value!r}; it is of type {cast(type, kind).__name__}", field=name)


def check_sense(adapter: Adapter) -> None:
    """Raises `FormatError` for the first value that does not go with the others."""
    judged_outside = adapter.readout in ("log_ratio", "generative")
    wrong = {
        "name": not adapter.name or adapter.name != adapter.name.strip(),
        "max_tokens": adapter.max_tokens < 1,
        "samples": adapter.samples < 1,
        "max_new_tokens": adapter.max_new_tokens < 0
        or (adapter.readout == "generative" and not adapter.max_new_tokens),
        "beta": not 0 < adapter.beta < float("inf"),
        "threshold": not abs(adapter.threshold) < float("inf")
        or (adapter.readout != "log_ratio" and adapter.threshold != 0),
        "scale": not 0 < adapter.scale < float("inf") or (adapter.readout != "log_ratio" and adapter.scale != 1),
        "classes": not classes_make_sense(adapter),
        "head_tensors": bool(adapter.head_tensors) != (adapter.head in ("linear", "two_layers", "ensemble")),
        "head": (adapter.head == "none") != judged_outside,
        "label_words": adapter.head == "label_tokens" and len(adapter.label_words) != len(adapter.classes),
        "label_ids": len(adapter.label_ids) not in (0, len(adapter.label_words)),
        "separator": adapter.position == "separator" and not adapter.separator,
        "separator_ids": any(token < 0 for token in adapter.separator_ids)
        or (bool(adapter.separator_ids) and not adapter.separator),
        "every_line": adapter.every_line and (adapter.tokenization == "joint" or not adapter.separator),
        "position": (adapter.position == "before_label") != (adapter.template == "turns") and not judged_outside,
        "read_offset": adapter.read_offset < 0,
        "bos": adapter.bos != "none" and adapter.template != "plain",
        "turn_label": bool(adapter.turn_label) != (adapter.template == "turns"),
        "loader": judged_outside != (adapter.loader in ("policy_and_reference", "generator")),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise FormatError(f"{getattr(adapter, name)!r} does not go with the rest of the adapter", field=name)


def classes_make_sense(adapter: Adapter) -> bool:
    """Softmax has two or three known classes, each once; everything else tells good from bad."""
    known = len(set(adapter.classes)) == len(adapter.classes) and set(adapter.classes) <= set(CLASSES)
    if adapter.readout == "softmax":
        return known and {"bad", "good"} <= set(adapter.classes)
    return set(adapter.classes) == {"bad", "good"}
