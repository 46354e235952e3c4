"""Measure the embedded PRM on generated problems: pretrain without labels, then fit heads on few labels.

    python bench/demo_model.py --json figures.json --quick

The test problems are in neither the pretraining pool nor the labels. Prints every figure and the goals; the exit code
is 1 when a goal is missed. `--quick` measures 2 seeds with 3 draws of labels each, otherwise 3 seeds with 10 draws.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from transformers.utils import logging as transformers_logging

from prm_backend.baselines import position_baseline
from prm_backend.checkpoints import load_metadata
from prm_backend.errors import NotEnoughData
from prm_backend.evaluation import evaluate, step_auroc
from prm_backend.pretraining import pretrain_embedded
from prm_backend.scoring import Scorer
from prm_backend.synthetic import generate_rows
from prm_backend.training import train_heads
from prm_backend.types import LABEL_OF_RATING, LabeledSolution, Solution, StepLabel, problem_key, split_of_problem

COUNTS = (10, 20, 30, 50, 100, 200, 300)
POOL_SCORED = 8000


@dataclass(frozen=True)
class Data:
    pool: list[LabeledSolution]
    test: list[LabeledSolution]
    category: dict[str, str]


def labeled(row: dict[str, Any]) -> LabeledSolution:
    solution = Solution(row["id"], problem_key(row["problem"]), row["problem"], tuple(row["steps"]))
    return LabeledSolution(solution, tuple(None if r is None else LABEL_OF_RATING[r] for r in row["ratings"]))


def make_data(seed: int) -> Data:
    rows: list[dict[str, Any]] = list(generate_rows(seed=seed))
    solutions = [labeled(row) for row in rows]
    split = [split_of_problem(item.solution.problem) for item in solutions]
    return Data(
        pool=[item for item, part in zip(solutions, split, strict=True) if part == "train"],
        test=[item for item, part in zip(solutions, split, strict=True) if part != "train"],
        category={row["id"]: row["error_category"] for row in rows if row["error_category"]},
    )


def measure(checkpoint: Path, cache: Path, data: Data) -> dict[str, Any]:
    """Step AUROC over all errors and for each kind of error (against all steps that are not bad)."""
    scorer = Scorer.load(checkpoint, cache_dir=cache)
    scores = [score for _, score in scorer.score(item.solution for item in data.test)]
    right: list[float] = []
    wrong: dict[str, list[float]] = {}
    for item, score in zip(data.test, scores, strict=True):
        for label, bad in zip(item.labels, score.bad, strict=True):
            if label is StepLabel.BAD:
                wrong.setdefault(data.category[item.solution.key], []).append(bad)
            elif label is not None:
                right.append(bad)
    by_kind = {
        kind: step_auroc(bad + right, [True] * len(bad) + [False] * len(right)) for kind, bad in sorted(wrong.items())
    }
    metrics = evaluate(list(zip(data.test, scores, strict=True)))
    return {"step_auroc": metrics.step_auroc, "ece": metrics.ece, "by_kind": by_kind}


def measure_seed(seed: int, draws: int, folder: Path, kept: Path | None) -> dict[str, Any]:
    data = make_data(seed)
    cold, cache = (kept or folder) / f"cold-{seed}", folder / "cache"
    if not cold.exists():
        pretrain_embedded([item.solution for item in data.pool], cold, seed=seed)
    figures: dict[str, Any] = {
        "seed": seed,
        "pool_solutions": len(data.pool),
        "test_solutions": len(data.test),
        "pretraining_cpu_s": load_metadata(cold).metrics["cpu_seconds"],
        "pretraining_wall_s": load_metadata(cold).metrics["seconds"],
        "parameters": sum(p.numel() for p in Scorer.load(cold).reader.backbone.model.parameters()),
        "scoring_s": time_scoring(cold, data),
        "surprisal": measure(cold, cache, data),
        "counts": [],
    }
    for count in COUNTS:
        figures["counts"].append(measure_count(count, draws, seed, cold, folder, data))
        print(f"seed {seed}: {json.dumps(figures['counts'][-1]['summary'])}", flush=True)
    return figures


def time_scoring(checkpoint: Path, data: Data) -> float:
    """Seconds for `POOL_SCORED` solutions, without a cache."""
    solutions = ([item.solution for item in [*data.pool, *data.test]] * 2)[:POOL_SCORED]
    scorer = Scorer.load(checkpoint)
    started = time.monotonic()
    assert sum(1 for _ in scorer.score(solutions)) == POOL_SCORED
    return time.monotonic() - started


def measure_count(count: int, draws: int, seed: int, cold: Path, folder: Path, data: Data) -> dict[str, Any]:
    runs, fit_s, position = [], [], []
    for draw in range(draws):
        sample = random.Random(f"{seed} {count} {draw}").sample(data.pool, count)
        out = folder / f"heads-{seed}-{count}-{draw}"
        started = time.monotonic()
        try:
            train_heads(cold, sample, out, cache_dir=folder / "cache", seed=draw)
        except NotEnoughData:
            continue
        fit_s.append(time.monotonic() - started)
        runs.append(measure(out, folder / "cache", data))
        position.append(position_baseline(sample, data.test).step_auroc or 0.5)
    aurocs = [run["step_auroc"] for run in runs]
    summary = {
        "labeled_solutions": count,
        "step_auroc": round(statistics.mean(aurocs), 4),
        "lowest": round(min(aurocs), 4),
        "position_baseline": round(statistics.mean(position), 4),
        "slowest_fit_s": round(max(fit_s), 2),
    }
    return {"summary": summary, "runs": runs}


def goals_of(seeds: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    def summaries(count: int) -> list[dict[str, Any]]:
        return [seed["counts"][COUNTS.index(count)]["summary"] for seed in seeds]

    def gains(count: int, which: str) -> list[float]:
        pairs = zip(summaries(count), seeds, strict=True)
        return [summary[which] - seed["surprisal"]["step_auroc"] for summary, seed in pairs]

    def at_most(name: str, value: float, goal: float) -> dict[str, Any]:
        return {"name": name, "value": round(value, 4), "goal": f"<= {goal}", "met": value <= goal}

    def at_least(name: str, value: float, goal: float) -> dict[str, Any]:
        return {"name": name, "value": round(value, 4), "goal": f">= {goal}", "met": value >= goal}

    above_position = [summary["step_auroc"] - summary["position_baseline"] for summary in summaries(300)]
    slowest_fit = max(summary["slowest_fit_s"] for count in COUNTS for summary in summaries(count))
    return [
        at_most("surprisal alone, step AUROC", max(seed["surprisal"]["step_auroc"] for seed in seeds), 0.87),
        at_least("heads at 100 labeled, step AUROC", min(s["step_auroc"] for s in summaries(100)), 0.94),
        at_least("heads at 200 labeled, step AUROC", min(s["step_auroc"] for s in summaries(200)), 0.9),
        at_least("heads at 200 labeled above surprisal", min(gains(200, "step_auroc")), 0.05),
        at_least("worst of all draws and counts above surprisal", min(min(gains(c, "lowest")) for c in COUNTS), -0.01),
        at_least("heads at 300 labeled above position and length alone", min(above_position), 0.1),
        at_most("pretraining, CPU seconds", max(seed["pretraining_cpu_s"] for seed in seeds), 210),
        at_most("slowest refit, wall seconds", slowest_fit, 10),
        at_most("scoring 8,000 solutions, wall seconds", max(seed["scoring_s"] for seed in seeds), 60),
    ]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write all figures and the goals to this file")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--keep", type=Path, help="folder of cold starts, made when missing and used when there")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    transformers_logging.disable_progress_bar()
    seeds, draws = (2, 3) if chosen.quick else (3, 10)
    measured = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            measured.append(measure_seed(seed, draws, Path(folder), chosen.keep))
    goals = goals_of(measured)
    for goal in goals:
        print(f"{'met   ' if goal['met'] else 'MISSED'} {goal['name']}: {goal['value']} (goal {goal['goal']})")
    if chosen.json:
        chosen.json.write_text(json.dumps({"goals": goals, "seeds": measured}, indent=2) + "\n")
    return 0 if all(goal["met"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
