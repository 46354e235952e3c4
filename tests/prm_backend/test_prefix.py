from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prm_backend import prefix
from prm_backend.batching import Encoded
from prm_backend.types import Solution, StepNode
from tests.prm_backend.test_batching import encodings

TEXTS = st.sampled_from(["a", "b", "c"])


def group_of(paths: int, *, shared: int, own: int) -> Encoded:
    """`paths` alternatives of `own` tokens behind `shared` tokens."""
    starts = [1, *(1 + shared + own * path for path in range(paths))]
    ends = [1 + shared, *(start + own for start in starts[1:])]
    reads = tuple(end - 1 for end in ends)
    return Encoded(tuple(range(1, ends[-1] + 1)), tuple(starts), tuple(ends), reads, (-1, *[0] * paths))


def path_sets(parents: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [way for step, way in enumerate(prefix.ways(parents)) if step not in parents]


@given(encodings())
def test_paths_lead_to_every_leaf_once(encoded: Encoded) -> None:
    assert sorted(prefix.paths(encoded.parents)) == sorted(path_sets(encoded.parents))


@given(encodings(), st.integers(1, 40), st.sampled_from([1, 64, 4096]))
def test_parts_hold_every_path_whole_and_within_the_budget(encoded: Encoded, most: int, hidden: int) -> None:
    groups = list(prefix.parts(encoded, hidden_size=hidden, most_tokens=most))
    paths = prefix.paths(encoded.parents)
    assert all(any(set(path) <= set(group) for group in groups) for path in paths)
    for group in groups:
        inside = [path for path in paths if set(path) <= set(group)]
        assert set().union(*inside) == set(group)
        assert len(inside) == 1 or len(prefix.part(encoded, group)) <= most


@given(encodings(), st.integers(1, 40))
def test_a_part_reads_as_the_whole_does(encoded: Encoded, most: int) -> None:
    for steps in prefix.parts(encoded, hidden_size=64, most_tokens=most):
        part = prefix.part(encoded, steps)
        for index, step in enumerate(steps):
            own, whole = slice(part.starts[index], part.ends[index]), slice(encoded.starts[step], encoded.ends[step])
            assert part.ids[own] == encoded.ids[whole]
            assert part.ids[part.reads[index]] == encoded.ids[encoded.reads[step]]
            follows = encoded.parents[step]
            assert part.parents[index] == (steps.index(follows) if follows >= 0 else -1)


def test_much_in_common_is_shared_and_little_is_not() -> None:
    long = group_of(8, shared=400, own=30)
    assert list(prefix.parts(long, hidden_size=1024)) == [tuple(range(9))]
    short = group_of(8, shared=10, own=600)
    assert list(prefix.parts(short, hidden_size=1024)) == [(0, step) for step in range(1, 9)]


def test_a_wider_model_shares_more() -> None:
    group = group_of(4, shared=200, own=600)
    assert len(list(prefix.parts(group, hidden_size=256))) == 4
    assert len(list(prefix.parts(group, hidden_size=8192))) == 1


@given(st.lists(st.lists(TEXTS, max_size=5), min_size=1, max_size=5))
def test_solutions_become_a_tree_of_their_distinct_beginnings(texts: list[list[str]]) -> None:
    solutions = [Solution(str(index), "p", "problem", tuple(steps)) for index, steps in enumerate(texts)]
    tree, ways = prefix.tree_of(solutions)
    assert [prefix.solution_of(tree, way).steps for way in ways] == [solution.steps for solution in solutions]
    assert len(tree.nodes) == len({tuple(steps[: end + 1]) for steps in texts for end in range(len(steps))})
    assert all(node.parent < index for index, node in enumerate(tree.nodes))


def test_a_tree_is_named_like_its_first_solution_unless_told() -> None:
    solution = Solution("s", "p", "problem", ("a",))
    assert prefix.tree_of([solution])[0].key == "s"
    tree, _ = prefix.tree_of([solution], key="t")
    assert (tree.key, tree.problem, tree.nodes) == ("t", "problem", (StepNode("a", -1),))


def test_a_tree_answers_one_problem() -> None:
    with pytest.raises(ValueError, match="s1: the solutions of one tree answer one problem"):
        prefix.tree_of([Solution("s1", "p", "one", ()), Solution("s2", "p", "two", ())])
