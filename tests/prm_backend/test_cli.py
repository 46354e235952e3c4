from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prm_backend.__main__ import main
from prm_backend.synthetic import generate_rows


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a whole round: pool.jsonl, and the checkpoints cold and first."""
    folder = tmp_path_factory.mktemp("cli")
    assert main(["generate", str(folder / "pool.jsonl"), "--problems", "30"]) == 0
    assert main(["pretrain", str(folder / "pool.jsonl"), str(folder / "cold"), "--steps", "3"]) == 0
    assert main(["train", str(folder / "cold"), str(folder / "pool.jsonl"), str(folder / "first")]) == 0
    return folder


def test_generate_writes_the_rows_of_the_seed(home: Path) -> None:
    rows = [json.loads(line) for line in (home / "pool.jsonl").read_text().splitlines()]
    assert rows == list(generate_rows(problems=30))


def test_score_writes_one_line_for_each_solution(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", str(home / "first"), str(home / "pool.jsonl")]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = list(generate_rows(problems=30))
    assert [line["id"] for line in lines] == [row["id"] for row in rows]
    assert [len(line["bad"]) for line in lines] == [len(row["ratings"]) for row in rows]  # type: ignore[arg-type]
    assert all(0 < line["solution_score"] < 1 for line in lines)


def test_evaluate_prints_figures_beside_baselines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(home / "first"), str(home / "pool.jsonl"), "--train", str(home / "pool.jsonl")]
    assert main(["evaluate", *files, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures.keys() == {"checkpoint", "position_baseline", "majority_baseline"}
    assert figures["checkpoint"]["solutions"] == 60
    assert figures["checkpoint"]["step_auroc"] > 0.5 == figures["majority_baseline"]["step_auroc"]
    assert main(["evaluate", *files]) == 0
    assert "step auroc" in capsys.readouterr().out


def test_training_files_without_a_right_solution_cost_the_f1_only(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (home / "pool.jsonl").read_text().splitlines()
    wrong = [row for row in rows if -1 in json.loads(row)["ratings"]]
    (tmp_path / "wrong.jsonl").write_text("\n".join(wrong) + "\n")
    files = [str(home / "first"), str(home / "pool.jsonl"), "--train", str(tmp_path / "wrong.jsonl")]
    assert main(["evaluate", *files, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["checkpoint"]["f1"] is None
    assert captured.err.startswith("no threshold, so no F1: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere", "pool.jsonl"], "error: nowhere: no checkpoint here (metadata.json is missing)"),
        (["train", "cold", "missing.jsonl", "out"], "missing.jsonl"),
        (["train", "cold", "broken.jsonl", "out"], "error: broken.jsonl: line 1"),
        (["train", "cold", "unlabeled.jsonl", "out"], "error: training needs bad steps and steps that are not bad"),
        (["train", "cold", "pool.jsonl", "first"], "error: first: already exists"),
    ],
)
def test_a_mendable_error_is_one_line_and_exit_code_1(
    arguments: list[str],
    message: str,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(home)
    row = next(generate_rows(problems=1))
    (home / "broken.jsonl").write_text("{not json\n")
    (home / "unlabeled.jsonl").write_text(json.dumps({**row, "ratings": [None] * len(row["steps"])}) + "\n")  # type: ignore[arg-type]
    assert main(arguments) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 1
    assert message in errors[0]


def test_wrong_usage_is_exit_code_2() -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["train"])


COMMANDS = ("pretrain", "train", "score", "evaluate", "generate", "select", "grade", "convert", "adapters")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_teaches_and_loads_no_torch(command: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['prm_backend', *{command!r}, '--help']\n"
        "try:\n    runpy.run_module('prm_backend', run_name='__main__')\n"
        "finally:\n    assert 'torch' not in sys.modules\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert "usage: python -m prm_backend" in run.stdout
