from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.policy import CONVINCING, EVERY_STRATEGY, STRATEGIES, Policy, PolicyError, parse_policy

GOOD: dict[str, Any] = {
    "random_share": 0.3,
    "strategies": {"disagreement": 0.5, "convincing_wrong_answer": 0.5},
    "per_problem": 2,
}


def test_a_policy_is_read_from_json_and_written_back() -> None:
    policy = parse_policy(json.loads(json.dumps(GOOD)))
    assert policy == Policy(0.3, {"disagreement": 0.5, "convincing_wrong_answer": 0.5}, 2)
    assert policy.as_dict() == GOOD


def test_everything_random_needs_no_strategies() -> None:
    assert parse_policy({"random_share": 1}) == Policy(1.0, {}, 1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "a policy must be an object"),
        ([], "a policy must be an object"),
        ({}, "random_share: is missing"),
        (GOOD | {"share": 1}, "share: not a key"),
        (GOOD | {"random_share": "0.3"}, "random_share: must be a number, not '0.3'"),
        (GOOD | {"random_share": True}, "random_share: must be a number"),
        (GOOD | {"random_share": 30}, "random_share: must be from 0 to 1, not 30"),
        (GOOD | {"random_share": -0.1}, "random_share: must be from 0 to 1"),
        (GOOD | {"random_share": math.nan}, "random_share: must be a number"),
        (GOOD | {"random_share": 10**400}, "random_share: must be a number"),
        (GOOD | {"strategies": {}}, "strategies: must name at least one"),
        (GOOD | {"strategies": ["disagreement"]}, "strategies: must be an object"),
        (GOOD | {"strategies": {"magic": 1}}, "strategies.magic: unknown strategy; known are uncertainty"),
        (GOOD | {"strategies": {"disagreement": 0.5}}, "strategies: weights must sum to 1, not 0.5"),
        (GOOD | {"strategies": {"disagreement": 1.5, "margin": -0.5}}, "strategies.margin: a weight must be above 0"),
        (GOOD | {"strategies": {"disagreement": None}}, "strategies.disagreement: must be a number, not None"),
        (GOOD | {"per_problem": 0}, "per_problem: must be a whole number from 1, not 0"),
        (GOOD | {"per_problem": 1.0}, "per_problem: must be a whole number"),
        (GOOD | {"per_problem": True}, "per_problem: must be a whole number"),
    ],
)
def test_a_policy_that_cannot_be_followed_is_refused_with_its_key(value: object, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(value)
    assert str(caught.value).startswith(message)


def test_what_needs_arrays_of_its_own_is_known_to_those_who_have_them_only() -> None:
    value = {"random_share": 0.2, "strategies": {"diversity": 0.5, "margin": 0.5}, "diverse_among": 4}
    policy = parse_policy(value, known=EVERY_STRATEGY)
    assert policy == Policy(0.2, {"diversity": 0.5, "margin": 0.5}, 1, 4)
    assert parse_policy(policy.as_dict(), known=EVERY_STRATEGY) == policy
    with pytest.raises(PolicyError, match="diverse_among: not a key"):
        parse_policy(value)
    with pytest.raises(PolicyError, match=r"strategies\.diversity: unknown strategy"):
        parse_policy({"random_share": 0.2, "strategies": {"diversity": 1}})
    with pytest.raises(PolicyError, match="diverse_among: must be a whole number"):
        parse_policy(value | {"diverse_among": 0}, known=EVERY_STRATEGY)


def test_the_papers_mixture_is_a_policy() -> None:
    assert parse_policy({"random_share": 0, "strategies": CONVINCING}, known=EVERY_STRATEGY).strategies == CONVINCING


values = st.sampled_from([0, 1, 0.3, 0.7, -1, 2, True, None, "1", math.nan])
weights = st.dictionaries(st.sampled_from([*STRATEGIES, "magic"]), values, max_size=3) | values


@given(st.fixed_dictionaries({}, optional={"random_share": values, "strategies": weights, "per_problem": values}))
def test_whatever_the_json_a_policy_is_whole_or_refused(value: object) -> None:
    try:
        policy = parse_policy(value)
    except PolicyError:
        return
    assert parse_policy(policy.as_dict()) == policy
    assert policy.random_share == 1 or math.isclose(sum(policy.strategies.values()), 1, abs_tol=1e-6)
