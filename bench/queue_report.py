"""What the figures of a queue measurement say: percentiles, goals, and tables for the documentation."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

Cell = dict[str, Any]


def say(words: str) -> None:
    """Progress, beside the output."""
    print(words, file=sys.stderr, flush=True)


def summary(times: Sequence[float]) -> dict[str, float]:
    """Percentiles by nearest rank, in the unit of `times`."""
    ordered = sorted(times)
    if not ordered:
        return {}
    return {
        f"p{percent}": round(ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))], 2)
        for percent in (50, 95, 99)
    }


def cells_of(measurements: Sequence[dict[str, Any]], **wanted: Any) -> list[Cell]:
    """The repeats of the cells that fit; `database` and `pool` are those of their measurement."""
    keys = {"database": None, "pool": None}
    return [
        cell
        for measurement in measurements
        for cell in measurement["cells"]
        if all((measurement if key in keys else cell)[key] == value for key, value in wanted.items())
    ]


def median(cells: Sequence[Cell], value: Callable[[Cell], float]) -> float:
    return round(statistics.median(map(value, cells)), 2)


def cpu_ms(cell: Cell) -> float:
    """Of server and database, for one item."""
    return float(cell["server_cpu_ms"] + cell["database_cpu_ms"])


def goals_of(measurements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals that this run can judge, each on the median of its repeats. A quick run has no 32 labelers and no
    million."""

    def at_most(name: str, value: float, goal: float) -> dict[str, Any]:
        return {"name": name, "value": round(value, 2), "goal": f"<= {goal}", "met": value <= goal}

    def at_least(name: str, value: float, goal: float) -> dict[str, Any]:
        return {"name": name, "value": round(value, 2), "goal": f">= {goal}", "met": value >= goal}

    pools = sorted({measurement["pool"] for measurement in measurements})
    one = cells_of(measurements, database="postgres", pool=pools[0], path="submit", labelers=1)
    most = max(cell["labelers"] for cell in cells_of(measurements, path="submit"))
    crowd = cells_of(measurements, database="postgres", pool=pools[0], path="submit", labelers=most)
    cells = cells_of(measurements)
    cpu = median(crowd, cpu_ms)
    goals = [
        at_most(f"server and database CPU ms per item, PostgreSQL, {most} labelers", cpu, 15)
        | {"stretch": "<= 11", "stretch_met": cpu <= 11},
        at_most("next p50 ms, PostgreSQL, 1 labeler", median(one, lambda cell: cell["next_ms"]["p50"]), 10),
        at_most("submit p50 ms, PostgreSQL, 1 labeler", median(one, lambda cell: cell["submit_ms"]["p50"]), 10),
        at_most("answers with HTTP 500", sum(cell["http_500"] for cell in cells), 0),
        at_most("solutions with too many labelers", sum(map(doubles, measurements)), 0),
        at_most("acknowledged ratings that are not stored", sum(map(lost, measurements)), 0),
        at_most(
            "start to the first page, s",
            statistics.median(start["serve"] for m in measurements for start in m["starts"]),
            2,
        ),
        at_most("idle web worker, MB", max(m["memory"]["idle_worker_rss_mb"] for m in measurements), 120),
    ]
    if most == 32:
        rate = median(crowd, lambda cell: cell["items_per_s"])
        goals.append(at_least("items/s, PostgreSQL, 32 labelers", rate, 80))
    if len(pools) > 1:
        goals += [at_most(f"1 million against 10 thousand, {name}", ratio, 1.5) for name, ratio in growth(measurements)]
    veteran = max(measurement["veteran"]["ratio"] for measurement in measurements)
    goals.append(at_most("next of a labeler with thousands finished against a newcomer's", veteran, 1.5))
    return goals


def doubles(measurement: dict[str, Any]) -> int:
    check = measurement["check"]
    return int(sum(check[key] for key in ("held_by_too_many", "labeled_by_too_many", "two_in_one_hand", "miscounted")))


def lost(measurement: dict[str, Any]) -> int:
    check = measurement["check"]
    return int(abs(check["acknowledged_ratings"] - check["rating_events"]))


def growth(measurements: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
    """How much slower the larger pool is: worst ratio of the medians over all numbers of labelers."""
    found = []
    for database in sorted({measurement["database"] for measurement in measurements}):
        pools = sorted({m["pool"] for m in measurements if m["database"] == database})
        for name, value in (
            ("next", lambda cell: cell["next_ms"]["p50"]),
            ("submit", lambda cell: cell["submit_ms"]["p50"]),
            ("CPU", cpu_ms),
        ):
            ratios = []
            for labelers in sorted({cell["labelers"] for cell in cells_of(measurements, path="submit")}):
                small, large = (
                    median(
                        cells_of(measurements, database=database, pool=pool, path="submit", labelers=labelers), value
                    )
                    for pool in (pools[0], pools[-1])
                )
                ratios.append(large / small)
            found.append((f"{name}, {database}", max(ratios)))
    return found


def spread(cells: Sequence[Cell], value: Callable[[Cell], float]) -> str:
    """Median of the repeats, with the smallest and the largest."""
    values = sorted(map(value, cells))
    return f"{statistics.median(values):.1f} [{values[0]:.1f}-{values[-1]:.1f}]"


def markdown(figures: dict[str, Any]) -> str:
    """The tables of docs/operator.md."""
    machine, measurements = figures["machine"], figures["measurements"]
    versions = ", ".join(sorted({f"{m['database']} {m['version']}" for m in measurements}))
    lines = [
        f"{machine['date']}, {machine['cores']} cores ({machine['processor']}), {machine['memory_gb']} GB, "
        f"Python {machine['python']}, Django {machine['django']}, gunicorn {machine['gunicorn']}, {versions}; "
        f"commit {machine['commit']}. Median of the repeats, smallest and largest in brackets.",
        "",
        "An item is `next` and one `submit` with all 8 ratings (path submit), or `next`, a save for each rating, and "
        "`submit`, as the labeling page does it (path page).",
        "",
        "| database | pool | path | labelers | next p50 ms | p95 | p99 | save p50 ms | submit p50 ms | p95 | p99 "
        "| items/s | server CPU ms an item | database CPU ms an item | HTTP 500 |",
        "| --- " * 15 + "|",
    ]
    for m in measurements:
        for path, labelers in sorted(
            {(cell["path"], cell["labelers"]) for cell in m["cells"]}, key=lambda cell: (cell[0] == "page", cell[1])
        ):
            cells = cells_of([m], path=path, labelers=labelers)
            row = [m["database"], f"{m['pool']:,}", path, str(labelers)]
            row += [
                spread(cells, lambda cell, part=part, rank=rank: cell[part][rank])
                for part in ("next_ms", "submit_ms")
                for rank in ("p50", "p95", "p99")
            ]
            saves = spread(cells, lambda cell: cell["save_ms"]["p50"]) if path == "page" else ""
            row.insert(7, saves)
            row += [
                spread(cells, lambda cell, key=key: cell[key])
                for key in ("items_per_s", "server_cpu_ms", "database_cpu_ms")
            ]
            row.append(str(sum(cell["http_500"] for cell in cells)))
            lines.append(f"| {' | '.join(row)} |")
    lines += ["", "| | goal | measured |", "| --- | --- | --- |"]
    lines += [f"| {goal['name']} | {goal['goal']} | {goal['value']} |" for goal in figures["goals"]]
    return "\n".join(lines)
