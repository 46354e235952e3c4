from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from prm_backend.policy import Policy
from prm_backend.selection import Candidates, select, select_active
from prm_backend.selection.diversity import DIMENSIONS, spread_out

Features = npt.NDArray[np.float32]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def no_centres(features: Features) -> Features:
    return np.empty((0, features.shape[1]), np.float32)


def line(*places: float) -> Features:
    return np.array(places, np.float32)[:, None]


@given(
    arrays(np.float32, st.tuples(st.integers(0, 12), st.just(3)), elements=st.floats(-(2.0**127), 2.0**127, width=32)),
    arrays(np.float32, st.tuples(st.integers(0, 4), st.just(3)), elements=st.floats(-(2.0**127), 2.0**127, width=32)),
    st.integers(0, 15),
)
def test_picks_never_repeat_and_their_distances_never_grow_however_large_the_numbers(
    features: Features, centres: Features, count: int
) -> None:
    picked, distances = spread_out(features, centres, count, rng())
    assert len(set(picked.tolist())) == len(picked) == min(count, len(features))
    assert np.isfinite(distances).all()
    assert (distances >= 0).all()
    assert (np.diff(distances) <= 0).all()


def test_each_pick_is_the_farthest_from_the_mean_the_centres_and_those_before() -> None:
    features = line(0, 1, 2, 9, 10)  # the mean is 4.4
    picked, distances = spread_out(features, no_centres(features), 3, rng())
    assert picked.tolist() == [4, 0, 2]
    assert distances == pytest.approx([5.6, 4.4, 2.0], rel=1e-3)
    picked, distances = spread_out(features, line(10), 2, rng())
    assert picked.tolist() == [0, 2]
    assert distances == pytest.approx([4.4, 2.0], rel=1e-3)


def slow_k_centre(features: Features, count: int) -> list[int]:
    picked: list[int] = []
    for _ in range(count):
        centres = [features.mean(axis=0), *features[picked]]
        nearest = [min(float(np.linalg.norm(row - centre)) for centre in centres) for row in features]
        picked.append(int(np.argmax([-1 if index in picked else d for index, d in enumerate(nearest)])))
    return picked


@given(st.integers(0, 1000))
def test_it_is_greedy_k_centre(seed: int) -> None:
    features = rng(seed).standard_normal((30, 5), np.float32)
    assert spread_out(features, no_centres(features), 10, rng())[0].tolist() == slow_k_centre(features, 10)


def clusters(dimensions: int, *, per_cluster: int = 200, count: int = 12) -> tuple[Features, npt.NDArray[np.int64]]:
    """Features around `count` far centres, and to which centre each belongs."""
    places = rng(1).standard_normal((count, dimensions), np.float32) * 10
    cluster = np.repeat(np.arange(count), per_cluster)
    return places[cluster] + rng(2).standard_normal((len(cluster), dimensions), np.float32) * 0.1, cluster


@pytest.mark.parametrize("dimensions", [8, DIMENSIONS, 10 * DIMENSIONS])
def test_a_batch_covers_every_cluster_before_it_repeats_one_in_few_dimensions_and_in_many(dimensions: int) -> None:
    features, cluster = clusters(dimensions)
    picked, distances = spread_out(features, no_centres(features), 13, rng())
    assert len(set(cluster[picked[:12]].tolist())) == 12
    assert distances[12] < distances[11] / 3


def pool(features: Features, bad: npt.NDArray[np.float64]) -> Candidates:
    count = len(features)
    return Candidates.of_arrays([str(n) for n in range(count)], range(count), [1] * count, bad, features=features)


def test_diversity_keeps_away_from_the_random_arm_of_its_batch() -> None:
    features, cluster = clusters(8)
    candidates = pool(features, np.full(len(features), 0.5))
    taken = [str(np.flatnonzero(cluster == number)[0]) for number in range(6)]
    picks = select_active(candidates, Policy(0.0, {"diversity": 1.0}), 6, rng(), taken=taken)
    assert sorted(int(cluster[int(pick.key)]) for pick in picks) == [6, 7, 8, 9, 10, 11]


def test_spreading_out_gives_up_a_little_uncertainty_for_many_more_kinds() -> None:
    features, cluster = clusters(8)
    bad = 0.5 - 0.001 * cluster - 1e-6 * np.arange(len(cluster))  # the first cluster is the most uncertain
    candidates = pool(features, bad)
    plain = select(candidates, Policy(0.0, {"margin": 1.0}), 100, rng())
    spread = select(candidates, Policy(0.0, {"margin": 1.0}, diverse_among=10), 100, rng())
    assert len({int(cluster[int(pick.key)]) for pick in plain}) == 1
    assert len({int(cluster[int(pick.key)]) for pick in spread}) == 5  # as many as the best 1,000 hold
    assert {pick.strategy for pick in spread} == {"margin"}
    best = sorted((1 - abs(2 * p - 1) for p in bad), reverse=True)[:1000]
    assert min(pick.score or 0 for pick in spread) >= best[-1]


def test_what_diversity_looked_at_is_drawn_by_lot_and_the_share_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prm_backend.selection.strategies.LOOKED_AT", 40)
    features, _ = clusters(2, per_cluster=20)
    candidates = pool(features, np.full(len(features), 0.5))
    found: Counter[str] = Counter()
    for seed in range(300):
        picks = select(candidates, Policy(0.0, {"diversity": 1.0}), 3, rng(seed))
        assert {pick.inclusion_probability for pick in picks} == {40 / 240}
        found.update(pick.key for pick in picks)
    assert max(found.values()) <= 300 * 40 / 240 + 4.5 * np.sqrt(300 * 40 / 240), "nobody is picked more than looked at"
