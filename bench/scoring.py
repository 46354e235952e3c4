"""Measure step scoring: `python bench/scoring.py --json figures.json`.

One random Qwen2 with the proportions of Qwen2-0.5B (51 M parameters, 46 M of them outside of the embedding), real
solutions from ../shared/data where that exists, else generated ones. In steps for each second:

(a) a pass for each prefix, one at a time, as TRL's documentation and most public scripts do
(b) one pass for all steps, padded batches of 16 in file order, transformers' own token classifier
(c) prm_backend.engine, in fp32 and bf16

and alternatives to one step with a long common beginning, by (b) and by the engine. The variants take turns within
each round; figures are medians over the rounds, with the range. "Share of peak" is useful work (2 × parameters outside
of the embedding × real tokens + causal attention) over what this machine's matrix multiplication does in the same dtype
at its best, measured in the same round. The exit code is 1 when a goal is missed. `--quick` takes fewer solutions and
one round. On a machine that others use, `--clock cpu --threads 1` counts this process's CPU seconds instead.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import nn
from transformers import Qwen2Config, Qwen2ForTokenClassification

from prm_backend import engine, prefix
from prm_backend.batching import Encoded
from prm_backend.encoding import Adapter, StepEncoder, train_tokenizer
from prm_backend.linear import OneDnnLinear, onednn
from prm_backend.passages import Passage
from prm_backend.stepmodel import StepModel, StepProbabilities
from prm_backend.synthetic import generate_rows
from prm_backend.types import Solution, SolutionTree, StepNode, StepScores, problem_key

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
SHAPE = {
    "hidden_size": 640,
    "intermediate_size": 3456,
    "num_hidden_layers": 6,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
TINY = {**SHAPE, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
BATCH = 16
STEPS, ALTERNATIVES = 8, 8
PREFIXES, CANDIDATES = (64, 128, 256, 512), (2, 4, 8, 16)  # tokens and branches of the crossover
CANDIDATE_TOKENS = 32


@dataclass
class Reader:
    encoder: StepEncoder
    model: StepModel

    def encode(self, item: Solution | SolutionTree) -> Encoded:
        tree = SolutionTree.of(item) if isinstance(item, Solution) else item
        separator = self.encoder.adapter.separator_ids
        ids = [*self.encoder.adapter.prefix_ids, *self.encoder.text_ids(tree.problem), *separator]
        starts, ends = [], []
        for node in tree.nodes:
            starts.append(len(ids))
            ids += [*self.encoder.text_ids(node.text), *separator]
            ends.append(len(ids))
        parents = tuple(node.parent for node in tree.nodes)
        return Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(end - 1 for end in ends), parents)


@dataclass(frozen=True)
class Bench:
    mix: list[Solution]  # real lengths, file order
    eight: list[Solution]  # of STEPS steps each
    trees: list[SolutionTree]  # ALTERNATIVES to the step behind a long beginning
    rounds: int
    crossover: bool
    clock: Callable[[], float]


def solutions(data: Path) -> list[Solution]:
    """In file order; the generated ones where there are no files."""
    rows: Iterator[dict[str, Any]] = (
        json.loads(line) for path in sorted(data.glob("*.jsonl")) for line in path.open() if "sample" not in path.name
    )
    found = [*rows] or list(generate_rows(problems=2000, seed=0))
    return [Solution(row["id"], problem_key(row["problem"]), row["problem"], tuple(row["steps"])) for row in found]


def blocks(items: Sequence[Solution], count: int) -> list[Solution]:
    """Runs of `BATCH` neighbours from all over, so that file order and its lengths stay as they are."""
    runs = count // BATCH
    starts = [run * (len(items) - BATCH) // max(1, runs - 1) for run in range(runs)]
    return [item for start in starts for item in items[start : start + BATCH]]


def evenly(items: Sequence[Solution], count: int) -> list[Solution]:
    return list(items[:: max(1, len(items) // count)][:count])


def with_alternatives(solution: Solution, others: Sequence[str]) -> SolutionTree:
    """The whole solution as the common beginning, then `others`."""
    nodes = [StepNode(text, index - 1) for index, text in enumerate(solution.steps)]
    nodes += [StepNode(text, len(solution.steps) - 1) for text in others]
    return SolutionTree(solution.key, solution.problem_key, solution.problem, tuple(nodes))


def readout(raw: torch.Tensor) -> StepProbabilities:
    p = raw.softmax(dim=-1)
    return StepProbabilities(p, torch.zeros_like(p[:, 0]))


def classifier(shape: dict[str, int], vocabulary: int) -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=vocabulary, num_labels=3, pad_token_id=0, **shape)
    return Qwen2ForTokenClassification(config).eval()


def reader_of(model: Any, encoder: StepEncoder, dtype: torch.dtype, device: torch.device) -> Reader:
    own = copy.deepcopy(model)
    return Reader(encoder, StepModel(own.model.to(dtype), own.score, readout).eval().to(device))


class Baselines:
    """What public scripts do, on transformers' own token classifier."""

    def __init__(self, model: Any, reader: Reader) -> None:
        self.model, self.reader = model, reader

    @torch.inference_mode()
    def by_prefix(self, items: Sequence[Solution]) -> list[list[float]]:
        found = []
        for solution in items:
            found.append([])
            for end in range(1, len(solution.steps) + 1):
                encoded = self.reader.encode(
                    Solution(solution.key, solution.problem_key, solution.problem, solution.steps[:end])
                )
                logits = self.model(input_ids=torch.tensor([encoded.ids], device=self.model.device)).logits
                found[-1].append(float(logits[0, -1].softmax(-1)[0]))
        return found

    @torch.inference_mode()
    def in_file_order(self, items: Sequence[Solution]) -> list[list[float]]:
        found, stream = [], iter(items)
        while batch := [self.reader.encode(item) for item in islice(stream, BATCH)]:
            longest = max(map(len, batch))
            ids = torch.tensor([[*one.ids, *[0] * (longest - len(one))] for one in batch], device=self.model.device)
            mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in batch], device=ids.device)
            p = self.model(input_ids=ids, attention_mask=mask).logits.softmax(-1).cpu()
            found += [p[row, list(one.reads), 0].tolist() for row, one in enumerate(batch)]
        return found


