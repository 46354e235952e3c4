"""Measure selection from a large pool: `python bench/selection.py --json figures.json`.

A million made-up solutions with 8 scored steps and 64 features each, four to a problem; a batch of 1,000 of them by
each strategy alone, by an uncertainty strategy whose picks features spread out, and by a mixture with a random share.
Every policy runs in a process of its own, so that its peak memory is its own; the pool, packed from flat arrays, counts
in it. Prints the median and the range over the repeats and the goals; the exit code is 1 when a goal is missed.
`--quick` takes a tenth of the pool.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from prm_backend.policy import CONVINCING, EVERY_STRATEGY, Policy
from prm_backend.selection import Candidates, select

STEPS, FEATURES, PICKS = 8, 64, 1000
GOAL_S, GOAL_BYTES = 10, 2_000_000_000
POLICIES: dict[str, Policy] = {
    "random": Policy(1.0, {}),
    **{name: Policy(0.0, {name: 1.0}) for name in EVERY_STRATEGY},
    "disagreement, spread out": Policy(0.0, {"disagreement": 1.0}, diverse_among=4),
    "convincing 80/20": Policy(0.0, CONVINCING),
    "mixture": Policy(0.3, {"disagreement": 0.5, "convincing_wrong_answer": 0.25, "diversity": 0.25}, 2, 4),
}


def make_pool(solutions: int) -> Candidates:
    rng = np.random.default_rng(0)
    labelings = rng.integers(0, 4, solutions)
    return Candidates.of_arrays(
        [f"s{number}" for number in range(solutions)],
        np.arange(solutions) // 4,
        np.full(solutions, STEPS),
        rng.beta(0.5, 2, solutions * STEPS),
        rng.beta(1, 20, solutions * STEPS),
        wrong_answer=rng.random(solutions) < 0.5,
        features=rng.standard_normal((solutions, FEATURES), np.float32),
        labelings=labelings,
        errors_found=rng.integers(0, labelings + 1),
    )


def measure(name: str, solutions: int, repeats: int) -> dict[str, Any]:
    started = time.perf_counter()
    pool = make_pool(solutions)
    made_s = time.perf_counter() - started
    seconds, cpu_seconds = [], []
    for repeat in range(repeats):
        started, cpu_started = time.perf_counter(), time.process_time()
        picks = select(pool, POLICIES[name], PICKS, np.random.default_rng(repeat))
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
        assert len({pick.key for pick in picks}) == PICKS
    return {
        "policy": name,
        "median_s": round(statistics.median(seconds), 3),
        "lowest_s": round(min(seconds), 3),
        "highest_s": round(max(seconds), 3),
        "median_cpu_s": round(statistics.median(cpu_seconds), 3),
        "pool_s": round(made_s, 3),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write all figures and the goals to this file")
    options.add_argument("--quick", action="store_true")
    chosen = options.parse_args()
    solutions, repeats = (100_000, 3) if chosen.quick else (1_000_000, 5)
    spawn = multiprocessing.get_context("spawn")
    measured = []
    for name in POLICIES:
        with spawn.Pool(1) as process:
            measured.append(process.apply(measure, (name, solutions, repeats)))
        print(
            "{policy:26} {median_s:5.2f} s ({lowest_s:.2f} to {highest_s:.2f}), {median_cpu_s:5.2f} s of CPU,".format(
                **measured[-1]
            ),
            f"{measured[-1]['peak_bytes'] / 1e9:5.2f} GB",
            flush=True,
        )
    goals = [
        at_most("slowest policy, median seconds", max(row["median_s"] for row in measured), GOAL_S),
        at_most("highest peak memory of any policy, bytes", max(row["peak_bytes"] for row in measured), GOAL_BYTES),
    ]
    for goal in goals:
        print(f"{'met   ' if goal['met'] else 'MISSED'} {goal['name']}: {goal['value']} (goal {goal['goal']})")
    if chosen.json:
        machine = {"processor": platform.processor() or platform.machine(), "numpy": np.__version__}
        size = {"solutions": solutions, "steps": solutions * STEPS, "features": FEATURES, "picks": PICKS}
        head = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "pool": size, "repeats": repeats}
        chosen.json.write_text(json.dumps({**head, "goals": goals, "policies": measured}, indent=2) + "\n")
    return 0 if all(goal["met"] for goal in goals) else 1


def at_most(name: str, value: float, goal: float) -> dict[str, Any]:
    return {"name": name, "value": value, "goal": f"<= {goal}", "met": value <= goal}


if __name__ == "__main__":
    sys.exit(main())
