from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from prm_backend.evaluation import Candidate, Estimate, EvaluationData, Results, ThresholdSource, measure, report
from prm_backend.evaluation.plots import Line, line_plot
from prm_backend.evaluation.report import shown
from prm_backend.types import LabeledSolution
from tests.prm_backend.evaluation.judged import B, G, campaign, knowing, labeled

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def results() -> Results:
    train, test = campaign(0, name="train"), campaign(2, 60, name="test")
    injected = [labeled([G, B, G], f"i{n}", f"ip{n}", text=f"injected {n} of its own {n}") for n in range(6)]
    asked = [labeled([None], f"c{n}", f"cp{n // 2}", text=f"question {n // 2} with candidates") for n in range(6)]
    candidates = [Candidate(item.solution, "1", index % 2 == 0) for index, item in enumerate(asked)]
    data = EvaluationData(test=test, train=train, injected=injected, candidates=candidates)
    items: list[LabeledSolution] = [*train, *test, *injected, *asked]
    sources = (ThresholdSource.TRAINING, ThresholdSource.FIXED)
    return measure(data, {"ours | <new> *v2*": knowing(items, 0.3)}, thresholds=sources, samples=20)


def test_the_folder_holds_one_json_one_markdown_and_its_plots(results: Results, tmp_path: Path) -> None:
    report(results, title="First").write(tmp_path / "a" / "b")
    found = report(results, title="Second")
    found.write(tmp_path / "a" / "b")  # once more, over the first
    folder = tmp_path / "a" / "b"
    names = {path.name for path in folder.iterdir()}
    assert names == {"report.json", "report.md", *found.plots}
    assert found.plots.keys() == {"reliability.svg", "roc.svg", "precision-recall.svg", "threshold-f1.svg"}
    text = (folder / "report.md").read_text()
    assert set(re.findall(r"\]\(([^)]+\.svg)\)", text)) == set(found.plots)
    assert text.startswith("# Second\n")
    data = json.loads((folder / "report.json").read_text())
    assert data["systems"][0]["figures"]["step_auroc"]["value"] == results.systems[0].figures["step_auroc"].value
    assert data["leakage"]["test"]["problems"] == results.problems


def test_every_table_has_a_row_for_each_baseline(results: Results) -> None:
    text = report(results).markdown
    tables = [section for section in re.split(r"^## ", text, flags=re.MULTILINE) if "| --- |" in section]
    assert len(tables) >= 7
    for section in tables:
        for name in ("*majority*", "*position and length*", "*random*"):
            assert f"| {name} |" in section, section
        rows = [line.replace(r"\|", "") for line in section.splitlines() if line.startswith("|")]
        by_table = {row.count("|") for row in rows}
        assert len(by_table) <= 2  # the reliability table stands below calibration


def test_the_source_of_each_threshold_stands_in_the_report(results: Results) -> None:
    found = report(results)
    assert "ProcessBench F1, threshold: training" in found.markdown
    assert "ProcessBench F1, threshold: fixed 0.5" in found.markdown
    assert [at["source"] for at in found.data["systems"][0]["thresholds"]] == ["training", "fixed 0.5"]


def test_what_was_left_out_is_counted_in_the_report(results: Results) -> None:
    assert re.search(
        r"- test: of \d+ problems, 0 are among the \d+ training problems word for word", report(results).markdown
    )


def test_without_baselines_there_is_no_report(results: Results) -> None:
    alone = replace(results, systems=results.systems[:1])
    with pytest.raises(ValueError, match="without its baselines"):
        report(alone)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.91234, 0.9, 0.95), "0.912 [0.900, 0.950]"),
        (Estimate(0.5), "0.500"),
        (Estimate(None), "–"),
        (None, "–"),
    ],
)
def test_an_estimate_is_shown_with_its_interval(estimate: Estimate | None, text: str) -> None:
    assert shown(estimate) == text


def test_plots_are_whole_documents_that_follow_the_colour_scheme(results: Results) -> None:
    for svg in report(results).plots.values():
        root = ElementTree.fromstring(svg)  # noqa: S314 - our own text
        assert root.tag == f"{SVG}svg"
        assert "prefers-color-scheme: dark" in svg
        legend = [element.text for element in root.iter(f"{SVG}text")]
        assert {"ours | <new> *v2*", "majority", "random"} <= set(legend)


def test_lines_keep_inside_the_frame_and_baselines_are_dashed() -> None:
    svg = line_plot('A "title" & more', "x", "y", [Line("a", [(0, 0), (1, 1)]), Line("b", [], is_baseline=True)])
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own text
    frame = next(root.iter(f"{SVG}rect")).attrib
    left, top, size = (float(frame[name]) for name in ("x", "y", "width"))
    path = next(e.attrib["d"] for e in root.iter(f"{SVG}path") if e.attrib["class"] == "line")
    assert path == f"M{left:.1f} {top + size:.1f}L{left + size:.1f} {top:.1f}"
    assert sum("baseline" in e.attrib.get("class", "") for e in root.iter(f"{SVG}path")) == 1
    assert root.attrib["aria-label"] == 'A "title" & more'
