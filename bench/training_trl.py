"""TRL's side of bench/training.py, run by the interpreter that has TRL: knows nothing of prm_backend."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer, TrainerCallback
from trl.experimental.prm import PRMConfig, PRMTrainer


class InOrderTrainer(PRMTrainer):  # type: ignore[misc]  # not installed where types are checked
    """The solutions come in the order of the file, which is the order that the other side took."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Clock(TrainerCallback):  # type: ignore[misc, unused-ignore]  # the same
    """Seconds of each optimizer step on the wall and of the CPU, from the end of the one before."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
        self.last = (0.0, 0.0)

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.last = (time.monotonic(), time.process_time())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = (time.monotonic(), time.process_time())
        for name, before, after in zip(self.times, self.last, now, strict=True):
            self.times[name].append(after - before)
        self.last = now


def labels_of(row: dict[str, Any]) -> list[int]:
    """-100 where there is no loss."""
    labels = [-100] * len(row["ids"])
    for read, label in zip(row["reads"], row["labels"], strict=True):
        labels[read] = -100 if label is None else label
    return labels


def main() -> None:
    folder = Path(sys.argv[1])
    data = json.loads((folder / "data.json").read_text())
    rows = [data["train"][index] for index in data["order"]]
    dataset = Dataset.from_list([{"input_ids": row["ids"], "labels": labels_of(row)} for row in rows])
    model = AutoModelForTokenClassification.from_pretrained(folder / "model")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as out:
        quiet = {"save_strategy": "no", "eval_strategy": "no", "logging_strategy": "no", "report_to": "none"}
        arguments = PRMConfig(output_dir=out, disable_tqdm=True, **quiet, **data["trl"])
        clock = Clock()
        trainer = InOrderTrainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            processing_class=AutoTokenizer.from_pretrained(folder / "model"),
            callbacks=[clock],
        )
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {**clock.times, "peak_mib": peak / 1024, "grown_mib": (peak - before) / 1024}
    (folder / "trl.json").write_text(json.dumps(figures))
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "trl.safetensors")


if __name__ == "__main__":
    main()
