"""The commands that run whole models: public PRMs by their adapters, and training of every weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prm_backend.__main__ import main
from prm_backend.adapters import adapter
from prm_backend.cli.files import labeled_solutions
from prm_backend.synthetic import generate_rows
from tests.prm_backend.adapters.published import publish
from tests.prm_backend.tiny import random_model

RECIPE = {"stages": [{"steps": 2}], "solutions_per_step": 4, "save_every": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with labeled solutions, a public PRM, a language model, and a checkpoint trained from that."""
    folder = tmp_path_factory.mktemp("cli-models")
    write(folder / "labels.jsonl", list(generate_rows(problems=6)))
    write(folder / "test.jsonl", list(generate_rows(problems=30, seed=5)))
    (folder / "recipe.json").write_text(json.dumps(RECIPE))
    publish("trl", folder / "public")
    random_model("qwen2", folder / "qwen2")
    assert run(folder, "train qwen2 labels.jsonl tuned --recipe recipe.json --classes 2 --heads 1") == 0
    return folder


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(folder: Path, line: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main(line.split())


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_public_prm_is_scored_by_its_adapter(home: Path) -> None:
    assert run(home, "score public labels.jsonl --adapter trl --out public.jsonl --cache kept") == 0
    first = lines(home / "public.jsonl")
    assert [row["id"] for row in first] == [row["id"] for row in lines(home / "labels.jsonl")]
    assert all(0 < p < 1 for row in first for p in row["bad"])
    assert run(home, "score public labels.jsonl --adapter trl --out again.jsonl --cache kept") == 0
    assert lines(home / "again.jsonl") == first


def test_an_adapter_shown_and_changed_is_another_adapter(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, "adapters show trl") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == adapter("trl").as_dict()
    (home / "changed.json").write_text(json.dumps(shown | {"separator": "\n\n\n"}))
    assert run(home, "score public labels.jsonl --adapter trl --out as-shown.jsonl") == 0
    assert run(home, "score public labels.jsonl --adapter changed.json --out changed.jsonl") == 0
    assert lines(home / "changed.jsonl") != lines(home / "as-shown.jsonl")
    (home / "wrong.json").write_text(json.dumps(shown | {"head": "none at all"}))
    assert run(home, "score public labels.jsonl --adapter wrong.json") == 1
    assert "head" in capsys.readouterr().err


def test_a_checkpoint_is_checked_against_its_adapter(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, "adapters check public trl") == 0
    assert run(home, "adapters check public qwen2.5-math-prm") == 1
    assert capsys.readouterr().out


def test_what_was_trained_whole_is_scored_and_evaluated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, "score tuned test.jsonl --out scores.jsonl") == 0
    assert len(lines(home / "scores.jsonl")) == 60
    assert run(home, "evaluate tuned test.jsonl --train labels.jsonl --report figures") == 0
    report = json.loads((home / "figures/report.json").read_text())
    assert [system["name"] for system in report["systems"]][:1] == ["PRM tuned"]
    assert {"majority", "position and length"} <= {system["name"] for system in report["systems"]}
    assert (home / "figures/report.md").read_text().startswith("# Evaluation of tuned")


def test_training_goes_on_from_a_checkpoint(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, "train tuned labels.jsonl further --recipe recipe.json") == 0
    parent = json.loads((home / "tuned/metadata.json").read_text())
    child = json.loads((home / "further/metadata.json").read_text())
    assert child["parent"] is not None
    assert child["base_model"] == parent["base_model"]
    assert child["recipe"]["solutions_per_step"] == 4


def test_a_pool_is_selected_from_by_its_scores(home: Path) -> None:
    assert run(home, "score tuned test.jsonl --out scores.jsonl") == 0
    (home / "policy.json").write_text('{"random_share": 0.5, "strategies": {"margin": 1}, "per_problem": 1}')
    line = "select test.jsonl --scores scores.jsonl --count 10 --policy policy.json --out"
    assert run(home, f"{line} one.jsonl --seed 3") == run(home, f"{line} two.jsonl --seed 3") == 0
    picks = lines(home / "one.jsonl")
    assert picks == lines(home / "two.jsonl")
    assert [pick["arm"] for pick in picks] == ["random"] * 5 + ["active"] * 5
    assert len({pick["id"] for pick in picks}) == 10
    assert all(0 < pick["inclusion_probability"] <= 1 for pick in picks)


