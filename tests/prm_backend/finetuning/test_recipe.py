from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.finetuning.data import LabeledTree
from prm_backend.finetuning.recipe import Recipe, RecipeError, Stage
from prm_backend.finetuning.targets import class_weights_of, targets_of
from prm_backend.types import SolutionTree, StepLabel, StepNode

GOOD, BAD, NEUTRAL, NOT_BAD = StepLabel.GOOD, StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.NOT_BAD


@given(
    st.builds(
        Recipe,
        stages=st.lists(
            st.builds(
                Stage,
                trains=st.sampled_from(["head", "all"]),
                steps=st.none() | st.integers(1, 9),
                learning_rate=st.floats(1e-9, 1.0),
            ),
            min_size=1,
            max_size=3,
        ).map(tuple),
        class_weights=st.sampled_from([None, "balanced", (1.0, 2.0, 0.5)]),
        betas=st.tuples(st.floats(0, 0.99), st.floats(0.01, 0.99)),
        patience=st.none() | st.integers(1, 5),
        neutral=st.sampled_from(["keep", "as_good", "ignore"]),
    )
)
def test_a_recipe_survives_json(recipe: Recipe) -> None:
    assert Recipe.from_dict(json.loads(json.dumps(recipe.as_dict()))) == recipe


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"epoch": 3}, "^epoch: no such field; there are stages, "),
        ({"warmup": 1.5}, "^warmup: must be at least 0 and at most 1, not 1.5"),
        ({"seed": "1"}, "^seed: must be a whole number, not '1'"),
        ({"seed": True}, "^seed: must be a whole number"),
        ({"batch_tokens": 0}, "^batch_tokens: must be at least 1"),
        ({"max_grad_norm": 0}, "^max_grad_norm: must be above 0"),
        ({"weight_decay": float("nan")}, "^weight_decay: must be a number"),
        ({"label_smoothing": 1}, "^label_smoothing: must be at least 0 and below 1"),
        ({"precision": "fp8"}, "^precision: must be one of fp32, bf16, fp16, not 'fp8'"),
        ({"neutral": None}, "^neutral: must be one of"),
        ({"bootstrap": 1}, "^bootstrap: must be true or false"),
        ({"class_weights": [1, 2]}, "^class_weights: must be 3 numbers from 0.0"),
        ({"class_weights": [0, 0, 0]}, "^class_weights: all are 0"),
        ({"class_weights": [1, float("inf"), 1]}, "^class_weights: must be 3 numbers"),
        ({"class_weights": "equal"}, "^class_weights: must be"),
        ({"betas": [0.9, 1.0]}, "^betas: must be 2 numbers"),
        ({"stages": []}, "^stages: must be one stage or more"),
        ({"stages": "all"}, "^stages: must be a list"),
        ({"stages": [3]}, r"^stages\[0\]: must be an object"),
        ({"stages": [{}, {"trains": "body"}]}, r"^stages\[1\].trains: must be one of head, all"),
        ({"stages": [{"learning_rate": -1}]}, r"^stages\[0\].learning_rate: must be above 0"),
        ({"stages": [{"lr": 1}]}, r"^stages\[0\].lr: no such field"),
    ],
)
def test_a_bad_field_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe.from_dict(row)


def tree(*labels: Any, parents: tuple[int, ...] | None = None, weight: float = 1.0) -> LabeledTree:
    parents = parents or tuple(range(-1, len(labels) - 1))
    nodes = tuple(StepNode("a step", parent) for parent in parents)
    return LabeledTree(SolutionTree("key", "problem", "Why?", nodes), labels, weight)


ALL = (BAD, NEUTRAL, GOOD, NOT_BAD, None)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (Recipe(), [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]),
        (Recipe(neutral="as_good"), [(1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 1)]),
        (Recipe(neutral="ignore"), [(1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]),
        (Recipe(classes="two"), [(1, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 1)]),
        (Recipe(classes="two", neutral="ignore"), [(1, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 0, 1)]),
        (
            Recipe(label_smoothing=0.3),
            [(0.8, 0.1, 0.1, 0), (0.1, 0.8, 0.1, 0), (0.1, 0.1, 0.8, 0), (0.1, 0, 0, 0.9)],
        ),
        (Recipe(classes="two", label_smoothing=0.2), [(0.9, 0, 0, 0.1), *[(0.1, 0, 0, 0.9)] * 3]),
    ],
)
def test_labels_become_targets_by_the_rules(recipe: Recipe, expected: list[tuple[float, ...]]) -> None:
    targets = targets_of(tree(*ALL), recipe)
    for target, want in zip(targets, [*expected, (0, 0, 0, 0)], strict=True):
        assert target == pytest.approx(want)


def test_soft_labels_keep_their_shares() -> None:
    assert targets_of(tree((0.2, 0.3, 0.5)), Recipe()) == [(0.2, 0.3, 0.5, 0.0)]
    assert targets_of(tree((0.2, 0.3, 0.5)), Recipe(neutral="ignore")) == [(0.2, 0.0, 0.5, 0.0)]


def test_weights_of_classes_and_of_the_labeling_multiply() -> None:
    targets = targets_of(tree(*ALL[:4], weight=0.5), Recipe(), (4.0, 1.0, 2.0))
    assert targets == [(2.0, 0, 0, 0), (0, 0.5, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 0.75)]


def test_balanced_classes_weigh_the_same_and_keep_the_total() -> None:
    trees = [tree(BAD, GOOD, GOOD, GOOD), tree(NEUTRAL, GOOD, GOOD)]
    weights = class_weights_of(trees, Recipe(class_weights="balanced"))
    assert weights is not None
    targets = [target for item in trees for target in targets_of(item, Recipe(), weights)]
    columns = [sum(column) for column in zip(*targets, strict=True)]
    assert columns == pytest.approx([7 / 3, 7 / 3, 7 / 3, 0])
    two = class_weights_of(trees, Recipe(class_weights="balanced", classes="two"))
    assert two == pytest.approx((3.5, 7 / 12, 7 / 12))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((BAD, NOT_BAD), (1, 1, 1)),
        ((BAD, NOT_BAD, NOT_BAD, GOOD), (2, 2 / 3, 2 / 3)),
        ((BAD, NOT_BAD, NOT_BAD, NEUTRAL), (2, 2 / 3, 2 / 3)),
        ((BAD, NOT_BAD, NEUTRAL, GOOD, GOOD), (5 / 3, 10 / 9, 2 / 3)),
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_only_classes_that_the_labels_hold_are_balanced(
    labels: tuple[StepLabel, ...], expected: tuple[float, ...], smoothing: float
) -> None:
    recipe = Recipe(class_weights="balanced", label_smoothing=smoothing)
    assert class_weights_of([tree(*labels)], recipe) == pytest.approx(expected)


def test_steps_behind_an_error_carry_no_loss_and_alternatives_to_it_do() -> None:
    labels = (GOOD, BAD, GOOD, NEUTRAL, GOOD, (0.6, 0.2, 0.2), GOOD)
    parents = (-1, 0, 0, 1, 2, 2, 5)
    kept = [any(target) for target in targets_of(tree(*labels, parents=parents), Recipe(up_to_first_error=True))]
    assert kept == [True, True, True, False, True, True, False]


def test_data_and_recipe_load_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; import prm_backend.finetuning.data, prm_backend.finetuning.recipe, "
        "prm_backend.finetuning.targets; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
