from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prm_backend.checkpoints import BACKBONE, load_checkpoint
from prm_backend.errors import Cancelled, CheckpointError, NotEnoughData
from prm_backend.model import EXCESS
from prm_backend.pretraining import init_backbone, pretrain_embedded
from prm_backend.scoring import Scorer
from prm_backend.types import Progress, Solution
from tests.prm_backend.tiny import FAMILIES, plain_solutions, random_model

SHARED = Path(__file__).parents[3] / "shared" / "data"


def weights(checkpoint: Path) -> dict[str, np.ndarray]:
    return load_file(checkpoint / BACKBONE / "model.safetensors")


def test_the_cold_start_is_a_complete_checkpoint_that_transformers_reads(tmp_path: Path) -> None:
    out = pretrain_embedded(plain_solutions(10), tmp_path / "cold", steps=2)
    assert out == tmp_path / "cold"
    checkpoint = load_checkpoint(out)
    assert checkpoint.metadata.kind == "pretrained"
    assert checkpoint.metadata.recipe["updates"] == 2
    model = AutoModelForCausalLM.from_pretrained(out / BACKBONE)
    assert 4e5 <= sum(p.numel() for p in model.parameters()) <= 3e6
    assert len(AutoTokenizer.from_pretrained(out / BACKBONE)) == model.config.vocab_size


def test_the_same_steps_and_seed_give_the_same_weights(tmp_path: Path) -> None:
    pool = plain_solutions(10)
    first, again, other = (
        weights(pretrain_embedded(pool, tmp_path / name, steps=3, seed=seed))
        for name, seed in (("first", 5), ("again", 5), ("other", 6))
    )
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_cold_scores_rise_with_surprisal_and_are_probabilities(tmp_path: Path) -> None:
    pool = plain_solutions(40)
    scorer = Scorer.load(pretrain_embedded(pool, tmp_path / "cold", steps=5))
    surprisal = np.concatenate([array[:, EXCESS] for _, array in scorer.features(pool)])
    bad = np.concatenate([scores.bad for _, scores in scorer.score(pool)])
    assert (np.diff(bad[np.argsort(surprisal)]) >= -1e-6).all()
    assert 0.0 < bad.min() < bad.max() < 1.0
    assert 0.05 < bad.mean() < 0.4


def test_a_solution_the_pool_never_saw_can_be_scored(tmp_path: Path) -> None:
    scorer = Scorer.load(pretrain_embedded(plain_solutions(10), tmp_path / "cold", steps=2))
    strange = Solution("strange", "p", "Найдите 日本 $\\sum_{i=1}^{9999}$ \x00", ("", "🙂" * 30, "\n\n"))
    [(_, scores)] = scorer.score([strange])
    assert len(scores) == 3


@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_tiny_pool_stops_before_it_is_known_by_heart(count: int, tmp_path: Path) -> None:
    out = pretrain_embedded(plain_solutions(25)[:count], tmp_path / "cold", seconds=1.0)
    assert 1 <= load_checkpoint(out).metadata.recipe["updates"] <= 40


def test_progress_is_told_often_and_can_cancel_without_leaving_a_trace(tmp_path: Path) -> None:
    told: list[Progress] = []

    def cancel_at_the_third(progress: Progress) -> None:
        told.append(progress)
        if len(told) == 3:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        pretrain_embedded(plain_solutions(10), tmp_path / "cold", steps=100, progress=cancel_at_the_third)
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData, match="at least one solution with steps"):
        pretrain_embedded([Solution("k", "p", "problem", ())], tmp_path / "cold", steps=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_any_transformers_model_becomes_a_cold_start(family: str, tmp_path: Path) -> None:
    pool = plain_solutions(10)
    out = init_backbone(random_model(family, tmp_path / "model"), tmp_path / "cold", solutions=pool)
    scores = dict(Scorer.load(out).score(pool))
    bad = {p for score in scores.values() for p in score.bad}
    assert len(bad) == 1 if family == "bert" else len(bad) > 10


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a transformers model"):
        init_backbone(tmp_path, tmp_path / "cold")


@pytest.mark.skipif(not SHARED.exists(), reason="the shared data are not here")
def test_real_solutions_with_latex_pretrain_and_score(tmp_path: Path) -> None:
    from prm_backend.cli.files import records, solution_of

    pool = [solution_of(record) for record in records([SHARED / "processbench_math.jsonl"])][:12]
    scorer = Scorer.load(pretrain_embedded(pool, tmp_path / "cold", steps=1))
    assert sum(len(scores) for _, scores in scorer.score(pool)) == sum(len(solution.steps) for solution in pool)
