"""Measure training against TRL's PRMTrainer, which its last version with one (1.13.0) ran on the same machine.

    python bench/training.py --cache FOLDER --json figures.json --quick

Both train the same Qwen2 with random weights on the same token ids, labels, precision (fp32) and hyper-parameters, with
the same solutions in each optimizer step, in turns and in processes of their own. An optimizer step is clocked from
the end of the one before to its own end, on both sides, so that planning, data and callbacks count; the first of each
run is left out. The goal is the ratio of throughputs, labeled steps over seconds; the ratios of matched optimizer steps
and CPU time are told beside it, as wall time says little on a busy machine. The solutions
are real ones where ../shared/data has them, else generated. TRL is installed into a virtual environment below
`--cache`, with the same torch, transformers and accelerate; where that fails, its figures and the goals that need them
are "not measured". The exit code is 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, PreTrainedModel, PreTrainedTokenizerBase, Qwen2Config
from transformers.utils import logging as transformers_logging

from prm_backend.adapters.readout import softmax_over
from prm_backend.batching import Encoded, TokenBatch, token_batches
from prm_backend.encoding import train_tokenizer
from prm_backend.finetuning.data import LabeledTree, record_tree, solution_tree
from prm_backend.finetuning.loop import train
from prm_backend.finetuning.plan import epoch_order
from prm_backend.finetuning.recipe import Recipe, Stage
from prm_backend.formats import read_records
from prm_backend.stepmodel import StepModel
from prm_backend.synthetic import generate_rows
from prm_backend.types import (
    LABEL_OF_RATING,
    LabeledSolution,
    Progress,
    Solution,
    SolutionTree,
    StepLabel,
    problem_key,
    split_of_problem,
)

TRL = "1.13.0"
SHARED = Path(__file__).parents[2] / "shared" / "data"
FILES = ("processbench_gsm8k", "processbench_math", "processbench_olympiadbench", "processbench_omnimath")
SOLUTIONS_PER_STEP, TRL_BATCH = 16, 8
LEARNING_RATE, WARMUP, WEIGHT_DECAY, BETAS, CLIP = 1e-3, 0.1, 0.01, (0.9, 0.95), 1.0
GOAL_SPEED = 2.0


@dataclass(frozen=True)
class Size:
    steps: int
    repeats: int
    validation: int
    hidden: int
    layers: int


QUICK = Size(steps=4, repeats=1, validation=24, hidden=192, layers=3)
WHOLE = Size(steps=25, repeats=3, validation=200, hidden=320, layers=6)


def labeled_trees() -> tuple[str, list[LabeledTree]]:
    files = [SHARED / f"{name}.jsonl" for name in FILES]
    if all(file.exists() for file in files):
        return "ProcessBench", [record_tree(record) for file in files for record in read_records(file)]
    trees = []
    for row in generate_rows(problems=1000):
        problem, steps, ratings = str(row["problem"]), row["steps"], row["ratings"]
        assert isinstance(steps, list)
        assert isinstance(ratings, list)
        labels = tuple(None if rating is None else LABEL_OF_RATING[rating] for rating in ratings)
        solution = Solution(str(row["id"]), problem_key(problem), problem, tuple(steps))
        trees.append(solution_tree(LabeledSolution(solution, labels)))
    return "generated", trees


class Reader:
    """Ids as TRL makes them: problem, step, separator, step, separator, …, each tokenised on its own."""

    def __init__(self, model: StepModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer, self.separator = model, tokenizer, tokenizer.get_vocab()["<step>"]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode(self, tree: SolutionTree) -> Encoded:
        ids = self._ids(tree.problem)
        starts, ends = [], []
        for node in tree.nodes:
            starts.append(len(ids))
            ids += [*self._ids(node.text), self.separator]
            ends.append(len(ids))
        parents = tuple(node.parent for node in tree.nodes)
        return Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(end - 1 for end in ends), parents)


class StoredReader:
    """Ids that were made before."""

    def __init__(self, model: StepModel, encoded: dict[str, Encoded]) -> None:
        self.model, self.encoded = model, encoded

    def encode(self, tree: SolutionTree) -> Encoded:
        return self.encoded[tree.key]


def step_model(folder: Path) -> StepModel:
    model: Any = AutoModelForTokenClassification.from_pretrained(folder)
    return StepModel(model.model, model.score, softmax_over(("bad", "good")))


def random_model(size: Size, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        intermediate_size=4 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64,
        num_key_value_heads=size.hidden // 64,
        max_position_embeddings=8192,
        pad_token_id=tokenizer.pad_token_id,
    )
    config.num_labels = 2
    model: PreTrainedModel = AutoModelForTokenClassification.from_config(config)
    return model


def recipe_of(steps: int) -> Recipe:
    return Recipe(
        stages=(Stage("all", steps=steps, learning_rate=LEARNING_RATE),),
        solutions_per_step=SOLUTIONS_PER_STEP,
        warmup=WARMUP,
        weight_decay=WEIGHT_DECAY,
        betas=BETAS,
        max_grad_norm=CLIP,
        classes="two",
        save_every=steps + 1,  # neither side writes a state between its steps
        evaluate_every=steps,
    )


def prepare(folder: Path, size: Size) -> dict[str, Any]:
    """Write model, examples and the order of the solutions for both; returns what they are."""
    source, trees = labeled_trees()
    random.Random(0).shuffle(trees)
    trees = [tree for tree in trees if any(label is not None for label in tree.labels)]
    texts = (text for tree in trees[:400] for text in (tree.tree.problem, *(node.text for node in tree.tree.nodes)))
    tokenizer = train_tokenizer(texts, vocabulary=4096)
    model = random_model(size, tokenizer)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    reader = Reader(step_model(folder / "model"), tokenizer)
    parts = {"train": size.steps * SOLUTIONS_PER_STEP, "validation": size.validation}
    examples = {}
    for part, count in parts.items():
        chosen = [tree for tree in trees if (split_of_problem(tree.tree.problem) == "train") == (part == "train")]
        examples[part] = [example(reader.encode(tree.tree), tree) for tree in chosen[:count]]
    lengths = [len(row["ids"]) for row in examples["train"]]
    order = [index for step in epoch_order(lengths, recipe_of(size.steps), epoch=0) for index in step]
    (folder / "data.json").write_text(json.dumps({**examples, "order": order, "trl": trl_arguments(size)}))
    batches = [order[at : at + TRL_BATCH] for at in range(0, len(order), TRL_BATCH)]
    padded = sum(max(lengths[index] for index in batch) * TRL_BATCH for batch in batches)
    return {
        "source": source,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "solutions": len(lengths),
        "labeled_steps": sum(len(row["reads"]) for row in examples["train"]),
        "tokens": {"mean": statistics.mean(lengths), "most": max(lengths)},
        "trl_share_of_padding": round(1 - sum(lengths) / padded, 3),
    }


def example(encoded: Encoded, tree: LabeledTree) -> dict[str, Any]:
    """Labels: 0 for bad, 1 for not bad, None for steps nobody judged, which are read all the same."""
    labels = [None if label is None else int(label is not StepLabel.BAD) for label in tree.labels]
    return {"key": tree.tree.key, **asdict(encoded), "labels": labels}


def trl_arguments(size: Size) -> dict[str, Any]:
    return {
        "max_steps": size.steps,
        "per_device_train_batch_size": TRL_BATCH,
        "gradient_accumulation_steps": SOLUTIONS_PER_STEP // TRL_BATCH,
        "learning_rate": LEARNING_RATE,
        "warmup_steps": round(WARMUP * size.steps),
        "lr_scheduler_type": "cosine",
        "weight_decay": WEIGHT_DECAY,
        "adam_beta1": BETAS[0],
        "adam_beta2": BETAS[1],
        "max_grad_norm": CLIP,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "max_length": None,
    }


def stored(folder: Path, part: str) -> list[tuple[LabeledTree, Encoded]]:
    pairs = []
    for row in json.loads((folder / "data.json").read_text())[part]:
        solution = Solution(row["key"], row["key"], "", ("",) * len(row["reads"]))
        labels = tuple(None if label is None else (StepLabel.BAD, StepLabel.NOT_BAD)[label] for label in row["labels"])
        spans = (tuple(row[name]) for name in ("ids", "starts", "ends", "reads", "parents"))
        pairs.append((solution_tree(LabeledSolution(solution, labels)), Encoded(*spans)))
    return pairs


class Clock:
    """Seconds of each optimizer step on the wall and of the CPU, from the end of the one before."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
        self.last = (time.monotonic(), time.process_time())

    def __call__(self, progress: Progress, /) -> None:
        now = (time.monotonic(), time.process_time())
        for name, before, after in zip(self.times, self.last, now, strict=True):
            self.times[name].append(after - before)
        self.last = now