def test_shards_together_are_the_whole(home: Path) -> None:
    assert run(home, "score tuned labels.jsonl --out whole.jsonl") == 0
    for part in range(3):
        assert run(home, f"score tuned labels.jsonl --shard {part}/3 --out {part}.jsonl") == 0
    parts = [lines(home / f"{part}.jsonl") for part in range(3)]
    whole = lines(home / "whole.jsonl")
    assert [row["id"] for row in whole] == [parts[place % 3][place // 3]["id"] for place in range(len(whole))]


def test_there_and_back_through_the_layout_of_trl(home: Path) -> None:
    assert run(home, "convert labels.jsonl trl.jsonl --to trl") == 0
    assert lines(home / "trl.jsonl")[0].keys() == {"prompt", "completions", "labels"}
    assert run(home, r"convert public imported --from-trl --separator \n") == 0
    assert run(home, "convert imported for-trl --to trl") == 0
    for name in ("imported", "for-trl --adapter trl"):
        assert run(home, f"score {name} labels.jsonl --out {name.split()[0]}.jsonl") == 0
    for one, other in zip(lines(home / "imported.jsonl"), lines(home / "for-trl.jsonl"), strict=True):
        assert one["bad"] == pytest.approx(other["bad"], abs=1e-5)


def test_a_solution_that_cannot_be_scored_costs_no_other(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(generate_rows(problems=3))
    rows[2] = {**rows[2], "steps": ["So it goes on. " * 2000], "ratings": [1]}
    write(home / "one-too-long.jsonl", rows)
    assert run(home, "score tuned one-too-long.jsonl --out some.jsonl") == 1
    assert "1 of 6 solutions have no scores" in capsys.readouterr().err
    found = lines(home / "some.jsonl")
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert ["error" in row for row in found] == [False, False, True, False, False, False]
    assert run(home, "select one-too-long.jsonl --scores some.jsonl --count 6 --out picks.jsonl") == 0
    assert "1 of 6 solutions have no scores" in capsys.readouterr().err


def test_labelings_of_one_solution_weigh_one_whatever_the_file(home: Path) -> None:
    row = next(generate_rows(problems=1))
    bare = {name: value for name, value in row.items() if name != "id"}
    for name in ("lea.jsonl", "max.jsonl"):
        write(home / name, [bare])
    first, second = labeled_solutions([home / "lea.jsonl", home / "max.jsonl"])
    assert first.solution == second.solution
    assert (first.weight, second.weight) == (0.5, 0.5)


def test_the_best_of_several_is_part_of_a_report(home: Path) -> None:
    rows = [row | {"final_answer_correct": -1 not in row["ratings"]} for row in generate_rows(problems=20, seed=9)]
    write(home / "candidates.jsonl", rows)
    line = "evaluate tuned test.jsonl --train labels.jsonl --candidates candidates.jsonl --report best"
    assert run(home, line) == 0
    system = json.loads((home / "best/report.json").read_text())["systems"][0]
    assert 0 < system["best_of_n"]["pass_at_n"]["value"] <= 1


def test_both_verdicts_on_each_answer(home: Path) -> None:
    row = {"problem": "What is 3 + 4?", "steps": ["3 + 4 = 7.", "# Answer\n\n7"], "ratings": [1, 1]}
    asked = [{**row, "id": name, "ground_truth_answer": truth} for name, truth in (("a", "7"), ("b", "8"))]
    write(home / "answers.jsonl", asked)
    assert run(home, "grade answers.jsonl --out verdicts.jsonl") == 0
    assert [(row["id"], row["math_verify"], row["conservative"]) for row in lines(home / "verdicts.jsonl")] == [
        ("a", "correct", "correct"),
        ("b", "incorrect", "incorrect"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("score public labels.jsonl", "public: no checkpoint here"),
        ("score public labels.jsonl --adapter nothing", "nothing"),
        ("score tuned labels.jsonl --shard 3/3", "--shard 3/3"),
        ("score tuned labels.jsonl --model m", "--model belongs to a public PRM"),
        ("train qwen2 labels.jsonl tuned", "tuned: already exists"),
        ("train labels.jsonl labels.jsonl out", "neither a checkpoint nor a transformers model folder"),
        ("train qwen2 labels.jsonl out --recipe bad.json", "warm_up: no such field"),
        ("train qwen2 labels.jsonl out --recipe broken.json", "broken.json: not JSON"),
        ("train qwen2 labels.jsonl out --recipe list.json", "list.json: a recipe is an object"),
        ("train qwen2 labels.jsonl out --recipe two.json --classes 3", "classes: three here, and two in two.json"),
        ("train tuned labels.jsonl out --lora 4", "--lora is for a new model"),
        ("train tuned labels.jsonl out --separator X", "--separator is for a new model"),
        ("train qwen2 labels.jsonl out --cache kept", "--cache is for heads on a frozen backbone"),
        ("score public labels.jsonl --adapter prime --cache kept", "--cache: adapter prime"),
        ("score tuned labels.jsonl --out kept", "kept: is a folder"),
        ("select labels.jsonl --scores other.jsonl --count 3", "not the scores of this pool"),
        ("select labels.jsonl --scores uneven.jsonl --count 3", "line 1: not a line that `score` writes"),
        ("select labels.jsonl --scores latin.jsonl --count 3", "line 1: not a line that `score` writes"),
        ("select labels.jsonl --scores labels.jsonl --count 3", "line 1: not a line that `score` writes"),
        ("convert labels.jsonl out.jsonl", "--to a format, or --from-trl"),
        ("convert public out --from-trl", "--separator"),
        ("convert tuned out --to prm800k", "a checkpoint is converted to trl"),
    ],
)
def test_what_a_person_can_mend_is_one_line(
    line: str, message: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "bad.json").write_text('{"warm_up": 3}')
    (home / "broken.json").write_text("{")
    (home / "list.json").write_text("[1, 2]")
    (home / "two.json").write_text('{"classes": "two"}')
    (home / "kept").mkdir(exist_ok=True)
    (home / "latin.jsonl").write_bytes('{"id": "é"}'.encode("latin-1"))
    scores = {"neutral": [0.1], "good": [0.1], "spread": [0]}
    write(home / "other.jsonl", [{"id": "else", "bad": [0.8], **scores}])
    write(home / "uneven.jsonl", [{"id": "else", "bad": [0.8, 0.1], **scores}])
    assert run(home, line) == 1
    (error,) = capsys.readouterr().err.strip().splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert not (home / "out").exists()
