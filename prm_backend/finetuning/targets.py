"""What each step of a labeled tree is trained towards, and with what weight."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from prm_backend.finetuning.data import LabeledTree, Mass, mass_of
from prm_backend.finetuning.recipe import Recipe, Weights

NOTHING: Mass = (0.0, 0.0, 0.0, 0.0)


def targets_of(labeled: LabeledTree, recipe: Recipe, class_weights: Weights | None = None) -> list[Mass]:
    """For each node the weights of −log p(−), −log p(0), −log p(+) and −log(p(0) + p(+)) in the loss: the label's
    shares under the recipe's rules, times class weight and labeling weight. All 0: no loss."""
    masses = [NOTHING if label is None else mass_of(label) for label in labeled.labels]
    if recipe.up_to_first_error:
        masses = _up_to_first_error(labeled, masses)
    bad_weight, neutral_weight, good_weight = class_weights or (1.0, 1.0, 1.0)
    scale = (bad_weight, neutral_weight, good_weight, (neutral_weight + good_weight) / 2)
    targets = []
    for mass in masses:
        smooth = _smoothed(_ruled(mass, recipe), recipe)
        bad, neutral, good, not_bad = (
            labeled.weight * weight * share for weight, share in zip(scale, smooth, strict=True)
        )
        targets.append((bad, neutral, good, not_bad))
    return targets


def _up_to_first_error(labeled: LabeledTree, masses: Sequence[Mass]) -> list[Mass]:
    """A soft label counts as an error where most of it is bad."""
    reached: list[bool] = []
    kept = []
    for node, mass in zip(labeled.tree.nodes, masses, strict=True):
        reached.append(node.parent < 0 or (reached[node.parent] and masses[node.parent][0] <= 0.5))
        kept.append(mass if reached[-1] else NOTHING)
    return kept


def _ruled(mass: Mass, recipe: Recipe) -> Mass:
    bad, neutral, good, not_bad = mass
    if recipe.neutral == "as_good":
        neutral, good = 0.0, good + neutral
    elif recipe.neutral == "ignore":
        neutral = 0.0
    if recipe.classes == "two":
        neutral, good, not_bad = 0.0, 0.0, neutral + good + not_bad
    return (bad, neutral, good, not_bad)


def _smoothed(mass: Mass, recipe: Recipe) -> Mass:
    """Towards the uniform distribution: over three classes, of which "not bad" holds two, or over two."""
    share = recipe.label_smoothing
    if not share:
        return mass
    bad, neutral, good, not_bad = ((1 - share) * value for value in mass)
    if recipe.classes == "two":
        half = share * sum(mass) / 2
        return (bad + half, neutral, good, not_bad + half)
    third, unsaid = share * sum(mass[:3]) / 3, share * mass[3] / 3
    return (bad + third + unsaid, neutral + third, good + third, not_bad + 2 * unsaid)


def class_weights_of(trees: Iterable[LabeledTree], recipe: Recipe) -> Weights | None:
    """The recipe's class weights; "balanced" ones give each class that the labels hold the same total weight, and keep
    the total. "Not bad" counts as half 0, half + where the labels hold both; else, and with two classes, all that is
    not − is one class."""
    if recipe.class_weights != "balanced":
        return recipe.class_weights
    sharp = replace(recipe, label_smoothing=0.0)  # smoothing gives every class a share that no label holds
    targets = [target for labeled in trees for target in targets_of(labeled, sharp)]
    bad, neutral, good, not_bad = (sum(column) for column in zip(NOTHING, *targets, strict=True))
    if neutral and good:
        return _balanced([bad, neutral + not_bad / 2, good + not_bad / 2], (0, 1, 2))
    return _balanced([bad, neutral + good + not_bad], (0, 1, 1))


def _balanced(held: Sequence[float], column: tuple[int, int, int]) -> Weights:
    present = sum(1 for mass in held if mass)
    weights = [sum(held) / (present * mass) if mass else 1.0 for mass in held]
    bad, neutral, good = (weights[index] for index in column)
    return (bad, neutral, good)
