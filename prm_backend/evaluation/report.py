"""Results for machines (JSON) and for people (Markdown with plots)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prm_backend.evaluation.best_of_n import REDUCTIONS
from prm_backend.evaluation.bootstrap import Estimate
from prm_backend.evaluation.plots import Line, line_plot
from prm_backend.evaluation.results import Results, System

FORMAT_VERSION = 1
NOT_AVAILABLE = "–"


@dataclass(frozen=True, slots=True)
class Report:
    """`data` is plain JSON; `markdown` shows the plots by the file names in `plots` (SVG documents)."""

    data: dict[str, Any]
    markdown: str
    plots: dict[str, str]

    def write(self, folder: Path) -> None:
        """report.json, report.md and the plots; the folder is made, files of these names are replaced."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (folder / "report.md").write_text(self.markdown, encoding="utf-8")
        for name, svg in self.plots.items():
            (folder / name).write_text(svg, encoding="utf-8")


def report(results: Results, *, title: str = "Evaluation") -> Report:
    """Raises `ValueError` for results without baselines: a figure on its own says nothing."""
    if not any(system.is_baseline for system in results.systems):
        raise ValueError("no figure is reported without its baselines")
    plots = _plots(results.systems)
    pictures = [f"![{name.removesuffix('.svg').replace('-', ' ')}]({name})" for name in plots]
    sections = [f"# {title}", "\n".join(_about(results)), *tables(results), "## Plots", "\n\n".join(pictures)]
    data = {"format_version": FORMAT_VERSION, "title": title, **asdict(results)}
    return Report(data, "\n\n".join(sections) + "\n", plots)


# --- Text -----------------------------------------------------------------------------------------------------------


def _about(results: Results) -> Iterator[str]:
    yield (
        f"{results.solutions:,} solutions of {results.problems:,} problems, {results.judged_steps:,} judged steps,"
        f" {results.bad_steps:,} of them bad. Brackets hold 95 % intervals: {results.samples:,} bootstrap samples of"
        f" problems, seed {results.seed}. Baselines are in *italics*."
    )
    yield ""
    for part, leakage in results.leakage.items():
        yield (
            f"- {part}: of {leakage.problems:,} problems, {leakage.exact:,} are among the {leakage.training_problems:,}"
            f" training problems word for word and {leakage.near:,} reworded (Jaccard similarity of word triples ≥"
            f" {leakage.similarity:g}); {leakage.solutions:,} solutions were left out with them"
        )
    for source, reason in results.unavailable.items():
        yield f"- threshold from {source}: –, {reason}"


def tables(results: Results) -> list[str]:
    """The Markdown sections with every figure: a heading and a table each."""
    systems = results.systems
    return [
        _steps(systems),
        *_processbench(systems),
        _subset_aurocs(results),
        _calibration(systems),
        *(_reliability(system) for system in systems if not system.is_baseline),
        *_prmbench(systems),
        *_best_of_n(systems),
    ]


def _steps(systems: Sequence[System]) -> str:
    names = {"step AUROC": "step_auroc", "average precision": "average_precision"}
    return "## Steps\n\n" + _table(
        systems, {column: [shown(system.figures[name]) for system in systems] for column, name in names.items()}
    )


def _subset_aurocs(results: Results) -> str:
    columns = {
        f"{name} ({count:,})": [shown(system.subsets[name]["step_auroc"]) for system in results.systems]
        for name, count in results.subsets.items()
    }
    return "## Step AUROC by subset (solutions)\n\n" + _table(results.systems, columns)


def _processbench(systems: Sequence[System]) -> Iterator[str]:
    """Two sections for each source of the threshold."""
    agreement = {
        "first error, exact": "first_error_exact",
        "within one step": "first_error_within_one",
        "every solution": "first_error_overall",
        "κ bad": "kappa_bad",
        "κ −/0/+": "kappa_three_class",
    }
    for found in zip(*(system.thresholds for system in systems), strict=True):
        source = found[0].source
        with_f1 = [name for name, f1 in found[0].subsets.items() if f1.value is not None]
        columns = {
            "threshold": [f"{at.threshold:.3f}" for at in found],
            "average": [shown(at.average) for at in found],
        }
        columns |= {name: [shown(at.subsets[name]) for at in found] for name in with_f1}
        yield f"## ProcessBench F1, threshold: {source}\n\n" + _table(systems, columns)
        columns = {column: [shown(at.figures[name]) for at in found] for column, name in agreement.items()}
        yield f"## First error and agreement with people, threshold: {source}\n\n" + _table(systems, columns)


