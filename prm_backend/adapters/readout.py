"""Raw outputs at a step to p(−), p(0), p(+), by the rule that the adapter states (`spec.RULES`)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import logsigmoid

from prm_backend.adapters.spec import CLASSES, Adapter
from prm_backend.stepmodel import StepProbabilities, TrainableReadout


class EnsembleHead(nn.Module):
    """E networks Linear, ReLU, Linear, ReLU, Linear side by side: (S, hidden) to (S, E). The layers' weights are
    (E, in, out), their biases (E, out), as in ActPRM's checkpoints (arXiv 2504.10559)."""

    def __init__(self, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weight for weight, _ in layers)
        self.biases = nn.ParameterList(bias for _, bias in layers)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        signal = hidden.expand(self.weights[0].shape[0], *hidden.shape)
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            signal = torch.baddbmm(bias[:, None], torch.relu(signal) if layer else signal, weight)
        return signal.squeeze(-1).T


def readout_of(adapter: Adapter) -> TrainableReadout:
    """The mapping from raw outputs (S, outputs) to probabilities, and to their logarithms for training."""
    if adapter.readout == "sigmoid":
        return TrainableReadout(sigmoids, sigmoid_logs)
    if adapter.readout == "mean_sigmoid":
        return TrainableReadout(mean_of_sigmoids, sigmoid_logs)
    return softmax_over(adapter.classes)


def softmax_over(classes: Sequence[str]) -> TrainableReadout:
    """Of raw (S, classes): what each output means, in their order."""
    places = [CLASSES.index(name) for name in classes]

    def softmax(raw: torch.Tensor) -> StepProbabilities:
        p = raw.new_zeros(len(raw), 3)
        p[:, places] = raw.softmax(dim=1)
        return StepProbabilities(p, raw.new_zeros(len(raw)))

    def logs(raw: torch.Tensor) -> torch.Tensor:
        by_class = dict(zip(classes, raw.float().log_softmax(dim=1).unbind(dim=1), strict=True))
        bad, good = by_class["bad"], by_class["good"]
        if "neutral" not in by_class:
            return torch.stack([bad, good, good, good], dim=1)[:, None]
        neutral = by_class["neutral"]
        return torch.stack([bad, neutral, good, torch.logaddexp(neutral, good)], dim=1)[:, None]

    return TrainableReadout(softmax, logs)


def sigmoids(raw: torch.Tensor) -> StepProbabilities:
    """raw (S, 1): the log-odds of good"""
    return StepProbabilities(two_classes(raw[:, 0].sigmoid()), raw.new_zeros(len(raw)))


def mean_of_sigmoids(raw: torch.Tensor) -> StepProbabilities:
    """raw (S, E): the log-odds of good by each head"""
    good = raw.sigmoid()
    return StepProbabilities(two_classes(good.mean(dim=1)), good.std(dim=1, correction=0))


def sigmoid_logs(raw: torch.Tensor) -> torch.Tensor:
    """raw (S, E), each the log-odds of good"""
    good, bad = logsigmoid(raw.float()), logsigmoid(-raw.float())
    return torch.stack([bad, good, good, good], dim=-1)


def two_classes(good: torch.Tensor) -> torch.Tensor:
    """good (S,) to (S, 3)"""
    return torch.stack([1 - good, torch.zeros_like(good), good], dim=1)
