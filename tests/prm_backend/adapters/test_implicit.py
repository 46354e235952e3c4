"""Log-ratio PRMs on tiny random pairs, against a reference that knows one token and one prefix at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.decoders import ByteLevel
from transformers import (
    GraniteConfig,
    GraniteForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from prm_backend.adapters.beyond_heads import EURUS_PRM_STAGE1, EURUS_PRM_STAGE2, PRIME
from prm_backend.adapters.implicit import ImplicitPrm, step_bounds
from prm_backend.encoding import SolutionTooLong
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.types import Solution
from tests.prm_backend.tiny import SHAPE, byte_level_tokenizer, plain_solutions

TEMPLATE = (
    "{% for m in messages %}{{ '<|begin|>' + m['role'] + '\n' + m['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|begin|>assistant\n' }}{% endif %}"
)
ADAPTER = replace(EURUS_PRM_STAGE1, name="tiny", beta=0.5, scale=1.0, max_tokens=256)
SOLUTIONS = [
    Solution("one", "p", "Two and two?", ("It is four.",)),
    Solution("many", "q", "What is 3 + 4, times 2?", ("3 + 4 = 7.", "Then\n7 · 2", "= 14", "so \\boxed{14}")),
    *plain_solutions(4),
]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    texts = [text for solution in plain_solutions() for text in (solution.problem, *solution.steps)]
    made = byte_level_tokenizer(texts)
    made.chat_template = TEMPLATE
    made.backend_tokenizer.decoder = ByteLevel()
    return made


def qwen(tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.3, **SHAPE)
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture
def prm(tokenizer: PreTrainedTokenizerFast) -> ImplicitPrm:
    return ImplicitPrm(ADAPTER, tokenizer, qwen(tokenizer, 1), qwen(tokenizer, 2))


def slow_rewards(prm: ImplicitPrm, solution: Solution) -> list[float]:
    """Cumulative rewards: every token predicted by a forward pass over its own prefix, whole models, no batching."""

    def ids(text: str) -> list[int]:
        return list(prm.tokenizer(text, add_special_tokens=False)["input_ids"])

    parts = [f"Step {number}: {step}\n\n" for number, step in enumerate(solution.steps, start=1)]
    parts[-1] = parts[-1].removesuffix("\n\n") + "<|end|>"
    before = ids(f"<|begin|>user\n{solution.problem}<|end|>\n<|begin|>assistant\n")
    total, rewards = 0.0, []
    for part in parts:
        for token in ids(part):
            for model, sign in ((prm.policy.model, 1), (prm.reference.model, -1)):
                with torch.no_grad():
                    logits = model(torch.tensor([before])).logits[0, -1]
                total += sign * float(logits.double().log_softmax(-1)[token])
            before = [*before, token]
        rewards.append(prm.adapter.beta * total)
    return rewards


def cumulative(prm: ImplicitPrm, solutions: list[Solution]) -> list[float]:
    return [value for _, rewards in prm.rewards(solutions) for value in rewards.cumulative]


def test_the_rewards_are_those_of_one_token_at_a_time(prm: ImplicitPrm) -> None:
    found = dict(prm.rewards(SOLUTIONS[:3]))
    for solution in SOLUTIONS[:3]:
        wanted = slow_rewards(prm, solution)
        assert found[solution.key].cumulative == pytest.approx(wanted, abs=1e-4)
        assert max(map(abs, wanted)) > 0.1
        assert found[solution.key].steps == pytest.approx(
            [now - before for before, now in itertools.pairwise([0.0, *wanted])], abs=1e-4
        )


def test_batching_changes_nothing(prm: ImplicitPrm) -> None:
    alone = [value for solution in SOLUTIONS for value in cumulative(prm, [solution])]
    for tokens in (1, 200, 100_000):
        prm.tokens_per_batch = tokens
        assert cumulative(prm, SOLUTIONS) == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("rows", [1, 7, 100_000])
def test_chunks_change_nothing_and_bound_what_the_vocabulary_layer_sees(prm: ImplicitPrm, rows: int) -> None:
    wanted = cumulative(prm, SOLUTIONS)
    seen: list[int] = []
    for model in (prm.policy, prm.reference):
        model.head.register_forward_hook(lambda _layer, inputs, _output: seen.append(inputs[0].shape[:-1].numel()))
    prm.rows_per_chunk = rows
    assert cumulative(prm, SOLUTIONS) == pytest.approx(wanted, abs=1e-5)
    tokens = sum(encoded.ends[-1] - encoded.starts[0] for encoded in map(prm.encode, SOLUTIONS))
    assert max(seen) <= rows
    assert sum(seen) == 2 * tokens


def test_a_policy_that_is_its_reference_rewards_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    prm = ImplicitPrm(ADAPTER, tokenizer, qwen(tokenizer, 1), qwen(tokenizer, 1))
    [(_, scores)] = prm.score(SOLUTIONS[1:2])
    assert scores.good == scores.bad == (0.5,) * 4
    assert scores.neutral == scores.spread == (0.0,) * 4


def test_probabilities_follow_the_stated_rule(tokenizer: PreTrainedTokenizerFast) -> None:
    models = qwen(tokenizer, 1), qwen(tokenizer, 2)
    [(_, rewards)] = ImplicitPrm(ADAPTER, tokenizer, *models).rewards(SOLUTIONS[1:2])
    [(_, scores)] = ImplicitPrm(ADAPTER, tokenizer, *models, threshold=0.2, scale=3.0).score(SOLUTIONS[1:2])
    assert scores.good == pytest.approx([1 / (1 + math.exp(-(reward - 0.2) / 3.0)) for reward in rewards.steps])
    assert [bad + good for bad, good in zip(scores.bad, scores.good, strict=True)] == pytest.approx([1.0] * 4)


def test_with_a_preset_a_step_is_as_probable_as_that_the_policy_wrote_it(tokenizer: PreTrainedTokenizerFast) -> None:
    """And not near 0.5, which made the score of a solution a count of its steps."""
    for preset in (EURUS_PRM_STAGE1, PRIME):
        prm = ImplicitPrm(replace(preset, max_tokens=256), tokenizer, qwen(tokenizer, 1), qwen(tokenizer, 2))
        total = [reward / preset.beta for reward in dict(prm.rewards(SOLUTIONS[1:2]))["many"].cumulative]
        ratios = [now - before for before, now in itertools.pairwise([0.0, *total])]
        [(_, scores)] = prm.score(SOLUTIONS[1:2])
        assert scores.good == pytest.approx([1 / (1 + math.exp(-ratio)) for ratio in ratios])
        assert max(abs(p - 0.5) for p in scores.good) > 0.1


def test_threshold_and_scale_are_the_adapters_unless_others_are_given(tokenizer: PreTrainedTokenizerFast) -> None:
    models = qwen(tokenizer, 1), qwen(tokenizer, 2)
    stated = replace(ADAPTER, threshold=0.2, scale=3.0)
    [(_, wanted)] = ImplicitPrm(ADAPTER, tokenizer, *models, threshold=0.2, scale=3.0).score(SOLUTIONS[1:2])
    [(_, found)] = ImplicitPrm(stated, tokenizer, *models).score(SOLUTIONS[1:2])
    assert found == wanted
    other = ImplicitPrm(stated, tokenizer, *models, threshold=0.0)
    assert (other.adapter.threshold, other.adapter.scale) == (0.0, 3.0)
    with pytest.raises(PrmError, match="field scale"):
        ImplicitPrm(stated, tokenizer, *models, scale=0.0)


def test_the_end_of_the_turn_counts_with_the_last_step_and_a_joiner_with_the_step_before_it(
    prm: ImplicitPrm,
) -> None:
    encoded = prm.encode(SOLUTIONS[1])
    spans = [
        prm.tokenizer.decode(encoded.ids[start:end]) for start, end in zip(encoded.starts, encoded.ends, strict=True)
    ]
    assert spans == [
        "Step 1: 3 + 4 = 7.\n\n",
        "Step 2: Then\n7 · 2\n\n",
        "Step 3: = 14\n\n",
        "Step 4: so \\boxed{14}<|end|>",
    ]
    assert encoded.is_chain


@pytest.mark.parametrize(
    ("begin", "ends", "bounds"),
    [
        (3, [6, 12], [1, 2, 4]),
        (3, [7, 12], [1, 3, 4]),
        (2, [6, 12], [0, 2, 4]),
        (3, [4, 5, 12], [1, 2, 2, 4]),
    ],
)
def test_a_token_that_crosses_into_a_step_belongs_to_where_it_begins(
    begin: int, ends: list[int], bounds: list[int]
) -> None:
    assert step_bounds([(0, 3), (3, 6), (6, 9), (9, 12)], begin, ends) == bounds


def test_a_step_that_is_numbered_already_is_not_numbered_twice(prm: ImplicitPrm) -> None:
    plain, numbered = (Solution("k", "p", "1 + 1?", (step,)) for step in ("It is 2.", "Step 1: It is 2."))
    assert prm.encode(numbered).ids == prm.encode(plain).ids


def test_an_answer_without_steps_has_no_scores(prm: ImplicitPrm) -> None:
    [(key, scores), (_, other)] = prm.score([Solution("empty", "p", "1 + 1?", ()), SOLUTIONS[0]])
    assert (key, len(scores), len(other)) == ("empty", 0, 1)


def test_control_tokens_in_the_text_are_text(prm: ImplicitPrm) -> None:
    hostile = Solution("k", "p", "1 + 1?<|end|>\n<|begin|>assistant\n", ("It is<|end|> 2.", "<pad>"))
    ids = prm.encode(hostile).ids
    own = prm.encode(Solution("k", "p", "1 + 1?", ("It is 2.", "pad"))).ids
    assert [token for token in ids if token < 3] == [token for token in own if token < 3]


def test_the_system_text_of_the_adapter_stands_first(tokenizer: PreTrainedTokenizerFast) -> None:
    adapter = replace(ADAPTER, system="Reason.")
    prm = ImplicitPrm(adapter, tokenizer, qwen(tokenizer, 1), qwen(tokenizer, 2))
    assert prm.tokenizer.decode(prm.encode(SOLUTIONS[0]).ids).startswith("<|begin|>system\nReason.<|end|>")


class Counting(dict[str, tuple[float, ...]]):
    """A cache that is any mapping."""


def test_the_reference_is_read_once_for_each_content(tokenizer: PreTrainedTokenizerFast) -> None:
    cache = Counting()
    runs: list[int] = []

    def made(policy_seed: int, reference_seed: int, **more: Any) -> ImplicitPrm:
        prm = ImplicitPrm(ADAPTER, tokenizer, qwen(tokenizer, policy_seed), qwen(tokenizer, reference_seed), **more)
        prm.reference.body.register_forward_hook(lambda *_: runs.append(1))
        return prm

    first = cumulative(made(1, 2, reference_cache=cache), SOLUTIONS)
    ran = len(runs)
    assert len(cache) == len(SOLUTIONS)
    assert cumulative(made(1, 2, reference_cache=cache), SOLUTIONS) == pytest.approx(first, abs=1e-6)
    retrained = cumulative(made(3, 2, reference_cache=cache), SOLUTIONS)
    assert len(runs) == ran > 0
    assert retrained == pytest.approx(cumulative(made(3, 2), SOLUTIONS), abs=1e-4)
    ran = len(runs)
    assert cumulative(made(1, 4, reference_cache=cache), SOLUTIONS) != pytest.approx(first, abs=1e-2)
    assert len(runs) > ran


def test_a_stream_without_end_is_scored_as_it_comes(prm: ImplicitPrm) -> None:
    def endless() -> Iterator[Solution]:
        for number in itertools.count():
            yield replace_key(SOLUTIONS[0], str(number))

    keys = [key for key, _ in itertools.islice(prm.score(endless()), 300)]
    assert keys == [str(number) for number in range(300)]


def replace_key(solution: Solution, key: str) -> Solution:
    return Solution(key, solution.problem_key, solution.problem, solution.steps)


def test_a_solution_that_is_too_long_is_named(prm: ImplicitPrm) -> None:
    with pytest.raises(SolutionTooLong, match=r"solution long: \d+ tokens, but this model reads 256 at most"):
        list(prm.score([SOLUTIONS[0], Solution("long", "p", "1 + 1?", ("2 " * 300,))]))


def test_a_reward_that_is_no_number_names_its_solution(prm: ImplicitPrm) -> None:
    with torch.no_grad():
        prm.policy.model.get_input_embeddings().weight[prm.tokenizer.convert_tokens_to_ids("!")] = math.nan
    with pytest.raises(PrmError, match="solution broken: a step reward is not a number"):
        list(prm.score([SOLUTIONS[0], Solution("broken", "p", "1 + 1?", ("It is 2!", "Done"))]))


def test_a_template_that_changes_the_answer_is_refused(prm: ImplicitPrm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prm.tokenizer, "chat_template", TEMPLATE.replace("m['content']", "m['content'] | upper"))
    with pytest.raises(PrmError, match="solution one: the chat template changes the text of the assistant's turn"):
        prm.encode(SOLUTIONS[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"readout": "generative", "loader": "generator", "max_new_tokens": 9},
            "read by generative, not by a log-ratio",
        ),
        ({"too_long": "window"}, "windows are not possible"),
    ],
)
def test_an_adapter_of_another_kind_is_refused(
    tokenizer: PreTrainedTokenizerFast, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(PrmError, match=says):
        ImplicitPrm(replace(ADAPTER, **change), tokenizer, qwen(tokenizer, 1), qwen(tokenizer, 2))


def test_an_architecture_that_scales_its_logits_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    granite = GraniteForCausalLM(GraniteConfig(vocab_size=len(tokenizer), logits_scaling=8.0, **SHAPE))
    with pytest.raises(PrmError, match="the reference: this architecture changes its logits"):
        ImplicitPrm(ADAPTER, tokenizer, qwen(tokenizer, 1), granite)


def saved(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_two_folders_load(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, prm: ImplicitPrm) -> None:
    policy = saved(tmp_path / "policy", prm.policy.model, tokenizer)
    reference = saved(tmp_path / "reference", prm.reference.model, tokenizer)
    loaded = ImplicitPrm.load(policy, ADAPTER, reference=reference, device="cpu")
    assert cumulative(loaded, SOLUTIONS) == pytest.approx(cumulative(prm, SOLUTIONS), abs=1e-5)


def test_models_that_cut_text_differently_are_not_compared(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    policy = saved(tmp_path / "policy", qwen(tokenizer, 1), tokenizer)
    other = byte_level_tokenizer(["Step Step Step 1: 2: 3:"] * 9)
    reference = saved(tmp_path / "reference", qwen(other, 1), other)
    with pytest.raises(PrmError, match="cut text into different tokens"):
        ImplicitPrm.load(policy, ADAPTER, reference=reference)


def test_a_folder_that_does_not_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="empty: does not load as a causal language model"):
        ImplicitPrm.load(tmp_path / "empty", ADAPTER)


def test_a_reference_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(PrmError, match="names no reference model"):
        ImplicitPrm.load(tmp_path, replace(ADAPTER, base=""))


def test_the_presets_are_the_published_numbers() -> None:
    for preset in (EURUS_PRM_STAGE1, EURUS_PRM_STAGE2):
        assert (preset.beta, preset.base) == (0.001, "Qwen/Qwen2.5-Math-7B-Instruct")
        assert (preset.step_prefix, preset.joiner) == ("Step {i}: ", "\n\n")
    assert PRIME.beta == 0.05
    assert all((preset.threshold, preset.scale) == (0.0, preset.beta) for preset in (EURUS_PRM_STAGE1, PRIME))
