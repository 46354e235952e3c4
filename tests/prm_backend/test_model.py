from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch.nn.functional import cross_entropy

from prm_backend.encoding import Adapter
from prm_backend.model import SCALARS, Backbone, StepHeads
from tests.prm_backend.tiny import FAMILIES, plain_solutions, random_model

SOLUTIONS = plain_solutions(6)
ADAPTER = Adapter(prefix_ids=(1,), separator_ids=(2,), layers=(1, 2), max_tokens=256)


def heads(bad_bias: list[float], neutral_bias: list[float], width: int = 3) -> StepHeads:
    flat = np.zeros((len(bad_bias), width), np.float32)
    biases = np.array([bad_bias, neutral_bias], np.float32)
    return StepHeads(flat, biases[0], flat, biases[1], np.zeros(2, np.float32))


@pytest.mark.parametrize("family", FAMILIES)
def test_features_do_not_depend_on_the_batch(family: str, tmp_path: Path) -> None:
    backbone = Backbone(random_model(family, tmp_path), ADAPTER)
    encoded = [backbone.encoder.encode(solution) for solution in SOLUTIONS]
    together = backbone.read(encoded)
    for solution, one, array in zip(SOLUTIONS, encoded, together, strict=True):
        assert array.shape == (len(solution.steps), backbone.width)
        np.testing.assert_allclose(backbone.read([one])[0], array, atol=1e-4)


def test_surprisal_is_the_loss_of_the_language_model(tmp_path: Path) -> None:
    backbone = Backbone(random_model("qwen2", tmp_path), ADAPTER)
    encoded = backbone.encoder.encode(SOLUTIONS[0])
    import torch

    ids = torch.tensor([encoded.ids])
    with torch.inference_mode():
        losses = cross_entropy(backbone.model(ids).logits[0, :-1], ids[0, 1:], reduction="none").numpy()
    array = backbone.read([encoded])[0]
    for row, start, end in zip(array, encoded.starts, encoded.ends, strict=True):
        assert row[SCALARS.index("mean_surprisal")] == pytest.approx(losses[start - 1 : end - 1].mean(), abs=1e-4)
        assert row[SCALARS.index("max_surprisal")] == pytest.approx(losses[start - 1 : end - 1].max(), abs=1e-4)


def test_an_encoder_has_no_surprisal_but_works(tmp_path: Path) -> None:
    backbone = Backbone(random_model("bert", tmp_path), ADAPTER)
    array = backbone.read([backbone.encoder.encode(SOLUTIONS[0])])[0]
    assert not array[:, :3].any()
    assert array[:, len(SCALARS) :].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_later_steps_do_not_change_what_is_said_of_earlier_ones(family: str, tmp_path: Path) -> None:
    backbone = Backbone(random_model(family, tmp_path), ADAPTER)
    whole = backbone.encoder.encode(SOLUTIONS[0])
    cut = type(whole)(whole.ids[: whole.ends[0]], whole.starts[:1], whole.ends[:1])
    np.testing.assert_allclose(backbone.read([cut])[0][0], backbone.read([whole])[0][0], atol=1e-4)


def test_probabilities_add_up_and_agreeing_heads_have_no_spread() -> None:
    scores = heads([0.0, 0.0], [0.0, 0.0]).predict(np.ones((2, 3), np.float32))
    assert scores.bad == pytest.approx((0.5, 0.5))
    assert scores.neutral == pytest.approx((0.25, 0.25))
    assert scores.good == pytest.approx((0.25, 0.25))
    assert scores.spread == pytest.approx((0.0, 0.0))


def test_heads_that_disagree_have_a_spread_and_extreme_logits_stay_probabilities() -> None:
    scores = heads([-1e4, 1e4], [1e4, -1e4]).predict(np.zeros((1, 3), np.float32))
    assert scores.bad == pytest.approx((0.5,))
    assert scores.spread == pytest.approx((0.5,))
    assert scores.neutral == pytest.approx((0.5,))
    assert scores.good == pytest.approx((0.0,))
