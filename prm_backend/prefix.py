"""Steps that share their beginnings: one pass over a tree of steps in place of one pass over each path.

A tree is read with a mask under which a token sees the steps on the way to its own (batching.visible). Every shared
step is then computed once, but attention under a mask is dense: it costs the square of the tree's tokens, also for the
pairs that the mask hides. So sharing pays where much is shared and the whole is short; `parts` weighs that up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prm_backend.batching import Encoded
from prm_backend.types import Solution, SolutionTree, StepNode

# One masked pair of tokens costs about this many times its share of 4 · hidden FLOPs at the speed of the linear layers:
# 1.2 to 2.4 on CPU in fp32, for 2 to 16 branches behind 64 to 512 tokens (the crossover of bench/scoring.py).
MASKED_PAIR = 2.0
LONGEST = 4096  # tokens of one sequence with a mask, which takes their square in memory


def paths(parents: Sequence[int]) -> list[tuple[int, ...]]:
    """The steps on the way to each leaf, the leaf included; leaves in depth-first order, so that neighbours share most.
    A step that several paths hold stands in each."""
    children: dict[int, list[int]] = {}
    for step, parent in enumerate(parents):
        children.setdefault(parent, []).append(step)
    found: list[tuple[int, ...]] = []
    stack: list[tuple[int, ...]] = [(step,) for step in reversed(children.get(-1, []))]
    while stack:
        path = stack.pop()
        following = children.get(path[-1])
        if following is None:
            found.append(path)
        else:
            stack += [(*path, step) for step in reversed(following)]
    return found


def ways(parents: Sequence[int]) -> list[tuple[int, ...]]:
    """For each step the steps on the way to it, itself included."""
    found: list[tuple[int, ...]] = []
    for step, parent in enumerate(parents):
        found.append((*found[parent], step) if parent >= 0 else (step,))
    return found


def solution_of(tree: SolutionTree, path: Sequence[int]) -> Solution:
    """One path of a tree as a plain solution, under the tree's key."""
    return Solution(tree.key, tree.problem_key, tree.problem, tuple(tree.nodes[step].text for step in path))


def part(encoded: Encoded, steps: Sequence[int]) -> Encoded:
    """The prompt with these steps alone, in ascending order; whatever a step follows must be among them."""
    first = encoded.starts[0] if encoded.starts else len(encoded)
    ids = list(encoded.ids[:first])
    starts, ends, reads = [], [], []
    place = {-1: -1}
    for index, step in enumerate(steps):
        shift = len(ids) - encoded.starts[step]
        starts.append(len(ids))
        reads.append(encoded.reads[step] + shift)
        ids += encoded.ids[encoded.starts[step] : encoded.ends[step]]
        ends.append(len(ids))
        place[step] = index
    parents = tuple(place[encoded.parents[step]] for step in steps)
    return Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(reads), parents)


def parts(encoded: Encoded, *, hidden_size: int, most_tokens: int = LONGEST) -> Iterator[tuple[int, ...]]:
    """The steps of a tree in groups, each to be read in one sequence: neighbouring paths stay together as long as that
    costs less than reading the next one alone, and no group outgrows `most_tokens` (unless one path does).

    Cost counts in tokens through the linear layers, about 12 · hidden² multiplications for each token and layer; a pair
    of tokens in attention takes 2 · hidden, so it weighs 1 / (6 · hidden) times its slowness (`MASKED_PAIR`). A causal
    chain needs no mask and computes half of its pairs.
    """
    tokens = [end - start for start, end in zip(encoded.starts, encoded.ends, strict=True)]
    prompt = encoded.starts[0] if encoded.starts else len(encoded)
    pair = MASKED_PAIR / (6 * hidden_size)

    def cost(steps: set[int], *, chain: bool) -> float:
        length = prompt + sum(tokens[step] for step in steps)
        return length + pair * length**2 * (0.5 if chain else 1.0)

    group: set[int] = set()
    is_chain = True
    for path in paths(encoded.parents):
        together = group | set(path)
        apart = cost(group, chain=is_chain) + cost(set(path), chain=True)
        if group and (
            cost(together, chain=False) > apart or prompt + sum(tokens[step] for step in together) > most_tokens
        ):
            yield tuple(sorted(group))
            group, is_chain = set(path), True
        else:
            group, is_chain = together, not group
    if group:
        yield tuple(sorted(group))


def tree_of(solutions: Sequence[Solution], *, key: str | None = None) -> tuple[SolutionTree, list[tuple[int, ...]]]:
    """Solutions of one problem as one tree in which equal leading steps stand once, and for each solution its steps as
    indices of the tree's nodes. The tree is named by `key`, else like the first solution.

    Raises `ValueError` where the problems differ.
    """
    first = solutions[0]
    if any(solution.problem != first.problem for solution in solutions):
        raise ValueError(f"{first.key}: the solutions of one tree answer one problem")
    nodes: list[StepNode] = []
    index_of: dict[StepNode, int] = {}
    ways: list[tuple[int, ...]] = []
    for solution in solutions:
        way: list[int] = []
        for text in solution.steps:
            node = StepNode(text, way[-1] if way else -1)
            if node not in index_of:
                index_of[node] = len(nodes)
                nodes.append(node)
            way.append(index_of[node])
        ways.append(tuple(way))
    return SolutionTree(key or first.key, first.problem_key, first.problem, tuple(nodes)), ways
