"""A PRM small enough to train in a second, and labeled solutions for it; as a program, what other processes run."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import Qwen2Config, Qwen2Model

from prm_backend.adapters.readout import softmax_over
from prm_backend.batching import Encoded
from prm_backend.encoding import SolutionTooLong
from prm_backend.finetuning.data import LabeledTree, solution_tree
from prm_backend.finetuning.loop import train
from prm_backend.finetuning.recipe import Recipe, Stage
from prm_backend.heads import EnsembleHead, HeadSpec, ensemble_readout
from prm_backend.stepmodel import StepModel
from prm_backend.synthetic import generate_rows
from prm_backend.types import (
    LABEL_OF_RATING,
    LabeledSolution,
    Progress,
    ReportProgress,
    Solution,
    SolutionTree,
    ignore_progress,
    problem_key,
)

VOCABULARY = 128
MAX_TOKENS = 1024


three_classes = softmax_over(("bad", "neutral", "good"))


def little_model(
    *, heads: int = 0, layers: int = 2, hidden: int = 16, seed: int = 0, dropout: float = 0.0
) -> StepModel:
    torch.manual_seed(seed)
    body = Qwen2Model(
        Qwen2Config(
            vocab_size=VOCABULARY,
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=layers,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=MAX_TOKENS,
            attention_dropout=dropout,
        )
    )
    if heads:
        return StepModel(body, EnsembleHead(hidden, HeadSpec(heads=heads), seed=seed), ensemble_readout)
    return StepModel(body, nn.Linear(hidden, 3), three_classes)


class LittleReader:
    """Every character is a token; a step is read at the line end behind it."""

    most_tokens = MAX_TOKENS

    def __init__(self, model: StepModel) -> None:
        self.model = model

    def encode(self, tree: SolutionTree) -> Encoded:
        ids = [min(ord(character), VOCABULARY - 1) for character in tree.problem[:40] + "\n"]
        starts, ends = [], []
        for node in tree.nodes:
            starts.append(len(ids))
            ids += [min(ord(character), VOCABULARY - 1) for character in node.text[:30] + "\n"]
            ends.append(len(ids))
        if len(ids) > self.most_tokens:
            raise SolutionTooLong(f"solution {tree.key}: {len(ids)} tokens")
        parents = tuple(node.parent for node in tree.nodes)
        return Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(end - 1 for end in ends), parents)


def little_data(problems: int = 12, *, seed: int = 0) -> list[LabeledTree]:
    trees = []
    for row in generate_rows(problems=problems, seed=seed):
        steps, ratings = row["steps"], row["ratings"]
        assert isinstance(steps, list)
        assert isinstance(ratings, list)
        problem = str(row["problem"])
        solution = Solution(str(row["id"]), problem_key(problem), problem, tuple(steps))
        labels = tuple(None if rating is None else LABEL_OF_RATING[rating] for rating in ratings)
        trees.append(solution_tree(LabeledSolution(solution, labels)))
    return trees


def little_recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "stages": (Stage("all", epochs=2, learning_rate=3e-3),),
        "solutions_per_step": 8,
        "batch_tokens": 1200,
    }
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]  # the recipe checks its values itself


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


class KilledAt:
    """A progress callback that ends the process as a power cut would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, progress: Progress, /) -> None:
        if progress.done == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_in_save(number: int) -> None:
    """End the process in its n-th attempt to put a state in its place."""
    replace, attempts = os.replace, []

    def killed(source: object, target: object) -> None:
        attempts.append(source)
        if len(attempts) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)  # type: ignore[arg-type]  # whatever comes is passed on

    os.replace = killed  # type: ignore[assignment]  # this process will not live


def run_of(folder: Path, recipe: Recipe, *, dropout: float, progress: ReportProgress = ignore_progress) -> StepModel:
    """An ensemble, trained on the little data."""
    torch.set_num_threads(1)
    model = little_model(heads=2, dropout=dropout)
    data = little_data()
    train(LittleReader(model), data[:16], data[16:], recipe, folder, progress=progress)
    return model


def die_in_every_way(folder: Path, recipe: Recipe) -> None:
    """One process for each way to die; prints how each ended."""
    for name, kind, number in DEATHS:
        child = os.fork()
        if child == 0:
            if kind == "save":
                kill_in_save(number)
            run_of(folder / name, recipe, dropout=0.2, progress=KilledAt(number if kind == "step" else -1))
            os._exit(0)
        print(name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


DEATHS = (("before-any-state", "step", 1), ("behind-a-state", "step", 3), ("in-a-save", "save", 2), ("late", "step", 7))

if __name__ == "__main__":
    kind, where, written = sys.argv[1], Path(sys.argv[2]), Recipe.from_dict(json.loads(sys.argv[3]))
    if kind == "die":
        die_in_every_way(where, written)
    else:
        trained = run_of(where, written, dropout=0.0)
        save_file(weights_of(trained), where / f"weights-{os.environ['RANK']}.safetensors")