def paths_of(tree: SolutionTree) -> list[Solution]:
    return [prefix.solution_of(tree, path) for path in prefix.paths([node.parent for node in tree.nodes])]


def useful_flops(reader: Reader, items: Sequence[Solution]) -> float:
    body: Any = reader.model.body
    config = body.config
    parameters = sum(p.numel() for p in body.parameters()) - body.embed_tokens.weight.numel()
    lengths = [len(reader.encode(item)) for item in items]
    pairs = sum(length * (length + 1) / 2 for length in lengths)
    return 2 * parameters * sum(lengths) + 4 * config.num_hidden_layers * config.hidden_size * pairs


def peak_flops(dtype: torch.dtype, device: torch.device, clock: Callable[[], float]) -> float:
    """The best of both matrix libraries over two sizes, operations for each second."""
    best = 0.0
    for size in (1024, 2048) if device.type == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        ways: list[Callable[[], torch.Tensor]] = [lambda a=a, b=b: a @ b]
        if device.type == "cpu":
            ways.append(lambda a=a, b=b: onednn(a, b, None))
        for way in ways:
            way()
            for _ in range(3):
                best = max(best, 2 * size**3 / timed(way, clock)[0])
    return best


def timed(work: Callable[[], Any], clock: Callable[[], float]) -> tuple[float, Any]:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else (lambda: None)
    wait()
    started = clock()
    result = work()
    wait()
    return clock() - started, result


def bad_of(scored: Iterator[tuple[str, StepScores]]) -> list[list[float]]:
    return [list(scores.bad) for _, scores in scored]


