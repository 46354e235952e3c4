"""`score` and `select`: what a PRM says of a pool, and whom to ask about which of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from prm_backend.cli.files import FORMATS_READ, Commands, command, count, json_file, output, records, solution_of
from prm_backend.cli.prms import Prm, add_prm, open_prm
from prm_backend.errors import Cancelled, CheckpointError, EndpointError, PrmError
from prm_backend.policy import EVERY_STRATEGY, parse_policy
from prm_backend.types import Solution, StepScores, ignore_progress, solution_score

WINDOW = 1024  # solutions

SCORE_KEYS = ("bad", "neutral", "good", "spread")
DEFAULT_POLICY = {"random_share": 0.2, "strategies": {"disagreement": 1.0}, "per_problem": 1}


def add(commands: Commands) -> None:
    made = command(
        commands,
        "score",
        score,
        "Write one JSON line of step scores for each solution: id, bad, neutral, good, spread, solution_score.",
        "score checkpoints/first pool.jsonl --out scores.jsonl\n"
        "  python -m prm_backend score models/Qwen2.5-Math-PRM-7B pool.jsonl --adapter qwen2.5-math-prm",
    )
    add_prm(made)
    made.add_argument("solutions", type=Path, nargs="+", help=f"files of solutions ({FORMATS_READ})")
    made.add_argument("--out", type=Path, help="file to write (default: standard output)")
    made.add_argument("--shard", default="0/1", help="K/N: score only every Nth solution from the Kth, one GPU each")

    made = command(
        commands,
        "select",
        select,
        "Choose the solutions that people should judge next, one JSON line each: id, arm, strategy, score and chance.",
        "select pool.jsonl --scores scores.jsonl --count 100 --out batch.jsonl",
    )
    made.add_argument("solutions", type=Path, nargs="+", help=f"the pool ({FORMATS_READ})")
    made.add_argument("--scores", type=Path, required=True, help="what `score` wrote of it")
    made.add_argument("--count", type=int, required=True, help="how many to choose")
    made.add_argument(
        "--policy",
        type=Path,
        help=f"JSON file such as {json.dumps(DEFAULT_POLICY)} (the default); strategies: {', '.join(EVERY_STRATEGY)}",
    )
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--out", type=Path, help="file to write (default: standard output)")


def score(options: argparse.Namespace) -> int:
    """A solution that cannot be scored gets a row that says why, and the exit code is 1."""
    first, step = shard_of(options.shard)
    prm = open_prm(options)
    pool = islice(map(solution_of, records(options.solutions)), first, None, step)
    done = failed = 0
    with output(options.out) as file:
        while window := list(islice(pool, WINDOW)):
            for row in rows_of(prm, window):
                failed += "error" in row
                file.write(json.dumps(row) + "\n")
            done += len(window)
            count(done, "solutions scored")
    count(done, "solutions scored", ended=True)
    if failed:
        print(f"error: {failed:,} of {done:,} solutions have no scores; their rows say why", file=sys.stderr)
    return 1 if failed else 0


def rows_of(prm: Prm, solutions: Sequence[Solution]) -> list[dict[str, Any]]:
    """Scores of what can be scored, and an error for each of the others. What has nothing to do with single solutions,
    a dead endpoint say, raises."""
    try:
        return [score_row(key, scores) for key, scores in prm.score(solutions, progress=ignore_progress)]
    except (EndpointError, CheckpointError, Cancelled):
        raise
    except PrmError as error:
        if len(solutions) == 1:
            return [{"id": solutions[0].key, "error": str(error)}]
    half = len(solutions) // 2
    return rows_of(prm, solutions[:half]) + rows_of(prm, solutions[half:])


def shard_of(text: str) -> tuple[int, int]:
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
        raise PrmError(f"--shard {text}: two numbers K/N with K from 0 to N - 1")
    return int(first), int(count)


def score_row(key: str, scores: StepScores) -> dict[str, Any]:
    row = {"id": key} | {name: getattr(scores, name) for name in SCORE_KEYS}
    row["solution_score"] = solution_score(scores) if len(scores) else None
    return row if scores.windowed_from is None else row | {"windowed_from": scores.windowed_from}


def read_scores(path: Path) -> dict[str, StepScores]:
    """What `score` wrote, by solution id; solutions without scores are left out. Raises `PrmError` naming the line."""
    found: dict[str, StepScores] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = json.loads(line)
                key = row["id"]
                if "error" in row:
                    continue
                bad, neutral, good, spread = (tuple(map(float, row[name])) for name in SCORE_KEYS)
                if not isinstance(key, str) or len({len(bad), len(neutral), len(good), len(spread)}) != 1:
                    raise ValueError("an id, and four lists of one length")
            except (ValueError, KeyError, TypeError) as error:
                raise PrmError(f"{path}: line {number}: not a line that `score` writes ({error!r})") from None
            if key in found:
                raise PrmError(f"{path}: line {number}: {key!r} has been scored before")
            found[key] = StepScores(bad, neutral, good, spread)
    return found


def check_scores(pool: Sequence[Solution], scores: Mapping[str, StepScores]) -> None:
    """Scores of another pool, or of other texts under the same ids, would choose at random in silence."""
    known = 0
    for solution in pool:
        if solution.key in scores:
            known += 1
            if len(scores[solution.key]) != len(solution.steps):
                raise PrmError(
                    f"{solution.key!r} has {len(solution.steps)} steps and {len(scores[solution.key])} scores: these "
                    "are not the scores of this pool"
                )
    if not known:
        raise PrmError("no solution of the pool has scores: these are not the scores of this pool")
    if known < len(pool):
        print(
            f"{len(pool) - known:,} of {len(pool):,} solutions have no scores: only chance picks them", file=sys.stderr
        )


def select(options: argparse.Namespace) -> None:
    import numpy as np

    from prm_backend.selection import Candidates
    from prm_backend.selection import select as choose

    known = {name: about for name, about in EVERY_STRATEGY.items() if name not in ("human_disagreement", "diversity")}
    policy = parse_policy(json_file(options.policy) if options.policy else DEFAULT_POLICY, known=known)
    if options.count < 1:
        raise PrmError(f"--count {options.count}: at least 1")
    scores = read_scores(options.scores)
    pool = [(solution_of(record), record.final_answer_correct) for record in records(options.solutions)]
    check_scores([solution for solution, _ in pool], scores)
    try:
        candidates = Candidates.pack(
            [solution.key for solution, _ in pool],
            [solution.problem_key for solution, _ in pool],
            [scores.get(solution.key) for solution, _ in pool],
            [correct for _, correct in pool],
        )
    except ValueError as error:
        raise PrmError(f"the pool cannot be selected from: {error}") from None
    with output(options.out) as file:
        for pick in choose(candidates, policy, options.count, np.random.default_rng(options.seed)):
            row = {"id": pick.key, "arm": pick.arm, "strategy": pick.strategy, "score": pick.score}
            file.write(json.dumps(row | {"inclusion_probability": pick.inclusion_probability}) + "\n")
