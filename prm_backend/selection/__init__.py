"""Which solutions people judge next: acquisition strategies over packed arrays of step scores.

pool = Candidates.of_arrays(keys, problem, lengths, bad, spread, wrong_answer=wrong, features=features)
picks = select(pool, Policy(0.3, {"disagreement": 1.0}, diverse_among=4), 500, numpy.random.default_rng(7))
"""

from prm_backend.selection.batch import Arm, Pick, draw_random, random_count, select, select_active
from prm_backend.selection.candidates import Candidates, SelectionError, count_labelings
from prm_backend.selection.strategies import NEVER, STRATEGY_OF, Strategy, most_uncertain_steps

__all__ = [
    "NEVER",
    "STRATEGY_OF",
    "Arm",
    "Candidates",
    "Pick",
    "SelectionError",
    "Strategy",
    "count_labelings",
    "draw_random",
    "most_uncertain_steps",
    "random_count",
    "select",
    "select_active",
]
