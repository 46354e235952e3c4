"""Every preset on a tiny checkpoint of its family, against the slow reading of `reference`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from prm_backend import adapters
from prm_backend.adapters import PRESETS, LoadedPrm, adapter
from prm_backend.errors import PrmError
from prm_backend.types import Solution, SolutionTree, StepNode, StepScores
from tests.prm_backend.adapters.published import HEADS
from tests.prm_backend.adapters.reference import REFERENCES, actprm_heads

Load = Callable[[str], LoadedPrm]
PROBLEM = r"What is $\frac{1}{2} + 0.75$? Put it in \boxed{}."
STEPS = (
    "The first is 0.5.",
    "Then 0.5 + 0.75 = 1.25, which is 5/4 - as the Straße says.",
    r"So the answer is \boxed{1.25}",
    "Thus 1.26.",
)


def solution(*steps: str, problem: str = PROBLEM, key: str = "one") -> Solution:
    return Solution(key, "p", problem, steps)


def triples(scores: StepScores) -> list[tuple[float, ...]]:
    return list(zip(scores.bad, scores.neutral, scores.good, strict=True))


def flat(rows: list[tuple[float, ...]]) -> list[float]:
    return [value for row in rows for value in row]


@pytest.mark.parametrize("name", HEADS)
def test_a_preset_scores_as_the_slow_reading_does(name: str, loaded: Load, published: Callable[[str], Path]) -> None:
    prm = loaded(name)
    (_, scores), (_, shorter) = prm.score([solution(*STEPS), solution(*STEPS[:2], key="two")])
    expected = REFERENCES[name](published(name), PROBLEM, STEPS)
    assert flat(triples(scores)) == pytest.approx(flat(expected), abs=1e-4)
    assert flat(triples(shorter)) == pytest.approx(flat(expected[:2]), abs=1e-4)
    assert max(scores.good) - min(scores.good) > 0.01, "a model that says the same of every step would test nothing"


def test_every_preset_is_tested_here() -> None:
    assert set(REFERENCES) == set(HEADS)
    assert all(preset.name == name for name, preset in PRESETS.items())


def test_an_unknown_preset_is_answered_by_the_list_of_presets() -> None:
    with pytest.raises(PrmError, match=r"no adapter is called 'gpt'; there are qwen2\.5-math-prm, "):
        adapter("gpt")


@pytest.mark.parametrize("name", HEADS)
def test_a_tree_scores_as_its_paths_do(name: str, loaded: Load) -> None:
    nodes = (
        StepNode("The first is 0.5.", -1),
        StepNode("Then 1.25.", 0),
        StepNode("Or both at once.", -1),
        StepNode("Then 1.5.", 0),
        StepNode("So.", 3),
    )
    tree = SolutionTree("tree", "p", PROBLEM, nodes)
    prm = loaded(name)
    ways = [("The first is 0.5.", "Then 1.25."), ("The first is 0.5.", "Then 1.5.", "So."), ("Or both at once.",)]
    whole, first, second, third = (scores for _, scores in prm.score([tree, *(solution(*way) for way in ways)]))
    assert whole.bad == pytest.approx([*first.bad, *third.bad, *second.bad[1:]], abs=1e-5)


def test_what_is_too_long_is_read_in_marked_windows_where_the_adapter_says_so(published: Callable[[str], Path]) -> None:
    short = replace(adapter("pure"), max_tokens=120, too_long="window")
    prm = adapters.load(published("pure"), short, device="cpu")
    (_, scores), (_, whole) = prm.score([solution(*["One more step of it."] * 12), solution("One.", key="short")])
    assert len(scores) == 12
    assert scores.windowed_from is not None
    assert whole.windowed_from is None


def test_the_spread_of_an_ensemble_is_that_of_its_heads(loaded: Load, published: Callable[[str], Path]) -> None:
    ((_, scores),) = loaded("actprm").score([solution(*STEPS)])
    for spread, heads in zip(scores.spread, actprm_heads(published("actprm"), PROBLEM, STEPS), strict=True):
        mean = sum(heads) / len(heads)
        assert spread == pytest.approx((sum((one - mean) ** 2 for one in heads) / len(heads)) ** 0.5, abs=1e-5)
    assert min(scores.spread) > 0