def _calibration(systems: Sequence[System]) -> str:
    names = {"ECE": "ece", "ECE, equal mass": "ece_equal_mass", "Brier": "brier"}
    columns = {column: [shown(system.figures[name]) for system in systems] for column, name in names.items()}
    columns |= {
        f"recalibrated {column}": [shown(system.recalibrated.get(name)) for system in systems]
        for column, name in names.items()
    }
    return "## Calibration of p(−)\n\n" + _table(systems, columns)


def _reliability(system: System) -> str:
    rows = [
        (f"{row.lower:.3f}–{row.upper:.3f}", f"{row.weight:g}", number(row.mean_p_bad), number(row.bad_share))
        for row in system.reliability
    ]
    header = ("p(−)", "weight of steps", "mean p(−)", "share of bad steps")
    return f"### Reliability: {_cell(system.name)}\n\n" + _rows(header, rows)


def _prmbench(systems: Sequence[System]) -> Iterator[str]:
    scores = [system.prmbench for system in systems if system.prmbench is not None]
    if not scores:
        return
    columns = {
        "PRMScore": [shown(system.prmbench_score) for system in systems],
        "F1 correct": [number(score.overall.f1_correct) for score in scores],
        "F1 error": [number(score.overall.f1_error) for score in scores],
    }
    columns |= {name: [number(score.classes[name].prm_score) for score in scores] for name in scores[0].classes if name}
    yield "## PRMBench (labels from injection, not from people)\n\n" + _table(systems, columns)


def _best_of_n(systems: Sequence[System]) -> Iterator[str]:
    found = [system.best_of_n for system in systems if system.best_of_n is not None]
    if not found:
        return
    best = found[0]
    size = f"{best.smallest}" if best.smallest == best.largest else f"{best.smallest} to {best.largest}"
    about = (
        f"{best.problems:,} problems with {size} graded solutions each ({best.solutions:,} in all); {best.ungraded:,}"
        f" solutions are ungraded and take no part, {best.left_out:,} problems have fewer than two graded ones."
        f" Majority vote {shown(best.majority)}, random pick {shown(best.random)}, pass@N {shown(best.pass_at_n)}."
    )
    columns = {str(how): [shown(best.by_reduction[how]) for best in found] for how in REDUCTIONS}
    yield f"## Best-of-N\n\n{about}\n\n" + _table(systems, columns)


def _table(systems: Sequence[System], columns: Mapping[str, Sequence[str]]) -> str:
    """A row for each system; a column holds one cell for each."""
    names = [f"*{_cell(system.name)}*" if system.is_baseline else _cell(system.name) for system in systems]
    return _rows(("", *map(_cell, columns)), zip(names, *columns.values(), strict=True))


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("*", "\\*").replace("\n", " ")


def number(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f"{value:.3f}"


def shown(estimate: Estimate | None) -> str:
    if estimate is None or estimate.value is None:
        return NOT_AVAILABLE
    interval = "" if estimate.lower is None else f" [{number(estimate.lower)}, {number(estimate.upper)}]"
    return number(estimate.value) + interval


# --- Plots ----------------------------------------------------------------------------------------------------------


def _plots(systems: Sequence[System]) -> dict[str, str]:
    with_curves = [(system, system.curves) for system in systems if system.curves is not None]
    f1 = [Line(system.name, curves.threshold_f1, system.is_baseline) for system, curves in with_curves]
    plots = {"reliability.svg": line_plot("Reliability", "p(−)", "share of bad steps", _bins(systems), diagonal=True)}
    if with_curves:
        roc = [Line(system.name, curves.roc, system.is_baseline) for system, curves in with_curves]
        pr = [Line(system.name, curves.precision_recall, system.is_baseline) for system, curves in with_curves]
        plots["roc.svg"] = line_plot("ROC of p(−)", "false-positive rate", "recall of bad steps", roc, diagonal=True)
        plots["precision-recall.svg"] = line_plot("Precision and recall", "recall of bad steps", "precision", pr)
    if any(line.points for line in f1):
        plots["threshold-f1.svg"] = line_plot("F1 by threshold", "threshold on p(−)", "ProcessBench F1", f1)
    return plots


def _bins(systems: Sequence[System]) -> list[Line]:
    """Of every system as it is, and of PRMs recalibrated."""
    lines = []
    for system in systems:
        points = [(row.mean_p_bad, row.bad_share) for row in system.reliability]
        lines.append(Line(system.name, points, system.is_baseline, marked=True))
        if not system.is_baseline and system.reliability_recalibrated:
            after = [(row.mean_p_bad, row.bad_share) for row in system.reliability_recalibrated]
            lines.append(Line(f"{system.name}, recalibrated", after, marked=True))
    return lines
