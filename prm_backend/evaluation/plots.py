"""Lines in the unit square as SVG.

Every plot of the report has both axes from 0 to 1 and a few lines of at most 200 points. That is a page of SVG, which
follows the reader's light or dark scheme by itself; a plotting library would bring 60 MB and four packages to a server
for it, and a fixed background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

# After Okabe and Ito, whose colours colour-blind readers tell apart: those that show on white and on black.
COLORS = ("#1f83c4", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SIZE, LEFT, TOP, BOTTOM = 360, 52, 34, 46
LEGEND_LINE = 18

STYLE = """
  svg { background: #ffffff; color: #1f2328; }
  text { fill: currentColor; font: 12px system-ui, sans-serif; }
  .title { font-weight: 600; font-size: 14px; }
  .frame, .tick, .guide { stroke: currentColor; fill: none; }
  .tick { opacity: 0.15; } .guide { opacity: 0.4; stroke-dasharray: 2 4; }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
  .baseline { stroke-dasharray: 6 4; stroke-width: 1.5; }
  @media (prefers-color-scheme: dark) { svg { background: #0d1117; color: #e6edf3; } }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """Points in [0, 1]²; a baseline is dashed; `marked` puts a dot on each point; a
    lone one has it anyway."""

    name: str
    points: Sequence[tuple[float, float]]
    is_baseline: bool = False
    marked: bool = False


def line_plot(title: str, x_label: str, y_label: str, lines: Sequence[Line], *, diagonal: bool = False) -> str:
    """A complete SVG document."""
    height = TOP + SIZE + BOTTOM + LEGEND_LINE * len(lines) + 8
    width = LEFT + SIZE + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">',
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
        *_axes(x_label, y_label, diagonal),
        *(part for number, line in enumerate(lines) for part in _line(number, line)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(value: float) -> str:
    return f"{LEFT + SIZE * value:.1f}"


def _y(value: float) -> str:
    return f"{TOP + SIZE * (1 - value):.1f}"


def _axes(x_label: str, y_label: str, diagonal: bool) -> list[str]:
    parts = []
    for fifth in range(6):
        at = fifth / 5
        parts += [
            f'<path class="tick" d="M{_x(at)} {_y(0)}V{_y(1)}M{_x(0)} {_y(at)}H{_x(1)}"/>',
            f'<text x="{_x(at)}" y="{TOP + SIZE + 16}" text-anchor="middle">{at:.1f}</text>',
            f'<text x="{LEFT - 8}" y="{float(_y(at)) + 4:.1f}" text-anchor="end">{at:.1f}</text>',
        ]
    parts += [
        f'<rect class="frame" x="{LEFT}" y="{TOP}" width="{SIZE}" height="{SIZE}"/>',
        f'<text x="{_x(0.5)}" y="{TOP + SIZE + 36}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(14 {_y(0.5)}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    return [*parts, f'<path class="guide" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>'] if diagonal else parts


def _line(number: int, line: Line) -> list[str]:
    color = COLORS[number % len(COLORS)]
    style = f'class="line{" baseline" if line.is_baseline else ""}" stroke="{color}"'
    level = TOP + SIZE + BOTTOM + LEGEND_LINE * number + 6
    dotted = line.marked or len(line.points) == 1
    path = "L".join(f"{_x(x)} {_y(y)}" for x, y in line.points)
    dots = [f'<circle cx="{_x(x)}" cy="{_y(y)}" r="3" fill="{color}"/>' for x, y in line.points if dotted]
    return [
        *([f'<path {style} d="M{path}"/>'] if line.points else []),
        *dots,
        f'<path {style} d="M{LEFT} {level}h26"/>',
        f'<text x="{LEFT + 34}" y="{level + 4}">{escape(line.name)}</text>',
    ]
