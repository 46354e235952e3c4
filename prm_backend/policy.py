"""Selection policies as JSON: parsed and checked here without numpy, so that a web process can refuse a bad one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prm_backend.errors import PrmError

# What a campaign may name: these need step scores and graded answers alone.
STRATEGIES: dict[str, str] = {
    "uncertainty": "solutions whose steps the PRM is least sure about (entropy of p(−))",
    "margin": "solutions whose steps lie closest to p(−) = 1/2",
    "disagreement": "solutions on whose steps the heads of the ensemble disagree most",
    "convincing_wrong_answer": "solutions with a wrong final answer that the PRM scores highest",
}
EVERY_STRATEGY: dict[str, str] = STRATEGIES | {
    "least_confidence": "solutions where even the likeliest outcome of judging is unlikely",
    "convincing": "solutions that the PRM scores highest, whatever their final answer",
    "human_disagreement": "solutions on which labelers and the PRM disagree; needs counts of labelings",
    "diversity": "solutions unlike each other and unlike the rest of the batch; needs features",
}
# "Let's Verify Step by Step" (arXiv 2305.20050, section 4.2): convincing wrong answers, and the most convincing others.
CONVINCING: dict[str, float] = {"convincing_wrong_answer": 0.8, "convincing": 0.2}
KEYS = ("random_share", "strategies", "per_problem")


class PolicyError(PrmError):
    """A selection policy that cannot be followed; names the key."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`random_share` of a batch is drawn at random from the whole pool; the rest is shared out among `strategies` by
    weight (summing to 1). At most `per_problem` solutions of one problem are picked. With `diverse_among` above 1,
    each strategy names that many times as many solutions as it may pick, and features choose the most different of
    them."""

    random_share: float
    strategies: Mapping[str, float]
    per_problem: int = 1
    diverse_among: int = 1

    def as_dict(self) -> dict[str, Any]:
        value = {
            "random_share": self.random_share,
            "strategies": dict(self.strategies),
            "per_problem": self.per_problem,
        }
        return value if self.diverse_among == 1 else value | {"diverse_among": self.diverse_among}


def parse_policy(value: object, *, known: Mapping[str, str] = STRATEGIES) -> Policy:
    """A policy from its JSON form, `{"random_share": 0.3, "strategies": {"disagreement": 1}, "per_problem": 1}`.
    `per_problem` may be left out, and `strategies` where everything is random. Where `known` holds diversity, so that
    the caller has features, `"diverse_among": 4` may stand beside them. Raises `PolicyError`."""
    if not isinstance(value, dict):
        raise PolicyError("a policy must be an object")
    keys = (*KEYS, "diverse_among") if "diversity" in known else KEYS
    unknown = sorted(str(key) for key in value.keys() - set(keys))
    if unknown:
        raise PolicyError(f"{unknown[0]:.80}: not a key of a policy; keys are {', '.join(keys)}")
    if "random_share" not in value:
        raise PolicyError("random_share: is missing")
    random_share = _number("random_share", value["random_share"])
    if not 0 <= random_share <= 1:
        raise PolicyError(f"random_share: must be from 0 to 1, not {random_share}")
    strategies = _weights(value.get("strategies", {}), known)
    if not strategies and random_share < 1:
        raise PolicyError("strategies: must name at least one strategy, unless random_share is 1")
    return Policy(
        random_share,
        strategies,
        _whole_number("per_problem", value.get("per_problem", 1)),
        _whole_number("diverse_among", value.get("diverse_among", 1)),
    )


def _weights(value: object, known: Mapping[str, str]) -> dict[str, float]:
    if not isinstance(value, dict):
        raise PolicyError("strategies: must be an object of strategy names and weights")
    weights: dict[str, float] = {}
    for name, weight in value.items():
        if name not in known:
            raise PolicyError(f"strategies.{name!s:.80}: unknown strategy; known are {', '.join(known)}")
        weights[name] = _number(f"strategies.{name}", weight)
        if weights[name] <= 0:
            raise PolicyError(f"strategies.{name}: a weight must be above 0, not {weights[name]}")
    total = sum(weights.values())
    if weights and not math.isclose(total, 1, abs_tol=1e-6):
        raise PolicyError(f"strategies: weights must sum to 1, not {total:g}")
    return weights


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e6:
        raise PolicyError(f"{where}: must be a number, not {value!r:.40}")
    return float(value)


def _whole_number(where: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= 10**6:
        raise PolicyError(f"{where}: must be a whole number from 1, not {value!r:.40}")
    return value
