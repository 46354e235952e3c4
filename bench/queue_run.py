"""Measure the queue: labelers over real HTTP against the server of `manage.py serve`, on PostgreSQL and on SQLite.

    python bench/queue.py --json figures.json
    python bench/queue.py --quick
    python bench/queue.py --markdown --from figures.json

An item is `next` and one `submit` of 8 ratings, answered after the commit is on disk; 1, 8 and 32 labelers without
think time; 10 thousand and 1 million solutions in the pool. Prints every figure and the goals; the exit code is 1 when
a goal is missed. A full run takes about ten minutes, `--quick` (10 thousand, 1 and 8 labelers) less than one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.queue_report import goals_of, markdown, say, summary

QUICK_FINISHED, FINISHED = 1000, 5000


@dataclass(frozen=True)
class Scale:
    """How much is measured: seconds of a cell, how often, and the sizes."""

    pools: tuple[int, ...]
    labelers: tuple[int, ...]
    page_labelers: tuple[int, ...]
    repeats: int
    seconds: float
    warm_seconds: float
    finished: int
    turns: int
    starts: int


FULL = Scale(
    (10_000, 1_000_000), (1, 8, 32), (1, 32), repeats=3, seconds=5, warm_seconds=3, finished=5000, turns=150, starts=3
)
QUICK = Scale((10_000,), (1, 8), (8,), repeats=2, seconds=1.5, warm_seconds=1, finished=1000, turns=40, starts=1)


def measure(kind: str, pool: int, scale: Scale, static: Path) -> dict[str, Any]:
    """Everything about one database with one size of pool."""
    from bench import queue_server as server

    with tempfile.TemporaryDirectory(prefix="stepmark-bench-") as name, server.database(kind, Path(name)) as database:
        folder = Path(name)
        env = server.environment(folder, database.url) | {"STATIC_ROOT": str(static)}
        os.environ["STATIC_ROOT"] = str(static)
        begun = time.monotonic()
        server.manage(["migrate", "--verbosity", "0"], env)
        first_start = server.start_of_everything(folder, database.url)  # the first on a machine collects static files
        filling = ["-m", "bench.queue_pool", "fill"]
        main = json.loads(
            server.run([*filling, "--slug=main", f"--solutions={pool}", f"--labelers={max(scale.labelers)}"], env)
        )
        shared = ["--slug=shared", f"--solutions={2 * scale.finished}", "--labelers=2", "--wanted=2"]
        pair = json.loads(server.run([*filling, *shared, f"--finished={scale.finished}"], env))
        figures: dict[str, Any] = {
            "database": kind,
            "version": database.version,
            "pool": pool,
            "fill_seconds": round(time.monotonic() - begun, 1),
        }
        figures["first_start"] = round(first_start, 2)
        say(f"{kind}, {pool:,} solutions, made in {figures['fill_seconds']} s")
        figures["starts"] = [start(folder, database.url) for _ in range(scale.starts)]
        with server.web(folder, database.url) as web:
            rss = [process.memory_info().rss / 1e6 for process in web.workers()]
            bench = Bench(web, database, env)
            bench.cell(main, labelers=max(scale.labelers), seconds=scale.warm_seconds)
            figures["cells"] = list(measure_cells(bench, main, scale, pages=pool == min(scale.pools)))
            figures["veteran"] = measure_veteran(bench, pair, scale)
            figures["memory"] = {
                "idle_worker_rss_mb": round(max(rss), 1),
                "loaded_worker_rss_mb": round(max(p.memory_info().rss / 1e6 for p in web.workers()), 1),
            }
        figures["check"] = json.loads(server.run(["-m", "bench.queue_pool", "check"], env))
        figures["check"]["acknowledged_labelings"] = bench.acknowledged
        figures["check"]["acknowledged_ratings"] = bench.ratings
        return figures


def start(folder: Path, url: str) -> dict[str, float]:
    """Seconds from the command to the first page: everything, and the web server alone."""
    from bench import queue_server as server

    everything = server.start_of_everything(folder, url)
    with server.web(folder, url) as web:
        return {"serve": round(everything, 2), "web": round(web.start_seconds, 2)}


def measure_cells(bench: Bench, pool: dict[str, Any], scale: Scale, *, pages: bool) -> Iterator[dict[str, Any]]:
    """The repeats of one number of labelers lie apart, so that a busy minute of the machine does not hit them all."""
    for repeat in range(scale.repeats):
        for labelers in scale.labelers:
            yield {"repeat": repeat} | bench.cell(pool, labelers=labelers, seconds=scale.seconds)
        for labelers in scale.page_labelers if pages else ():
            yield {"repeat": repeat} | bench.cell(pool, labelers=labelers, seconds=scale.seconds, path="page")


def measure_veteran(bench: Bench, pair: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """Two labelers in turn, k = 2: one with thousands of finished solutions, one with none."""
    result = bench.client(pair, labelers=2, items=scale.turns, in_turn=True)
    times: dict[float, list[float]] = {0: [], 1: []}
    for labeler, next_ms, *_ in result["done"]:
        times[labeler].append(next_ms)
    veteran, newcomer = summary(times[0])["p50"], summary(times[1])["p50"]
    return {
        "finished": scale.finished,
        "veteran_next_p50": veteran,
        "newcomer_next_p50": newcomer,
        "ratio": round(veteran / newcomer, 2),
    }


class Bench:
    """One running server and database, and what clients have been promised by them so far."""

    def __init__(self, web: Any, database: Any, env: dict[str, str]) -> None:
        self.web, self.database, self.env = web, database, env
        self.acknowledged = self.ratings = 0

    def client(self, pool: dict[str, Any], *, labelers: int, **plan: Any) -> dict[str, Any]:
        from bench import queue_server as server

        people = pool["labelers"][:labelers]
        whole = {"host": self.web.host, "port": self.web.port, "slug": pool["slug"], "labelers": people, **plan}
        result: dict[str, Any] = json.loads(server.run(["-m", "bench.queue_client"], self.env, json.dumps(whole)))
        self.acknowledged += len(result["done"])
        self.ratings += result["ratings"]
        return result

    def cell(self, pool: dict[str, Any], *, labelers: int, seconds: float, path: str = "submit") -> dict[str, Any]:
        """One measurement. CPU is that of all processes of the server and of the database, per finished item."""
        from bench.queue_server import family_cpu

        before = family_cpu(self.web.pid), family_cpu(self.database.pid), busy_seconds(), time.monotonic()
        result = self.client(pool, labelers=labelers, seconds=seconds, path=path)
        after = family_cpu(self.web.pid), family_cpu(self.database.pid), busy_seconds(), time.monotonic()
        web, database, busy, wall = (late - early for late, early in zip(after, before, strict=True))
        items = len(result["done"])
        known = web + database + result["cpu_seconds"]
        figures = {
            "path": path,
            "labelers": labelers,
            "items": items,
            "items_per_s": round(items / result["seconds"], 1),
            "next_ms": summary([row[1] for row in result["done"]]),
            "submit_ms": summary([row[2] for row in result["done"]]),
            "save_ms": summary([save for row in result["done"] for save in row[3:]]),
            "server_cpu_ms": round(1000 * web / items, 2),
            "database_cpu_ms": round(1000 * database / items, 2),
            "client_cpu_ms": round(1000 * result["cpu_seconds"] / items, 2),
            "other_load": round(max(0.0, busy - known) / (wall * (psutil.cpu_count() or 1)), 2),
            "http_500": sum(count for status, count in result["statuses"].items() if int(status) >= 500),
            "refusals": result["refusals"],
            "reconnects": result["reconnects"],
        }
        say(
            f"  {path:6} {labelers:2} labelers: {figures['items_per_s']:6} items/s, "
            f"next {figures['next_ms']['p50']} ms, submit {figures['submit_ms']['p50']} ms, "
            f"CPU {figures['server_cpu_ms']} + {figures['database_cpu_ms']} ms, other load {figures['other_load']:.0%}"
        )
        return figures


def busy_seconds() -> float:
    """CPU seconds that all programs of the machine have used."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0))


