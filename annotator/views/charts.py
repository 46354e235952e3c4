"""Geometry of the charts: numbers in, places on an SVG canvas out. Colours are classes of the style sheet, because the
content security policy allows no inline style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from annotator.queries.learning import CurvePoint

WIDTH, HEIGHT = 720, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 116, 16, 36
LABEL_GAP = 15  # between two labels at the right edge


@dataclass(frozen=True, slots=True)
class Line:
    """A series: `path` for a polyline's points; `label_y` where its name stands."""

    name: str
    path: str
    end: float
    label_y: float
    value: float


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    point: CurvePoint


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True)
class LearningChart:
    """Step AUROC against judged steps; dots are checkpoints, lines their baselines."""

    lines: list[Line]
    dots: list[Dot]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def learning_chart(points: Sequence[CurvePoint]) -> LearningChart | None:
    """None without a measured checkpoint."""
    if not points:
        return None
    most = _round_up(max(point.judged_steps for point in points))
    figures = [
        value for point in points for value in (point.auroc, point.surprisal, point.position) if value is not None
    ]
    low = min(0.5, math.floor(min(figures) * 10) / 10)

    def x(steps: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * steps / most, 1)

    def y(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value) / (1 - low), 1)

    lines = []
    for name, values in (
        ("PRM", [(point.judged_steps, point.auroc) for point in points]),
        ("surprisal", [(point.judged_steps, point.surprisal) for point in points]),
        ("position", [(point.judged_steps, point.position) for point in points]),
    ):
        known = [(steps, value) for steps, value in values if value is not None]
        if known:
            # A baseline is a level: it runs from the axis to the edge even with a single measurement.
            ends = known if name == "PRM" else [(0, known[0][1]), *known, (most, known[-1][1])]
            path = " ".join(f"{x(steps)},{y(value)}" for steps, value in ends)
            last = known[-1][1]
            lines.append(Line(name, path, x(ends[-1][0]), y(last), last))
    return LearningChart(
        lines=_apart(lines),
        dots=[Dot(x(point.judged_steps), y(point.auroc), point) for point in points if point.auroc is not None],
        x_ticks=[Tick(x(most * share / 4), f"{most * share // 4:,}") for share in range(5)],
        y_ticks=[Tick(y(value / 10), f"{value / 10:.1f}") for value in range(round(low * 10), 11)],
    )


def _apart(lines: list[Line]) -> list[Line]:
    """Push the names of lines that end close to each other apart."""
    placed: list[Line] = []
    for line in sorted(lines, key=lambda line: line.label_y):
        floor = placed[-1].label_y + LABEL_GAP if placed else line.label_y
        placed.append(Line(line.name, line.path, line.end, max(line.label_y, floor), line.value))
    return placed


def _round_up(value: int) -> int:
    """A round number not below value, divisible by 4."""
    step: int = 10 ** max(len(str(max(value, 1))) - 2, 0) * 4
    return max(math.ceil(value / step) * step, 4)


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    height: float
    label: str


def spark_bars(values: Sequence[tuple[Any, int]], *, width: int = 112, height: int = 28) -> list[Bar]:
    """A bar for each day; days without work keep a hairline, so that the gaps can be seen."""
    most = max((count for _, count in values), default=0) or 1
    step = width / max(len(values), 1)
    return [
        Bar(round(index * step, 1), round(height - tall, 1), round(tall, 1), f"{day:%d %b}: {count}")
        for index, (day, count) in enumerate(values)
        for tall in [max(height * count / most, 1)]
    ]


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference with its interval on an axis around zero, in a 320-wide canvas."""

    lower: float
    upper: float
    middle: float
    zero: float
    ticks: list[Tick]


def difference_interval(gate: dict[str, Any], *, width: int = 320) -> Interval | None:
    values = [gate.get(name) for name in ("difference", "lower", "upper")]
    if any(value is None for value in values):
        return None
    middle, lower, upper = (float(value) for value in values if value is not None)
    reach = max(abs(lower), abs(upper), 0.02) * 1.15

    def x(value: float) -> float:
        return round(width / 2 + value / reach * (width / 2 - 8), 1)

    tick = max(round(reach / 1.15, 2), 0.01)
    ticks = [Tick(x(value), f"{value:+.2f}".replace("-", "−") if value else "0") for value in (-tick, 0.0, tick)]
    return Interval(x(lower), x(upper), x(middle), x(0.0), ticks)
