from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.evaluation.bootstrap import Estimate, Statistic, draws, estimates, harmonic_mean, of_sums, ratio
from prm_backend.evaluation.steps import Floats, folds_of


def mean_of(values: list[float]) -> Statistic:
    rows = np.column_stack([values, np.ones(len(values))])
    return of_sums(rows, np.arange(len(values)), len(values), lambda sums: ratio(sums[:, 0], sums[:, 1]))


def test_the_interval_of_a_mean_is_about_two_standard_errors() -> None:
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = estimates({"mean": mean_of(values.tolist())}, 400, samples=2000)["mean"]
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.lower == pytest.approx(values.mean() - 1.96 * error, abs=0.03)
    assert found.upper == pytest.approx(values.mean() + 1.96 * error, abs=0.03)


def test_the_seed_alone_decides_and_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    statistic = {"mean": mean_of([1.0, 2.0, 3.0, 5.0])}
    whole = estimates(statistic, 4, seed=3)
    assert estimates(statistic, 4, seed=4) != whole
    monkeypatch.setattr("prm_backend.evaluation.bootstrap.CELLS", 20)
    assert estimates(statistic, 4, rows=7, seed=3) == whole


def test_every_draw_is_of_as_many_problems_as_there_are() -> None:
    drawn = np.concatenate(list(draws(7, 50, 0)))
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()


def test_samples_where_a_figure_is_not_defined_are_left_out() -> None:
    def of_first(weights: Floats) -> Floats:
        return ratio(weights[:, 0] * 3, weights[:, 0])

    assert estimates({"x": of_first}, 2)["x"] == Estimate(3.0, 3.0, 3.0)


def test_what_is_not_defined_is_none_and_one_problem_has_no_interval() -> None:
    nothing: Statistic = lambda weights: np.full(len(weights), np.nan)  # noqa: E731 - a name for the reader
    assert estimates({"x": nothing}, 3)["x"] == Estimate(None)
    assert estimates({"x": mean_of([2.0])}, 1)["x"] == Estimate(2.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_harmonic_mean_lies_between(a: float, b: float) -> None:
    mean = harmonic_mean(np.array([a]), np.array([b]))[0]
    assert min(a, b) - 1e-12 <= mean <= max(a, b) + 1e-12
    assert np.isnan(harmonic_mean(np.array([a]), np.array([np.nan]))[0])


@given(st.sets(st.text(max_size=4), max_size=30), st.integers(2, 5))
def test_folds_are_of_equal_size_and_go_by_the_keys_alone(keys: set[str], folds: int) -> None:
    found = folds_of(keys, folds)
    assert found == folds_of(sorted(keys, reverse=True), folds)
    sizes = [list(found.values()).count(fold) for fold in range(folds)]
    assert sum(sizes) == len(keys)
    assert max(sizes) - min(sizes) <= 1
