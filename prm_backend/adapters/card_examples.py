"""Inputs on model cards whose scores the cards state. Only numbers that stand on a card; a checkpoint without an entry
is checked for its structure alone. Light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prm_backend.types import Solution, problem_key


@dataclass(frozen=True)
class CardExample:
    """`good` are the card's P(good) of each step. One adapter reads checkpoints of several sizes, so `hidden_size` and
    `layers` say whose numbers they are. `tolerance` covers another precision and other kernels than the card's."""

    adapter: str
    hidden_size: int
    layers: int
    solution: Solution
    good: tuple[float, ...]
    tolerance: float = 0.03

    def is_of(self, adapter: str, config: Any) -> bool:
        """Whether a checkpoint with this transformers configuration is the one on the card."""
        return (adapter, config.hidden_size, config.num_hidden_layers) == (self.adapter, self.hidden_size, self.layers)


def example(key: str, problem: str, *steps: str) -> Solution:
    return Solution(key, problem_key(problem), problem, steps)


FLAMINGOS = (
    "Sue lives in a fun neighborhood.  One weekend, the neighbors decided to play a prank on Sue.  On Friday morning, "
    "the neighbors placed 18 pink plastic flamingos out on Sue's front yard.  On Saturday morning, the neighbors took "
    "back one third of the flamingos, painted them white, and put these newly painted white flamingos back out on "
    "Sue's front yard.  Then, on Sunday morning, they added another 18 pink plastic flamingos to the collection. At "
    "noon on Sunday, how many more pink plastic flamingos were out than white plastic flamingos?"
)
FLAMINGO_STEPS = (
    "To find out how many more pink plastic flamingos were out than white plastic flamingos at noon on Sunday, we can "
    "break down the problem into steps. First, on Friday, the neighbors start with 18 pink plastic flamingos.",
    r"On Saturday, they take back one third of the flamingos. Since there were 18 flamingos, (1/3 \times 18 = 6) "
    "flamingos are taken back. So, they have (18 - 6 = 12) flamingos left in their possession. Then, they paint these "
    "6 flamingos white and put them back out on Sue's front yard. Now, Sue has the original 12 pink flamingos plus "
    "the 6 new white ones. Thus, by the end of Saturday, Sue has (12 + 6 = 18) pink flamingos and 6 white flamingos.",
    "On Sunday, the neighbors add another 18 pink plastic flamingos to Sue's front yard. By the end of Sunday morning, "
    "Sue has (18 + 18 = 36) pink flamingos and still 6 white flamingos.",
    "To find the difference, subtract the number of white flamingos from the number of pink flamingos: (36 - 6 = 30). "
    "Therefore, at noon on Sunday, there were 30 more pink plastic flamingos out than white plastic flamingos. The "
    r"answer is (\boxed{30}).",
)
DUCKS = (
    "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends "
    "every day with four. She sells the remainder at the farmers' market daily for $2 per fresh duck egg. How much in "
    "dollars does she make every day at the farmers' market?"
)
DUCK_STEPS = (
    "Janet's ducks lay 16 eggs per day.",
    "She eats three for breakfast every morning, so she has 16 - 3 = 13 eggs left.",
    "She bakes muffins for her friends every day with four eggs, so she has 13 - 4 = 9 eggs left.",
)
LAST_DUCK_STEP = (
    "She sells the remainder at the farmers' market daily for $2 per fresh duck egg, so she makes 9 * $2 = ${0} every "
    "day at the farmers' market. The answer is: {0}"
)

CARD_EXAMPLES = (
    CardExample(
        adapter="qwen2.5-math-prm",
        hidden_size=3584,
        layers=28,
        solution=example("flamingos", FLAMINGOS, *FLAMINGO_STEPS),
        good=(1.0, 0.1904296875, 0.9765625, 1.0),
    ),
    CardExample(
        adapter="math-shepherd-mistral",
        hidden_size=4096,
        layers=32,
        solution=example("ducks-right", DUCKS, *DUCK_STEPS, LAST_DUCK_STEP.format(18)),
        good=(0.9955, 0.9958, 0.9983, 0.9957),
    ),
    CardExample(
        adapter="math-shepherd-mistral",
        hidden_size=4096,
        layers=32,
        solution=example("ducks-wrong", DUCKS, *DUCK_STEPS, LAST_DUCK_STEP.format(17)),
        good=(0.9955, 0.9958, 0.9983, 0.0240),
    ),
)
