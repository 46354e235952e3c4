"""Linear layers on CPUs where torch's default matrix library is slow.

torch multiplies fp32 matrices by MKL, which uses half of the vector width of an AMD processor; oneDNN, which torch
brings along and uses for bf16, gave 2.1 times the speed there (bench/scoring.py). Numbers differ by rounding alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import nn

TRIALS = 5
ROWS, WIDTH = 256, 512  # of the trial
GAIN = 1.3  # less than that is within the noise of a busy machine
LEAST_WORK = 2**21  # multiplications, below which the call costs more than it saves


class OneDnnLinear(nn.Linear):
    """As `nn.Linear`; outside of training, fp32 on CPU is multiplied by oneDNN."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        plain = (
            torch.is_grad_enabled()
            or input.device.type != "cpu"
            or not input.dtype == self.weight.dtype == torch.float32
            or input.numel() * self.out_features < LEAST_WORK
            or torch.is_autocast_enabled("cpu")
        )
        return super().forward(input) if plain else onednn(input, self.weight, self.bias)


def onednn(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`nn.functional.linear` without gradients; the call that torch.compile puts in its place."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return product


def use_fastest_linear(model: nn.Module) -> None:
    """Let every plain linear layer of a model take the faster way where this processor has one. Names, weights and
    gradients stay as they are."""
    if onednn_is_faster():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = OneDnnLinear


@cache
def onednn_is_faster() -> bool:
    """Measured once for each process, in milliseconds of the calling thread's CPU time."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch ships it untyped
        return False
    rows, weight = torch.ones(ROWS, WIDTH), torch.ones(WIDTH, WIDTH)
    with torch.inference_mode():
        default = _quickest(lambda: nn.functional.linear(rows, weight))
        return default > GAIN * _quickest(lambda: onednn(rows, weight, None))


def _quickest(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(TRIALS):
        started = time.thread_time()
        work()
        seconds.append(time.thread_time() - started)
    return min(seconds)
