from __future__ import annotations

import pytest
from torch import nn
from transformers import GPT2Config, GPT2Model

from prm_backend.finetuning.memory import estimate_memory
from prm_backend.stepmodel import StepModel
from tests.prm_backend.finetuning.little import three_classes


@pytest.mark.parametrize("trees", [False, True])
@pytest.mark.parametrize(("positions", "longest"), [(16, 16), (40, 70), (512, 3)])
def test_no_more_is_read_to_estimate_than_the_model_takes(positions: int, longest: int, trees: bool) -> None:
    """A tree may be longer than its longest way."""
    config = GPT2Config(vocab_size=32, n_embd=16, n_layer=1, n_head=2, n_positions=positions)
    model = StepModel(GPT2Model(config), nn.Linear(16, 3), three_classes)
    one, two = (estimate_memory(model, [[longest] * rows], trees=trees).activations for rows in (1, 2))
    assert 0 < one < two
