"""Heads that differ where the data do not decide, and pooling against a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from prm_backend.batching import Encoded, TokenBatch
from prm_backend.heads import AttentionPooling, EnsembleHead, HeadSpec, LastToken, bootstrap_weights, ensemble_readout

HIDDEN = 16
SPEC = HeadSpec(heads=8)


def hidden_states(count: int, *, seed: int, rarely: float = 1.0) -> torch.Tensor:
    """(count, HIDDEN); the second half of the dimensions varies `rarely` as much as the first."""
    states = torch.randn(count, HIDDEN, generator=torch.Generator().manual_seed(seed))
    states[:, HIDDEN // 2 :] *= rarely
    return states


def fitted(head: EnsembleHead, hidden: torch.Tensor, label: torch.Tensor, weight: torch.Tensor, *, pull: float) -> None:
    """`weight` (S, heads): how much each step counts for each head."""
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        losses = cross_entropy(head(hidden).transpose(1, 2), label[:, None].expand(weight.shape), reduction="none")
        total = (losses * weight).sum() / weight.sum() + pull * head.pull()
        total.backward()
        return total

    optimizer.step(loss)  # type: ignore[arg-type]  # torch wants a float and takes a tensor


def spread(head: EnsembleHead, hidden: torch.Tensor) -> float:
    with torch.no_grad():
        return ensemble_readout(head(hidden)).spread.mean().item()


@pytest.mark.parametrize("way", ["pull", "bootstrap"])
def test_heads_agree_on_what_they_learned_and_differ_elsewhere(way: str) -> None:
    """Trained on problems that hardly use half of the dimensions; then asked about steps that use all of them."""
    hidden = hidden_states(400, seed=1, rarely=0.05)
    label = (hidden[:, :3] + 0.3 * hidden_states(400, seed=4)[:, :3]).argmax(dim=1)
    if way == "pull":
        head, weight, pull = EnsembleHead(HIDDEN, SPEC), torch.ones(400, SPEC.heads), 1 / 400
    else:
        counts = bootstrap_weights([str(number) for number in range(100)], heads=SPEC.heads, seed=0)
        weight, pull = torch.from_numpy(counts).repeat_interleave(4, dim=0), 1e-4
        head = EnsembleHead(HIDDEN, HeadSpec(heads=SPEC.heads, scale=0.0))
    fitted(head, hidden, label, weight, pull=pull)
    assert (ensemble_readout(head(hidden)).p.argmax(dim=-1) == label).float().mean() > 0.85
    on = spread(head, hidden_states(400, seed=2, rarely=0.05))
    off = spread(head, hidden_states(400, seed=2))
    assert on > 0.001
    assert off > 2 * on


def test_without_pull_and_bootstrap_heads_become_one() -> None:
    """Why both are there: the loss has one optimum, and all heads find it."""
    hidden = hidden_states(200, seed=1)
    label = hidden[:, 0].add(torch.randn(200, generator=torch.Generator().manual_seed(0))).gt(0).long() * 2
    head = EnsembleHead(HIDDEN, HeadSpec(heads=4, scale=0.0))
    fitted(head, hidden, label, torch.ones(200, 4), pull=1e-3)
    assert spread(head, hidden_states(200, seed=3)) < 1e-6


def test_pull_starts_at_nothing_and_brings_back() -> None:
    head = EnsembleHead(HIDDEN, SPEC, seed=3)
    assert head.pull().item() == 0.0
    with torch.no_grad():
        head.weight += 1.0
    assert head.pull().item() == pytest.approx(3 * HIDDEN * HIDDEN / 2)
    head.pull().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert head.weight.grad is not None
    assert (head.weight.grad > 0).all()
    assert "anchor" in head.state_dict(), "more training after loading is pulled towards the same weights"


@pytest.mark.parametrize(("hidden", "classes", "scale"), [(16, 3, 1.0), (2048, 3, 0.5), (64, 2, 2.0)])
def test_pull_is_the_density_that_heads_are_drawn_from(hidden: int, classes: int, scale: float) -> None:
    head = EnsembleHead(hidden, HeadSpec(heads=2, classes=classes, scale=scale))
    with torch.no_grad():
        head.weight.add_(0.01 * torch.randn_like(head.weight))
    deviations = (head.weight - head.anchor).detach().double().numpy() / (scale / math.sqrt(hidden))
    by_head = [sum(deviation**2 / 2 for deviation in one.flat) for one in deviations]
    assert head.pull().item() == pytest.approx(sum(by_head) / 2, rel=1e-4)


def test_heads_start_apart_and_by_their_seed() -> None:
    first, again, other = (EnsembleHead(HIDDEN, SPEC, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)
    assert spread(first, hidden_states(50, seed=0)) > 0.05


def test_a_head_started_anew_is_pulled_to_new_weights() -> None:
    head = EnsembleHead(HIDDEN, SPEC)
    before = head.anchor.clone()
    head.bias.data += 1
    torch.manual_seed(1)
    head.reset_parameters()
    assert not torch.equal(head.anchor, before)
    assert head.pull().item() == head.bias.abs().sum().item() == 0.0


def test_read_out_is_the_mean_of_probabilities_not_of_logits() -> None:
    raw = torch.tensor([[[8.0, 0.0, 0.0], [0.0, 0.0, 8.0]]])
    read = ensemble_readout(raw)
    assert_close(read.p, raw.softmax(-1).mean(dim=1))
    p = 1 / (1 + 2 * math.exp(-8)), math.exp(-8) / (2 * math.exp(-8) + 1)
    assert read.spread.item() == pytest.approx((p[0] - p[1]) / 2)
    assert ensemble_readout(raw[:, :1]).spread.item() == 0.0


def test_two_classes_are_exact_in_the_form_of_three() -> None:
    head = EnsembleHead(HIDDEN, HeadSpec(heads=3, classes=2), seed=1)
    hidden = hidden_states(20, seed=0)
    two = torch.einsum("sd,hcd->shc", hidden, head.weight) + head.bias
    p = head(hidden).softmax(-1)
    assert_close(p[..., 0], two.softmax(-1)[..., 0])
    assert_close(p[..., 1:].sum(-1), two.softmax(-1)[..., 1])
    assert (p[..., 1] < 2e-6).all()
    for label in (1, 2):
        wanted = torch.autograd.grad(-two.log_softmax(-1)[..., 1].sum(), head.weight, retain_graph=True)
        given = torch.autograd.grad(-head(hidden).log_softmax(-1)[..., label].sum(), head.weight)
        assert_close(given, wanted)


def test_autocast_does_not_reach_the_head() -> None:
    head, pooling = EnsembleHead(HIDDEN, SPEC), AttentionPooling(HIDDEN)
    hidden = hidden_states(20, seed=0)
    batch = TokenBatch.of([Encoded(tuple(range(20)), (2, 9), (9, 20), (8, 19), (-1, 0))])
    plain = head(hidden), pooling(hidden[None], batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(hidden), plain[0])
        assert torch.equal(pooling(hidden[None], batch), plain[1])


BATCH = [
    Encoded(tuple(range(12)), (3, 5, 11), (5, 11, 12), (4, 10, 11), (-1, 0, 1)),
    Encoded(tuple(range(7)), (2, 4, 5), (4, 5, 7), (3, 4, 6), (-1, -1, 0)),  # a tree
    Encoded(tuple(range(4)), (), (), (), ()),
    Encoded(tuple(range(9)), (1,), (9,), (8,), (-1,)),
]


def pooling_with_a_query() -> AttentionPooling:
    pooling = AttentionPooling(HIDDEN)
    with torch.no_grad():
        pooling.query.normal_(std=3, generator=torch.Generator().manual_seed(0))
    return pooling


def states_of(batch: list[Encoded]) -> torch.Tensor:
    """(B, T, HIDDEN): what a token's hidden state is depends on its row alone, not on padding or company."""
    longest = max(map(len, BATCH))
    rows = {
        encoded: torch.randn(longest, HIDDEN, generator=torch.Generator().manual_seed(len(encoded)))
        for encoded in BATCH
    }
    return torch.stack([rows[encoded][: max(map(len, batch))] for encoded in batch])


