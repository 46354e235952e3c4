"""`pretrain` and `train`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prm_backend.cli.files import (
    FORMATS_READ,
    Commands,
    command,
    json_file,
    labeled_solutions,
    quiet_transformers,
    records,
    report,
    solution_of,
)
from prm_backend.errors import CheckpointError, PrmError

if TYPE_CHECKING:
    from prm_backend.finetuning.data import LabeledTree
    from prm_backend.finetuning.recipe import Recipe
    from prm_backend.own import OwnPrm

CALIBRATION_SAMPLE = 512  # solutions
HEADS = 8
BLANK_LINE = "\n\n"
OF_A_NEW_MODEL = ("lora", "classes", "separator", "max_tokens")


def add(commands: Commands) -> None:
    made = command(
        commands,
        "pretrain",
        pretrain,
        "Make a cold-start checkpoint from unlabeled solutions; labels are ignored.",
        "pretrain pool.jsonl checkpoints/cold",
    )
    made.add_argument("pool", type=Path, nargs="+", help=f"files of solutions ({FORMATS_READ}); not those to test on")
    made.add_argument("out", type=Path, help="checkpoint folder to write")
    made.add_argument("--backbone", type=Path, help="a transformers model folder to use instead of training a tiny one")
    made.add_argument("--seconds", type=float, help="stop after so many CPU seconds over all cores")
    made.add_argument("--steps", type=int, help="number of updates (default: about 200 CPU seconds of them)")
    made.add_argument("--seed", type=int, default=0)

    made = command(
        commands,
        "train",
        train,
        "Train a PRM on labeled solutions. On a cold-start checkpoint, step heads are fitted in seconds and its "
        "backbone stays as it is; a transformers model, or a checkpoint trained whole, is trained by a recipe.",
        "train checkpoints/cold labels.jsonl checkpoints/first\n"
        "  accelerate launch -m prm_backend train models/Qwen3-4B labels.jsonl checkpoints/tuned --lora 16",
    )
    made.add_argument("parent", type=Path, help="a checkpoint, or a transformers model folder")
    made.add_argument("labels", type=Path, nargs="+", help=f"files of labeled solutions ({FORMATS_READ})")
    made.add_argument("out", type=Path, help="checkpoint folder to write; a whole training keeps its states in OUT.run")
    made.add_argument("--heads", type=positive, help=f"heads of the ensemble (default: {HEADS})")
    made.add_argument("--seed", type=int, help="(default: 0, or the recipe's)")
    made.add_argument("--cache", type=Path, help="heads: folder for step features, which makes the next run quick")
    whole = made.add_argument_group("training whole")
    whole.add_argument("--recipe", type=Path, help="JSON file; fields left out take the defaults of finetuning.Recipe")
    whole.add_argument("--validation", type=Path, nargs="+", help="files of labeled solutions to validate on")
    whole.add_argument("--lora", type=positive, metavar="RANK", help="train a LoRA adapter, not all weights")
    whole.add_argument("--classes", type=int, choices=[2, 3], help="3: −, 0, + (the default); 2: − against not −")
    whole.add_argument("--separator", help="what stands behind each step (default: a blank line)")
    whole.add_argument("--max-tokens", type=positive, help="read no more than this (default: what the model can)")


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    if not (number := int(text)) >= 1:
        raise ValueError(text)
    return number


def pretrain(options: argparse.Namespace) -> None:
    from prm_backend.pretraining import DEFAULT_STEPS, init_backbone, pretrain_embedded

    quiet_transformers()
    pool = map(solution_of, records(options.pool))
    if options.backbone:
        init_backbone(options.backbone, options.out, solutions=list(islice(pool, CALIBRATION_SAMPLE)))
        return
    pretrain_embedded(
        list(pool),
        options.out,
        seed=options.seed,
        seconds=options.seconds,
        steps=options.steps or DEFAULT_STEPS,
        progress=report,
    )


def train(options: argparse.Namespace) -> None:
    from prm_backend.checkpoints import METADATA, read_metadata

    quiet_transformers()
    if (options.parent / METADATA).exists() and read_metadata(options.parent).get("kind") != "full":
        train_heads(options)
    elif (options.parent / METADATA).exists() or (options.parent / "config.json").exists():
        train_whole(options)
    else:
        raise CheckpointError(f"{options.parent}: neither a checkpoint nor a transformers model folder")


def train_heads(options: argparse.Namespace) -> None:
    from prm_backend import training

    refuse(options, ("recipe", "validation", *OF_A_NEW_MODEL), f"is for training whole; {options.parent} is frozen")
    metadata = training.train_heads(
        options.parent,
        labeled_solutions(options.labels),
        options.out,
        cache_dir=options.cache,
        heads=options.heads or HEADS,
        seed=options.seed or 0,
        progress=report,
    )
    print(json.dumps(metadata.metrics))


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """What was asked for and would have no effect."""
    for name in names:
        if getattr(options, name) is not None:
            raise PrmError(f"--{name.replace('_', '-')} {why}")


def train_whole(options: argparse.Namespace) -> None:
    from prm_backend.checkpoints import content_hash
    from prm_backend.finetuning.loop import accelerator_for
    from prm_backend.finetuning.loop import train as run

    if options.out.exists():
        raise CheckpointError(f"{options.out}: already exists; a checkpoint is never changed after it is written")
    refuse(options, ("cache",), "is for heads on a frozen backbone")
    recipe = recipe_of(options)
    labeled, validation = trees(options.labels), trees(options.validation or ())
    shared = {tree.tree.problem_key for tree in labeled} & {tree.tree.problem_key for tree in validation}
    if shared:
        print(f"warning: {len(shared):,} problems of the validation data are trained on, too", file=sys.stderr)
    accelerator = accelerator_for(recipe)
    prm = prm_to_train(options)
    parent = prm.metadata.digest if prm.metadata else None
    states = options.out.with_name(f"{options.out.name}.run")
    result = run(prm, labeled, validation, recipe, states, progress=report, accelerator=accelerator)
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return
    metrics: dict[str, float] = {
        "solutions": result.solutions,
        "labeled_steps": result.labeled_steps,
        "seconds": round(result.seconds),
    }
    if result.validation_loss is not None:
        metrics["validation_loss"] = result.validation_loss
    prm.save(
        options.out,
        data_hash=content_hash([described(tree) for tree in labeled]),
        recipe=recipe.as_dict() | {"class_weights_used": result.class_weights},
        metrics=metrics,
        parent=parent,
    )
    print(json.dumps(metrics | {"optimizer_steps": result.optimizer_steps, "skipped": len(result.skipped)}))


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The file's recipe; the seed and the classes of the head may stand in either place, and not differ."""
    from prm_backend.checkpoints import METADATA, load_full_metadata
    from prm_backend.finetuning.recipe import Recipe

    row = json_file(options.recipe) if options.recipe else {}
    if not isinstance(row, dict):
        raise PrmError(f"{options.recipe}: a recipe is an object")
    is_full = (options.parent / METADATA).exists()
    classes = load_full_metadata(options.parent).head["classes"] if is_full else options.classes or 3
    given = {"classes": "two" if classes == 2 else "three"}
    if options.seed is not None:
        given["seed"] = options.seed
    for name, value in given.items():
        if row.get(name, value) != value:
            raise PrmError(f"{name}: {value} here, and {row[name]} in {options.recipe}")
    return Recipe.from_dict(row | given)


def prm_to_train(options: argparse.Namespace) -> OwnPrm:
    from prm_backend.checkpoints import METADATA
    from prm_backend.heads import HeadSpec
    from prm_backend.own import OwnPrm

    if (options.parent / METADATA).exists():
        refuse(options, ("heads", *OF_A_NEW_MODEL), f"is for a new model; {options.parent} goes on as it was built")
        return OwnPrm.load(options.parent, trainable=True)
    return OwnPrm.build(
        options.parent,
        head=HeadSpec(heads=options.heads or HEADS, classes=options.classes or 3),
        separator=BLANK_LINE if options.separator is None else options.separator.replace("\\n", "\n"),
        max_tokens=options.max_tokens,
        lora=None if options.lora is None else {"r": options.lora, "lora_alpha": 2 * options.lora},
        seed=options.seed or 0,
    )


def trees(paths: Sequence[Path]) -> list[LabeledTree]:
    from prm_backend.finetuning.data import per_solution, record_tree

    return per_solution(map(record_tree, records(paths)))


def described(labeled: LabeledTree) -> list[Any]:
    nodes = [[node.text, node.parent] for node in labeled.tree.nodes]
    return [labeled.tree.problem, nodes, [str(label) for label in labeled.labels], labeled.weight]
