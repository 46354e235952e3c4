from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from prm_backend import linear
from prm_backend.linear import OneDnnLinear, use_fastest_linear


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "LEAST_WORK", 1)


@pytest.mark.usefixtures("faster")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 3, 8), (0, 8)])
def test_the_faster_way_gives_the_same_numbers(bias: bool, shape: tuple[int, ...]) -> None:
    plain = nn.Linear(8, 5, bias=bias)
    fast = copy.deepcopy(plain)
    use_fastest_linear(fast)
    assert type(fast) is OneDnnLinear
    with torch.inference_mode():
        rows = torch.randn(shape)
        torch.testing.assert_close(fast(rows), plain(rows), atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("faster")
def test_training_and_other_precisions_are_untouched() -> None:
    layer = nn.Linear(8, 5)
    use_fastest_linear(layer)
    rows = torch.randn(3, 8, requires_grad=True)
    layer(rows).sum().backward()
    assert rows.grad is not None
    assert layer.weight.grad is not None
    half = layer.to(torch.bfloat16)
    with torch.inference_mode():
        assert half(rows.bfloat16()).dtype == torch.bfloat16


@pytest.mark.usefixtures("faster")
def test_only_plain_layers_change_and_weights_keep_their_names() -> None:
    class Special(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(2, 2), Special(2, 2), nn.LayerNorm(2))
    names = list(model.state_dict())
    use_fastest_linear(model)
    assert [type(layer) for layer in model] == [OneDnnLinear, Special, nn.LayerNorm]
    assert list(model.state_dict()) == names


def test_nothing_changes_where_it_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: False)
    layer = nn.Linear(2, 2)
    use_fastest_linear(layer)
    assert type(layer) is nn.Linear
