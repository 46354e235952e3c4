"""95 % intervals by resampling problems (Efron's percentile bootstrap).

A `Statistic` maps how often each problem was drawn, (samples, problems), to its value in each sample, (samples,), NaN
where it is not defined. Most are functions of a few sums, so that a thousand samples are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from prm_backend.evaluation.steps import Floats, Ints

Statistic = Callable[[Floats], Floats]
Name = TypeVar("Name", bound=Hashable)

SAMPLES = 1000
CELLS = 500_000  # samples x rows at once: 4 MB, which stays in a cache


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95 % interval; None where it is not defined, or where one problem alone says nothing about
    others."""

    value: float | None
    lower: float | None = None
    upper: float | None = None


def draws(problems: int, samples: int, seed: int, *, rows: int = 1) -> Iterator[Floats]:
    """How often each problem is drawn, (samples, problems), in pieces whose product with `rows` fits into memory."""
    rng = np.random.default_rng(seed)
    at_once = max(1, CELLS // max(rows, problems, 1))
    for start in range(0, samples, at_once):
        size = min(at_once, samples - start)
        yield rng.multinomial(problems, np.full(problems, 1 / problems), size=size).astype(float)


def estimates(
    statistics: Mapping[Name, Statistic], problems: int, *, rows: int = 1, samples: int = SAMPLES, seed: int = 0
) -> dict[Name, Estimate]:
    """Each statistic on the data and its interval, all from the same draws. `rows` is the largest number of rows that a
    statistic spreads one sample over. Samples in which a statistic is not defined are left out of its interval."""
    values = {name: float(statistic(np.ones((1, problems)))[0]) for name, statistic in statistics.items()}
    drawn: dict[Name, list[Floats]] = {name: [] for name in statistics}
    if problems > 1:
        for weights in draws(problems, samples, seed, rows=rows):
            for name, statistic in statistics.items():
                drawn[name].append(statistic(weights))
    return {name: _estimate(values[name], drawn[name]) for name in statistics}


def _estimate(value: float, drawn: list[Floats]) -> Estimate:
    if np.isnan(value):
        return Estimate(None)
    interval = interval_of(np.concatenate(drawn)) if drawn else None
    return Estimate(value, *(interval or (None, None)))


def interval_of(drawn: Floats) -> tuple[float, float] | None:
    """The middle 95 % of the samples that are defined; None where there are none."""
    defined = drawn[~np.isnan(drawn)]
    if not defined.size:
        return None
    lower, upper = np.percentile(defined, [2.5, 97.5])
    return float(lower), float(upper)


def of_sums(rows: Floats, problem: Ints, problems: int, figure: Callable[[Floats], Floats]) -> Statistic:
    """The statistic that is `figure` of the sums over `rows` (n, k), row i belonging to problem `problem[i]`: figure
    maps (samples, k) to (samples,)."""
    totals = np.zeros((problems, rows.shape[1]))
    np.add.at(totals, problem, rows)
    return lambda weights: figure(weights @ totals)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """NaN where the denominator is 0."""
    quotient: Floats = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def harmonic_mean(a: Floats, b: Floats) -> Floats:
    """0 where both are 0, NaN where one is NaN."""
    total = a + b
    return np.where(total == 0, 0.0, 2 * a * b / np.where(total == 0, 1.0, total))