def test_attention_pooling_equals_a_slow_one() -> None:
    pooling, hidden = pooling_with_a_query(), states_of(BATCH)
    expected = []
    for row, encoded in enumerate(BATCH):
        for start, end in zip(encoded.starts, encoded.ends, strict=True):
            tokens = hidden[row, start:end]
            expected.append((tokens @ pooling.query / math.sqrt(HIDDEN)).softmax(0) @ tokens)
    assert_close(pooling(hidden, TokenBatch.of(BATCH)), torch.stack(expected))


def test_attention_pooling_starts_as_the_mean() -> None:
    hidden = states_of(BATCH[:1])
    assert_close(AttentionPooling(HIDDEN)(hidden, TokenBatch.of(BATCH[:1]))[1], hidden[0, 5:11].mean(dim=0))


@pytest.mark.parametrize("pooling", [LastToken(), pooling_with_a_query()], ids=["last", "attention"])
def test_pooling_does_not_depend_on_company(pooling: LastToken | AttentionPooling) -> None:
    alone = torch.cat([pooling(states_of([encoded]), TokenBatch.of([encoded])) for encoded in reversed(BATCH)])
    batch = list(reversed(BATCH))
    assert_close(pooling(states_of(batch), TokenBatch.of(batch)), alone)


def test_great_scores_do_not_overflow() -> None:
    pooling = pooling_with_a_query()
    hidden = states_of(BATCH) * 1e4
    pooled = pooling(hidden, TokenBatch.of(BATCH))
    pooled.sum().backward()
    assert pooled.isfinite().all()
    assert pooling.query.grad is not None
    assert pooling.query.grad.isfinite().all()


def test_bootstrap_counts_a_problem_alike_in_any_company() -> None:
    keys = [f"problem {number}" for number in range(2000)]
    table = bootstrap_weights(keys, heads=6, seed=4)
    assert np.array_equal(bootstrap_weights(keys[::-1], heads=6, seed=4)[::-1], table)
    assert np.array_equal(bootstrap_weights(keys[7:8], heads=6, seed=4)[0], table[7])
    assert not np.array_equal(bootstrap_weights(keys, heads=6, seed=5), table)


def test_bootstrap_is_poisson_of_one_and_apart_for_each_head() -> None:
    table = bootstrap_weights([str(number) for number in range(5000)], heads=4, seed=0)
    assert table.mean(axis=0) == pytest.approx(1.0, abs=0.05)
    assert table.var(axis=0) == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.corrcoef(table.T) - np.eye(4)).max() < 0.05
    assert (table == table.round()).all()


@pytest.mark.parametrize("record", [{"heads": 0}, {"classes": 4}, {"pooling": "max"}])
def test_a_record_of_no_head_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no such head"):
        HeadSpec(**record)  # type: ignore[arg-type]
