from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend.finetuning.data import LabeledTree, Mass
from prm_backend.finetuning.examples import Example, Examples, read_examples
from prm_backend.finetuning.plan import MaskedLength
from prm_backend.finetuning.targets import targets_of
from prm_backend.prefix import LONGEST
from prm_backend.types import SolutionTree, StepLabel, StepNode
from tests.prm_backend.finetuning.little import LittleReader, little_model, little_recipe

BAD, NEUTRAL, GOOD, NOT_BAD = StepLabel.BAD, StepLabel.NEUTRAL, StepLabel.GOOD, StepLabel.NOT_BAD
READER = LittleReader(little_model())
Way = tuple[tuple[int, ...], ...]


@st.composite
def trees(draw: st.DrawFn) -> LabeledTree:
    count = draw(st.integers(1, 8))
    nodes = tuple(StepNode(f"step {index}", draw(st.integers(-1, index - 1))) for index in range(count))
    labels = tuple(draw(st.sampled_from([GOOD, BAD, NEUTRAL, NOT_BAD, None])) for _ in nodes)
    return LabeledTree(SolutionTree("key", "problem", "Why?", nodes), labels)


def losses_of(example: Example) -> list[tuple[Way, Mass]]:
    """Of each step with a loss, the token ids of the steps on the way to it, and its targets."""
    encoded = example.encoded
    ways: dict[int, Way] = {-1: ()}
    found = []
    for step, (start, end, parent) in enumerate(zip(encoded.starts, encoded.ends, encoded.parents, strict=True)):
        ways[step] = (*ways[parent], encoded.ids[start:end])
        if any(example.targets[step]):
            found.append((ways[step], example.targets[step]))
    return found


def all_losses(examples: Examples) -> list[tuple[Way, Mass]]:
    return sorted(loss for example in examples.items for loss in losses_of(example))


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"up_to_first_error": True},
        {"neutral": "ignore"},
        {"classes": "two", "neutral": "as_good"},
        {"label_smoothing": 0.1, "up_to_first_error": True},
    ],
)
@given(tree=trees())
def test_a_tree_has_the_losses_of_its_chains_under_every_rule(rules: dict[str, object], tree: LabeledTree) -> None:
    """Each rated step once, behind its own steps, whether shared beginnings are read once or on every chain."""
    shared, chains = (
        read_examples(READER, [tree], little_recipe(**rules, shared_prefixes=share)) for share in (True, False)
    )
    assert all_losses(shared) == all_losses(chains)
    whole = Example("key", READER.encode(tree.tree), tuple(targets_of(tree, little_recipe(**rules))))
    assert all_losses(shared) == sorted(losses_of(whole))
    assert all(example.encoded.is_chain for example in chains.items)


def test_behind_an_error_no_chain_of_a_tree_carries_a_loss() -> None:
    nodes = (StepNode("a", -1), StepNode("b", 0), StepNode("c", 0))
    tree = LabeledTree(SolutionTree("key", "problem", "Why?", nodes), (BAD, GOOD, GOOD))
    recipe = little_recipe(shared_prefixes=False, up_to_first_error=True)
    assert sum(example.labeled_steps for example in read_examples(READER, [tree], recipe).items) == 1


def test_a_large_tree_is_read_in_parts_that_bound_the_mask() -> None:
    """30 levels of 8 candidates, of which one goes on."""
    nodes = tuple(
        StepNode(f"step {level} candidate {number:02} abcdef", 8 * (level - 1) if level else -1)
        for level in range(30)
        for number in range(8)
    )
    tree = LabeledTree(SolutionTree("key", "problem", "Why?", nodes), (GOOD,) * len(nodes))
    assert len(READER_OF_LONG.encode(tree.tree)) > LONGEST
    examples = read_examples(READER_OF_LONG, [tree], little_recipe())
    assert sum(example.labeled_steps for example in examples.items) == len(nodes)
    assert max(examples.lengths) <= LONGEST
    marked = [isinstance(length, MaskedLength) for length in examples.lengths]
    assert any(marked)
    assert marked == [not example.encoded.is_chain for example in examples.items]


class LongReader(LittleReader):
    most_tokens = 100_000


READER_OF_LONG = LongReader(little_model(hidden=64))