def furthest(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> float:
    return max(abs(a - b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True))


def measure(bench: Bench, model: Any, encoder: StepEncoder, device: torch.device) -> dict[str, Any]:
    single = reader_of(model, encoder, torch.float32, device)
    half = reader_of(model, encoder, torch.bfloat16, device)
    default = reader_of(model, encoder, torch.float32, device)
    for module in default.model.modules():
        if isinstance(module, OneDnnLinear):
            module.__class__ = nn.Linear
    public = Baselines(model.to(device), single)
    branches = [solution for tree in bench.trees for solution in paths_of(tree)]
    work: dict[str, Callable[[], list[list[float]]]] = {
        "a: per prefix, 8 steps": lambda: public.by_prefix(bench.eight),
        "c: engine, 8 steps": lambda: bad_of(engine.score(single, bench.eight)),
        "b: file order": lambda: public.in_file_order(bench.mix),
        "c: engine": lambda: bad_of(engine.score(single, bench.mix)),
        "c: engine, torch's default linear": lambda: bad_of(engine.score(default, bench.mix)),
        "c: engine, bf16": lambda: bad_of(engine.score(half, bench.mix)),
        "b: alternatives": lambda: public.in_file_order(branches),
        "c: alternatives": lambda: bad_of(engine.score_trees(single, bench.trees)),
    }
    bad_of(engine.score(single, bench.mix[:2]))
    bad_of(engine.score(half, bench.mix[:2]))
    seconds: dict[str, list[float]] = {name: [] for name in work}
    shares: dict[str, list[float]] = {"fp32": [], "bf16": []}
    peaks: dict[str, list[float]] = {"fp32": [], "bf16": []}
    flops = useful_flops(single, bench.mix)
    results: dict[str, list[list[float]]] = {}
    for _ in range(bench.rounds):
        for name, run in work.items():
            taken, results[name] = timed(run, bench.clock)
            seconds[name].append(taken)
        for dtype, name in ((torch.float32, "c: engine"), (torch.bfloat16, "c: engine, bf16")):
            kind = "fp32" if dtype == torch.float32 else "bf16"
            peaks[kind].append(peak_flops(dtype, device, bench.clock))
            shares[kind].append(flops / seconds[name][-1] / peaks[kind][-1])
    steps = {
        name: sum(len(item.steps) for item in (bench.eight if "8 steps" in name else bench.mix))
        for name in work
        if "alternatives" not in name
    }
    return {
        "tokens": sum(len(single.encode(item)) for item in bench.mix),
        "longest": max(len(single.encode(item)) for item in bench.mix),
        "seconds": seconds,
        "steps_per_s": {name: count / statistics.median(seconds[name]) for name, count in steps.items()},
        "alternatives_per_s": {
            name: ALTERNATIVES * len(bench.trees) / statistics.median(seconds[name])
            for name in ("b: alternatives", "c: alternatives")
        },
        "peak_gflops": {kind: [value / 1e9 for value in values] for kind, values in peaks.items()},
        "share_of_peak": shares,
        "largest_difference": {
            "a and c": furthest(results["a: per prefix, 8 steps"], results["c: engine, 8 steps"]),
            "b and c": furthest(results["b: file order"], results["c: engine"]),
            "fp32 and bf16": furthest(results["c: engine"], results["c: engine, bf16"]),
        },
        "crossover": crossover(single, bench) if bench.crossover else [],
    }


def crossover(reader: Reader, bench: Bench) -> list[dict[str, Any]]:
    """Branches behind a common beginning, all in one sequence against every path alone, whatever the engine does."""
    found = []
    for shared in PREFIXES:
        for count in CANDIDATES:
            starts = [shared // 2, *(shared + CANDIDATE_TOKENS * branch for branch in range(count))]
            ends = [shared, *(start + CANDIDATE_TOKENS for start in starts[1:])]
            ids = tuple(torch.randint(3, 8000, (ends[-1],)).tolist())
            tree = Encoded(ids, tuple(starts), tuple(ends), tuple(end - 1 for end in ends), (-1, *[0] * count))
            paths = prefix.paths(tree.parents)
            ways = {
                "shared": [Passage(tree, tuple(range(count + 1)))],
                "apart": [Passage(prefix.part(tree, path), path) for path in paths],
            }
            item = SolutionTree("t", "p", "", tuple(StepNode("", parent) for parent in tree.parents))
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(bench.rounds):
                for name, passages in ways.items():
                    run = partial(engine.judge, reader.model, [item], [passages], most_tokens=1024)
                    seconds[name].append(timed(run, bench.clock)[0])
            gain = statistics.median(seconds["apart"]) / statistics.median(seconds["shared"])
            groups = list(prefix.parts(tree, hidden_size=reader.model.hidden_size))
            found.append({"shared_tokens": shared, "branches": count, "gain": gain, "engine_shares": len(groups) == 1})
    return found


def memory_growth(encoder: StepEncoder) -> dict[str, float]:
    """The most memory in MiB that this process had at 32 points of the first two windows of solutions, and of twelve.
    Resident now, not the highest ever, which reading the data has set before."""
    reader = reader_of(classifier(TINY, len(encoder.tokenizer)), encoder, torch.float32, torch.device("cpu"))
    texts = (Solution(str(index), "p", f"How many is {index} and 1?", ("so", "add")) for index in range(10**9))
    scored = engine.score(reader, texts)
    resident = [resident_mib() for index, _ in enumerate(islice(scored, 12 * engine.WINDOW)) if index % 64 == 0]
    return {"in_2_windows": max(resident[: len(resident) // 6]), "in_12_windows": max(resident)}


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def goals_of(figures: dict[str, Any], memory: dict[str, float]) -> list[dict[str, Any]]:
    def ratio(slow: str, fast: str) -> float:
        seconds = figures["seconds"]
        return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))

    def at_least(name: str, value: float, goal: float) -> dict[str, Any]:
        return {"name": name, "value": round(value, 3), "goal": f">= {goal}", "met": value >= goal}

    growth = memory["in_12_windows"] / memory["in_2_windows"]
    apart = max(figures["largest_difference"][pair] for pair in ("a and c", "b and c"))
    return [
        at_least("times per-prefix scoring, 8 steps", ratio("a: per prefix, 8 steps", "c: engine, 8 steps"), 4),
        at_least("times padded batches of 16 in file order", ratio("b: file order", "c: engine"), 1.5),
        at_least("share of the fp32 peak", statistics.median(figures["share_of_peak"]["fp32"]), 0.6),
        at_least("share of the bf16 peak", statistics.median(figures["share_of_peak"]["bf16"]), 0.5),
        at_least("8 alternatives, times padded batches", ratio("b: alternatives", "c: alternatives"), 2),
        {"name": "largest difference to (a) and (b)", "value": apart, "goal": "<= 0.0001", "met": apart <= 1e-4},
        {"name": "peak memory, 12 windows over 2", "value": round(growth, 3), "goal": "<= 1.05", "met": growth <= 1.05},
    ]


def processor() -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write all figures and the goals to this file")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pool = solutions(DATA)
    tokenizer = train_tokenizer(
        (text for one in evenly(pool, 2000) for text in (one.problem, *one.steps)), vocabulary=8192
    )
    encoder = StepEncoder(tokenizer, Adapter((1,), (2,), (), SHAPE["max_position_embeddings"]))
    memory = memory_growth(encoder)
    mix, eight, trees, rounds = (32, 3, 1, 1) if chosen.quick else (96, 12, 6, 5)
    of_eight = [one for one in pool if len(one.steps) == STEPS]
    alternatives = [one.steps[-1] for one in evenly(pool, ALTERNATIVES)]
    bench = Bench(
        mix=blocks(pool, mix),
        eight=evenly(of_eight, eight),
        trees=[with_alternatives(one, alternatives) for one in evenly(of_eight, trees)],
        rounds=rounds,
        crossover=not chosen.quick,
        clock=time.process_time if chosen.clock == "cpu" else time.perf_counter,
    )
    started = datetime.now(UTC)
    figures = measure(bench, classifier(SHAPE, len(tokenizer)), encoder, device)
    goals = goals_of(figures, memory)
    for name, values in figures["seconds"].items():
        print(f"{name:36} {statistics.median(values):8.2f} s ({min(values):.2f} to {max(values):.2f})")
    for goal in goals:
        print(f"{'met   ' if goal['met'] else 'MISSED'} {goal['name']}: {goal['value']} (goal {goal['goal']})")
    if chosen.json:
        machine = {
            "processor": processor(),
            "threads": chosen.threads,
            "clock": chosen.clock,
            "torch": torch.__version__,
        }
        report = {"date": started.isoformat(timespec="seconds"), "machine": machine, "data": DATA.exists()}
        report |= {"quick": chosen.quick, "goals": goals, "memory_mib": memory, "figures": figures}
        chosen.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if all(goal["met"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