def run_ours(folder: Path) -> None:
    """In a process of its own: train, and leave seconds for each step, memory and weights."""
    pairs = stored(folder, "train")
    model = step_model(folder / "model")
    reader = StoredReader(model, {tree.tree.key: encoded for tree, encoded in pairs})
    steps = len(pairs) // SOLUTIONS_PER_STEP
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as states:
        clock = Clock()
        train(reader, [tree for tree, _ in pairs], [], recipe_of(steps), Path(states), progress=clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = {**clock.times, "peak_mib": peak / 1024, "grown_mib": (peak - before) / 1024}
    (folder / "ours.json").write_text(json.dumps(figures))
    tensors = {**model.body.state_dict(prefix="model."), **model.head.state_dict(prefix="score.")}
    save_file(tensors, folder / "ours.safetensors")


@torch.inference_mode()
def validation_loss(folder: Path, weights: Path | None) -> float:
    """Mean cross-entropy of "bad or not" over the judged validation steps, the same code for both."""
    model = step_model(folder / "model").eval()
    if weights is not None:
        tensors = load_file(weights)
        model.body.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        model.head.load_state_dict({n.removeprefix("score."): t for n, t in tensors.items() if n.startswith("score.")})
    pairs, total, count = stored(folder, "validation"), 0.0, 0
    for batch in token_batches([len(encoded) for _, encoded in pairs], most_tokens=8192):
        logs = model.logs(model(TokenBatch.of([pairs[index][1] for index in batch])))[:, 0]
        labels = [label for index in batch for label in pairs[index][0].labels]
        for log, label in zip(logs, labels, strict=True):
            if label is not None:
                total -= float(log[0] if label is StepLabel.BAD else log[3])
                count += 1
    return total / count


def trl_python(cache: Path) -> tuple[Path | None, str]:
    """An interpreter that can import TRL's trainer, and why not."""
    home = cache / f"trl-{TRL}"
    python = home / "bin" / "python"
    probe = [str(python), "-c", "import trl.experimental.prm"]
    if python.exists() and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        return python, ""
    venv.create(home, with_pip=True, clear=True)
    wanted = [
        f"trl=={TRL}",
        *(f"{name}=={version(name).split('+')[0]}" for name in ("torch", "transformers", "accelerate")),
    ]
    found = subprocess.run([python, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        found = subprocess.run(probe, capture_output=True, text=True, check=False)
    return (python, "") if found.returncode == 0 else (None, found.stderr.strip().splitlines()[-1][:300])


def contender(name: str, command: list[str], folder: Path, threads: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    figures = json.loads((folder / f"{name}.json").read_text())
    return {**figures, "validation_loss": validation_loss(folder, folder / f"{name}.safetensors")}


def measure(folder: Path, size: Size, python: Path | None, threads: int) -> Iterator[dict[str, Any]]:
    here = Path(__file__)
    for repeat in range(size.repeats):
        commands = {"ours": [sys.executable, str(here), "--run-ours", str(folder)]}
        if python is not None:
            commands["trl"] = [str(python), str(here.with_name("training_trl.py")), str(folder)]
        in_turn = list(commands)[:: 1 if repeat % 2 == 0 else -1]
        yield {name: contender(name, commands[name], folder, threads) for name in in_turn}


def summary(runs: list[dict[str, Any]], labeled: int) -> dict[str, Any]:
    """Throughputs over all repeats, and median, least and most over their optimizer steps."""
    per_step = labeled / len(runs[0]["ours"]["seconds"])
    figures: dict[str, Any] = {}
    for name in runs[0]:
        seconds = [value for run in runs for value in run[name]["seconds"][1:]]
        figures[name] = {
            "labeled_steps_per_s": round(per_step * len(seconds) / sum(seconds), 1),
            "seconds_per_optimizer_step": spread(seconds),
            "cpu_seconds_per_optimizer_step": spread([value for run in runs for value in run[name]["cpu_seconds"][1:]]),
            "peak_mib": spread([run[name]["peak_mib"] for run in runs]),
            "grown_mib": spread([run[name]["grown_mib"] for run in runs]),
            "validation_loss": spread([run[name]["validation_loss"] for run in runs]),
        }
    if "trl" in figures:
        ours, trl = (figures[name]["labeled_steps_per_s"] for name in ("ours", "trl"))
        figures["throughput_ratio"] = round(ours / trl, 4)
        for ratio, of in (("step_time_ratio", "seconds"), ("step_cpu_time_ratio", "cpu_seconds")):
            pairs = [pair for run in runs for pair in zip(run["trl"][of][1:], run["ours"][of][1:], strict=True)]
            figures[ratio] = spread([theirs / ours for theirs, ours in pairs])
    return figures


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 4),
        "least": round(min(values), 4),
        "most": round(max(values), 4),
    }


def goals_of(figures: dict[str, Any]) -> list[dict[str, Any]]:
    names = (f"labeled steps/s, ours over TRL {TRL}", f"validation loss, ours less TRL {TRL}")
    wanted = (f">= {GOAL_SPEED}", "<= 0.005")
    if "trl" not in figures:
        return [
            {"name": n, "value": "not measured", "goal": g, "met": None} for n, g in zip(names, wanted, strict=True)
        ]
    ratio = figures["throughput_ratio"]
    loss = figures["ours"]["validation_loss"]["median"] - figures["trl"]["validation_loss"]["median"]
    return [
        {"name": names[0], "value": round(ratio, 2), "goal": wanted[0], "met": ratio >= GOAL_SPEED},
        {"name": names[1], "value": round(loss, 4), "goal": wanted[1], "met": loss <= 0.005},
    ]


def machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "accelerate")},
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cache", type=Path, help="folder for TRL's virtual environment; without it TRL is left out")
    options.add_argument("--json", type=Path, help="write all figures and the goals to this file")
    options.add_argument("--quick", action="store_true", help="few steps of a small model, once")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--run-ours", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    transformers_logging.disable_progress_bar()
    if chosen.run_ours:
        run_ours(chosen.run_ours)
        return 0
    size = QUICK if chosen.quick else WHOLE
    python, why = trl_python(chosen.cache.resolve()) if chosen.cache else (None, "no --cache was given")
    if python is None:
        print(f"TRL {TRL} is not measured: {why}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        setting = {**prepare(folder, size), **asdict(size), "recipe": recipe_of(size.steps).as_dict()}
        runs = list(measure(folder, size, python, chosen.threads))
        figures = {**summary(runs, setting["labeled_steps"]), "untrained_loss": validation_loss(folder, None)}
    goals = goals_of(figures)
    print(json.dumps(figures, indent=2))
    for goal in goals:
        met = {None: "NOT MEASURED", True: "met", False: "MISSED"}[goal["met"]]
        print(f"{met:12} {goal['name']}: {goal['value']} (goal {goal['goal']})")
    if chosen.json:
        about = {"machine": machine(), "seconds": round(time.monotonic() - started), "trl": why or TRL}
        content = {**about, "setting": setting, "goals": goals, "figures": figures, "runs": runs}
        chosen.json.write_text(json.dumps(content, indent=2) + "\n")
    return 1 if any(goal["met"] is False for goal in goals) else 0


if __name__ == "__main__":
    sys.exit(main())
