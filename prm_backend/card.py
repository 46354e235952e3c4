"""The model card of a checkpoint: what a stranger needs to know before using it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Metric = float | Mapping[str, float]

TUNED = {
    "full": "All weights of the backbone were trained.",
    "lora": "The backbone was tuned by a LoRA adapter (`lora/`); `backbone/` holds its untouched weights.",
    "frozen": "The backbone was left as it was; only the head was trained.",
}


def model_card(metadata: Mapping[str, Any]) -> str:
    """Markdown with a YAML head, from the fields of `checkpoints.FullMetadata`."""
    head, layout = metadata["head"], metadata["layout"]
    classes = "−, 0, +" if head["classes"] == 3 else "− against not −"
    return f"""---
base_model: {json.dumps(metadata["base_model"])}
library_name: transformers
tags:
- process-reward-model
---

# Process reward model on {inline(metadata["base_model"])}

Reads a mathematical problem with a solution in steps and gives each step the probability that it is bad (−), neutral
(0) or good (+). {TUNED[metadata["tuning"]]} The head is an ensemble of {head["heads"]} linear heads ({classes}); steps
are pooled by: {head["pooling"]}.

## Training data

- version: {inline(metadata["data_version"] or "not named")}
- hash of the labels: {f"`{inline(metadata['data_hash'])}`" if metadata["data_hash"] else "not known"}
- parent checkpoint: {f"`{inline(metadata['parent'])}`" if metadata["parent"] else "none"}

## Recipe

{table(("argument", "value"), [(name, inline(value)) for name, value in metadata["recipe"].items()])}

Code version `{inline(metadata["code_version"])}`.

## Figures

{table(("metric", "value"), [(name, figure(value)) for name, value in metadata["metrics"].items()])}

Intervals, where given, are those of the evaluation that produced the figure. A figure without baselines beside it
says little: position and length alone reach a good part of many scores.

## Limits

- It reads up to {layout["max_tokens"]} tokens and refuses longer solutions; it never cuts them.
- Problem, steps and separators are tokenised each on their own, as `metadata.json` records. Another separator or a
  chat template gives plausible numbers that mean nothing.
- A probability is a judgement of the text so far, not a proof, and is calibrated for data like its training data only.
- The spread between heads shows where the labels did not decide; it does not show errors that all heads share.

## How to load

```python
from pathlib import Path
from prm_backend.own import OwnPrm

prm = OwnPrm.load(Path("this/folder"))  # checks every file against its hash
```

The backbone alone loads with `transformers.AutoModel.from_pretrained("this/folder/backbone")`.
"""


def table(header: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    if not rows:
        return "None recorded."
    lines = [f"| {header[0]} | {header[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {inline(name)} | {value} |" for name, value in rows])


def figure(metric: Metric) -> str:
    if not isinstance(metric, Mapping) or "value" not in metric:
        return f"{metric:.4g}" if isinstance(metric, float) else inline(metric)
    interval = f" [{metric['lower']:.4g}, {metric['upper']:.4g}]" if {"lower", "upper"} <= metric.keys() else ""
    return f"{metric['value']:.4g}{interval}"


def inline(value: object) -> str:
    """On one line, and nothing in it that Markdown reads as its own."""
    text = " ".join((value if isinstance(value, str) else json.dumps(value, default=str)).split())
    return "".join(f"\\{mark}" if mark in "\\|`<[*_" else mark for mark in text)