def run(scale: Scale) -> dict[str, Any]:
    import django

    with tempfile.TemporaryDirectory(prefix="stepmark-bench-") as name:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "annotator.settings", "DATA_DIR": str(Path(name) / "data")}
        os.environ.pop("DATABASE_URL", None)
        django.setup()
        from bench.queue_server import machine

        figures = {"machine": machine(), "measurements": []}
        for kind in ("postgres", "sqlite"):
            for pool in scale.pools:
                figures["measurements"].append(measure(kind, pool, scale, Path(name) / "static"))
    figures["goals"] = goals_of(figures["measurements"])
    return figures


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--json", type=Path, help="write all figures and the goals to this file")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--markdown", action="store_true", help="print the tables of docs/operator.md")
    options.add_argument("--from", dest="figures", type=Path, help="figures of an earlier run; nothing is measured")
    chosen = options.parse_args()
    figures = json.loads(chosen.figures.read_text()) if chosen.figures else run(QUICK if chosen.quick else FULL)
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    if chosen.markdown:
        print(markdown(figures))
    for goal in figures["goals"]:
        print(f"{'met   ' if goal['met'] else 'MISSED'} {goal['name']}: {goal['value']} (goal {goal['goal']})")
    return 0 if all(goal["met"] for goal in figures["goals"]) else 1


if __name__ == "__main__":
    sys.exit(main())
