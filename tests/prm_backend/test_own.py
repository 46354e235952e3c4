"""A PRM on a tiny random backbone of each family."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, T5Config, T5Model

from prm_backend import engine
from prm_backend.batching import Encoded, TokenBatch
from prm_backend.checkpoints import (
    BACKBONE,
    CARD,
    HEAD,
    LORA,
    METADATA,
    file_hashes,
    load_checkpoint,
    load_full_metadata,
)
from prm_backend.encoding import SolutionTooLong
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.heads import HeadSpec, Pooling
from prm_backend.own import OwnPrm
from prm_backend.pretraining import init_backbone
from prm_backend.types import Solution, SolutionTree, StepNode
from tests.prm_backend.tiny_bodies import CAUSAL, ENCODERS, OTHER, SOLUTION, TREE, path_to, random_backbone

Backbones = Callable[[str], Path]


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Backbones:
    """Folder of a family's random backbone."""
    folder = tmp_path_factory.mktemp("backbones")

    def made(family: str) -> Path:
        return folder / family if (folder / family).exists() else random_backbone(family, folder / family)

    return made


def build(folder: Path, *, pooling: Pooling = "last", **arguments: object) -> OwnPrm:
    prm = OwnPrm.build(folder, head=HeadSpec(heads=3, pooling=pooling), **arguments)  # type: ignore[arg-type]
    if pooling == "attention":
        with torch.no_grad():
            prm.model.pooling.query.normal_(generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr, operator]
    return prm


def raw_scores(prm: OwnPrm, *items: Solution | SolutionTree) -> torch.Tensor:
    with torch.inference_mode():
        return prm.model.eval()(TokenBatch.of([prm.encode(item) for item in items]))


@pytest.mark.parametrize("pooling", ["last", "attention"])
@pytest.mark.parametrize("family", [*CAUSAL, *ENCODERS])
def test_a_step_is_scored_as_if_no_later_step_were_there(backbones: Backbones, family: str, pooling: Pooling) -> None:
    prm = build(backbones(family), pooling=pooling)
    assert prm.model.causal == (family in CAUSAL)
    whole = raw_scores(prm, SOLUTION)
    for count in range(1, len(SOLUTION.steps)):
        beginning = raw_scores(prm, replace(SOLUTION, steps=SOLUTION.steps[:count]))
        assert_close(whole[:count], beginning, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["last", "attention"])
@pytest.mark.parametrize("family", [*CAUSAL, *ENCODERS])
def test_a_tree_is_scored_like_each_of_its_paths(backbones: Backbones, family: str, pooling: Pooling) -> None:
    prm = build(backbones(family), pooling=pooling)
    assert prm.model.reads_trees
    alone = torch.stack([raw_scores(prm, path_to(TREE, node))[-1] for node in range(len(TREE.nodes))])
    assert_close(raw_scores(prm, TREE), alone, atol=1e-5, rtol=0)
    assert_close(raw_scores(prm, OTHER, TREE)[2:], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["mistral", "modernbert", "qwen2-windows"])
def test_a_bare_mask_of_four_dimensions_would_open_the_windows(backbones: Backbones, family: str) -> None:
    """Why masks.py is there: transformers hands a ready mask to layers with a sliding window as it is."""
    prm = build(backbones(family))
    batch = TokenBatch.of([prm.encode(SOLUTION)])
    with torch.inference_mode():
        right = prm.model.eval().hidden(batch)
        size = batch.ids.shape[1]
        seen = torch.ones(1, 1, size, size, dtype=torch.bool)
        naive = prm.model.body(input_ids=batch.ids, attention_mask=seen.tril() if prm.model.causal else seen)
    assert (naive.last_hidden_state - right).abs().max() > 1e-2


@pytest.mark.parametrize("family", ["mistral", "modernbert"])
def test_eager_attention_reads_as_sdpa_does(backbones: Backbones, family: str) -> None:
    prm = build(backbones(family))
    fast = raw_scores(prm, TREE, SOLUTION)
    prm.model.body.set_attn_implementation("eager")  # type: ignore[operator]
    assert_close(raw_scores(prm, TREE, SOLUTION), fast, atol=1e-5, rtol=0)


def test_a_body_without_attention_reads_solutions_and_refuses_trees(backbones: Backbones) -> None:
    prm = build(backbones("mamba"), max_tokens=128)
    assert_close(raw_scores(prm, SOLUTION)[:1], raw_scores(prm, replace(SOLUTION, steps=SOLUTION.steps[:1])))
    with pytest.raises(PrmError, match="t1: this backbone cannot share beginnings; score each path alone"):
        prm.encode(TREE)
    ((_, scores),) = engine.score(prm, [TREE])
    alone = [raw_scores(prm, path_to(TREE, node))[-1].softmax(-1)[:, 0].mean() for node in range(len(TREE.nodes))]
    assert_close(torch.tensor(scores.bad), torch.stack(alone))


def test_attention_that_cannot_take_a_mask_is_refused(backbones: Backbones) -> None:
    prm = build(backbones("llama"))
    prm.model.body.config._attn_implementation = "flash_attention_2"  # type: ignore[union-attr]
    with pytest.raises(PrmError, match="llama with flash_attention_2 attention"):
        raw_scores(prm, TREE)


@pytest.mark.parametrize("family", ["qwen2", "bert"])
def test_company_and_padding_do_not_matter(backbones: Backbones, family: str) -> None:
    prm = build(backbones(family), pooling="attention")
    together = raw_scores(prm, OTHER, SOLUTION, OTHER)
    apart = torch.cat([raw_scores(prm, item) for item in (OTHER, SOLUTION, OTHER)])
    assert_close(together, apart, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["mistral", "modernbert"])
def test_the_engine_scores_solutions_and_trees_of_any_body(backbones: Backbones, family: str) -> None:
    prm = build(backbones(family), pooling="attention")
    scored = list(engine.score(prm, [SOLUTION, TREE, OTHER], tokens_per_batch=150))
    assert [key for key, _ in scored] == ["s1", "t1", "s2"]
    for (_, scores), item in zip(scored, (SOLUTION, TREE, OTHER), strict=True):
        judged = prm.model.judge(TokenBatch.of([prm.encode(item)]))
        columns = torch.tensor([scores.bad, scores.neutral, scores.good, scores.spread])
        assert_close(columns, torch.cat([judged.p, judged.spread[:, None]], dim=1).T, atol=1e-5, rtol=0)


def test_roberta_positions_are_its_own(backbones: Backbones) -> None:
    """It numbers positions from behind the padding id; numbered from 0, the first token would get the padding's."""
    prm = build(backbones("roberta"))
    ids = torch.tensor([[5, 6, 7, 8]])
    one_block = Encoded((5, 6, 7, 8), (0,), (4,), (3,), (-1,))
    with torch.inference_mode():
        own = prm.model.eval().hidden(TokenBatch.of([one_block]))
        assert_close(own, prm.model.body(input_ids=ids).last_hidden_state, atol=1e-5, rtol=0)


def test_layout_is_as_documented(backbones: Backbones) -> None:
    prm = build(backbones("qwen2"), separator="\n\n", problem_separator="\n")
    encoded = prm.encode(SOLUTION)
    text = prm.tokenizer.decode(encoded.ids)
    assert text == "<|begin|>" + SOLUTION.problem + "\n" + "".join(f"{step}\n\n" for step in SOLUTION.steps)
    assert encoded.reads == tuple(end - 1 for end in encoded.ends)
    assert encoded.is_chain


def test_an_encoder_without_white_space_separates_by_its_own_token(backbones: Backbones) -> None:
    prm = build(backbones("bert"))
    assert prm.layout.separator_ids == (prm.tokenizer.sep_token_id,)
    assert prm.layout.prefix_ids == (prm.tokenizer.cls_token_id,)


def test_text_cannot_pose_as_a_separator(backbones: Backbones) -> None:
    prm = build(backbones("bert"))
    hostile = prm.encode(replace(SOLUTION, steps=("3 * 12 = 36 [SEP] so 29",)))
    assert hostile.ids.count(prm.layout.separator_ids[0]) == 2


def test_what_is_too_long_is_refused_by_its_longest_way(backbones: Backbones) -> None:
    prm = build(backbones("llama"), max_tokens=100)
    prm.encode(TREE)  # has more tokens in all, but no way to a step has
    with pytest.raises(SolutionTooLong, match=r"s1: \d+ tokens, but this model reads 100 at most"):
        prm.encode(replace(SOLUTION, steps=SOLUTION.steps * 3))


@pytest.mark.parametrize("parent", [0, 5, -2])
def test_a_step_must_follow_one_before_it(backbones: Backbones, parent: int) -> None:
    prm = build(backbones("llama"))
    with pytest.raises(PrmError, match=f"t: step 0 follows step {parent}, which does not precede it"):
        prm.encode(SolutionTree("t", "p", "1 + 1?", (StepNode("2", parent),)))


@pytest.mark.parametrize("arguments", [{}, {"lora": {"r": 2}}, {"frozen": True}], ids=["full", "lora", "frozen"])
@pytest.mark.parametrize("family", ["qwen2", "bert", "modernbert"])
def test_what_is_saved_is_what_is_loaded(
    backbones: Backbones, tmp_path: Path, family: str, arguments: dict[str, object]
) -> None:
    prm = build(backbones(family), pooling="attention", **arguments)
    step_once(prm)
    before = raw_scores(prm, TREE, SOLUTION)
    metadata = prm.save(tmp_path / "a", data_hash="d", parent="p", recipe={"lr": 0.1}, metrics={"f1": 0.5})
    loaded = OwnPrm.load(tmp_path / "a")
    assert torch.equal(raw_scores(loaded, TREE, SOLUTION), before)
    assert loaded.metadata == load_full_metadata(tmp_path / "a") == metadata
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    again = OwnPrm.load(tmp_path / "a", trainable=True)
    assert again.tuning == prm.tuning
    step_once(again)
    assert not torch.equal(raw_scores(again, TREE, SOLUTION), before)


def step_once(prm: OwnPrm) -> None:
    """One plain gradient step on whatever trains, dropout off, so that no weight is at its start any more."""
    prm.model.eval()
    batch = TokenBatch.of([prm.encode(SOLUTION)])
    for _ in range(2):  # an adapter's second matrix starts at zero, so its first one moves in the second step only
        loss = prm.model(batch).log_softmax(-1)[..., 0].sum()
        loss.backward()
        with torch.no_grad():
            for parameter in prm.model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
                    parameter.grad = None


def test_only_what_was_chosen_trains(backbones: Backbones) -> None:
    def trained(prm: OwnPrm) -> set[str]:
        return {name for name, parameter in prm.model.named_parameters() if parameter.requires_grad}

    head = {"head.weight", "head.bias"}
    full, lora, frozen = (
        build(backbones("llama"), **arguments) for arguments in ({}, {"lora": {"r": 2}}, {"frozen": True})
    )
    assert trained(frozen) == head
    assert head < trained(lora)
    assert all("lora_" in name for name in trained(lora) - head)
    assert trained(full) == {name for name, _ in full.model.named_parameters()}
    full.tune("head")
    assert trained(full) == head
    full.tune("all")
    assert len(trained(full)) > len(head)


def test_dropout_of_a_body_that_does_not_train_stays_off(backbones: Backbones) -> None:
    prm = build(backbones("bert"), frozen=True)
    batch = TokenBatch.of([prm.encode(SOLUTION)])
    prm.model.train()
    assert prm.model.training
    assert torch.equal(prm.model(batch), prm.model(batch))
    tuned = build(backbones("bert"))
    tuned.model.train()
    assert not torch.equal(tuned.model(batch), tuned.model(batch))


@pytest.mark.parametrize("arguments", [{}, {"lora": {"r": 2}}], ids=["full", "lora"])
def test_gradient_checkpointing_changes_no_gradient(backbones: Backbones, arguments: dict[str, object]) -> None:
    gradients = []
    for checkpointing in (False, True):
        prm = build(backbones("llama"), **arguments)
        if checkpointing:
            prm.model.body.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
        prm.model.train()
        prm.model(TokenBatch.of([prm.encode(TREE)])).square().sum().backward()
        gradients.append([parameter.grad for parameter in prm.model.parameters() if parameter.requires_grad])
    assert_close(gradients[0], gradients[1])


def test_seed_decides_all_that_is_random(backbones: Backbones) -> None:
    same, other = (build(backbones("llama"), lora={"r": 2}, seed=seed) for seed in (0, 1))
    again = build(backbones("llama"), lora={"r": 2}, seed=0)
    for (name, one), two, three in zip(
        same.model.named_parameters(), again.model.parameters(), other.model.parameters(), strict=True
    ):
        assert torch.equal(one, two)
        if "lora_A" in name or name == "head.weight":
            assert not torch.equal(one, three)


def test_the_head_stays_in_fp32(backbones: Backbones) -> None:
    prm = build(backbones("llama"), frozen=True, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        raw = raw_scores(prm, TREE)
    assert raw.dtype == torch.float32
    assert {parameter.dtype for parameter in prm.model.head.parameters()} == {torch.float32}
    assert next(prm.model.body.parameters()).dtype == torch.bfloat16


def test_plain_transformers_and_peft_load_the_folder(backbones: Backbones, tmp_path: Path) -> None:
    prm = build(backbones("qwen2"), lora={"r": 2})
    original = AutoModelForCausalLM.from_pretrained(backbones("qwen2")).base_model.state_dict()
    step_once(prm)
    prm.save(tmp_path / "a", data_hash="d")
    plain = AutoModel.from_pretrained(tmp_path / "a" / BACKBONE)
    assert_close(plain.state_dict(), original)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a" / BACKBONE)
    assert tokenizer.get_vocab() == prm.tokenizer.get_vocab()
    with pytest.warns(FutureWarning, match="checkpointing"):
        tuned = PeftModel.from_pretrained(plain, tmp_path / "a" / LORA)
    batch = TokenBatch.of([prm.encode(SOLUTION)])
    with torch.inference_mode():
        assert_close(tuned.eval()(input_ids=batch.ids).last_hidden_state, prm.model.eval().hidden(batch))


def test_checkpoints_of_one_untuned_backbone_share_its_files(backbones: Backbones, tmp_path: Path) -> None:
    prm = build(backbones("llama"), lora={"r": 2})
    prm.save(tmp_path / "a", data_hash="d")
    step_once(prm)
    prm.save(tmp_path / "b", data_hash="d")
    OwnPrm.load(tmp_path / "b", trainable=True).save(tmp_path / "c", data_hash="d")
    weights = [(tmp_path / name / BACKBONE / "model.safetensors").stat().st_ino for name in "abc"]
    assert len(set(weights)) == 1
    shutil.rmtree(tmp_path / "b")
    prm.save(tmp_path / "d", data_hash="d")
    assert file_hashes(tmp_path / "d" / BACKBONE) == file_hashes(tmp_path / "a" / BACKBONE)


def test_nothing_in_a_checkpoint_says_where_it_was_made(backbones: Backbones, tmp_path: Path) -> None:
    prm = build(backbones("llama"), lora={"r": 2})
    prm.save(tmp_path / "a", data_hash="d")
    place = str(backbones("llama").parent)
    for path in (tmp_path / "a").rglob("*"):
        assert path.is_dir() or place.encode() not in path.read_bytes(), path
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path


def test_the_card_says_what_it_is(backbones: Backbones, tmp_path: Path) -> None:
    prm = build(backbones("llama"), lora={"r": 2})
    prm.save(
        tmp_path / "a",
        data_hash="d4t4",
        data_version="algebra v3",
        recipe={"lr": 1e-4, "note": "a|b\nc"},
        metrics={
            "f1": {"value": 0.512345, "lower": 0.4, "upper": 0.6},
            "auroc": 0.9,
            "steps": 120,
            "per_subset": {"gsm8k": 0.5},
        },
    )
    card = (tmp_path / "a" / CARD).read_text()
    assert card.startswith('---\nbase_model: "llama"\n')
    for line in (
        "| f1 | 0.5123 [0.4, 0.6] |",
        "| auroc | 0.9 |",
        "| steps | 120 |",
        '| per\\_subset | {"gsm8k": 0.5} |',
        "| note | a\\|b c |",
    ):
        assert line in card.splitlines()
    assert "algebra v3" in card
    assert "`d4t4`" in card
    (tmp_path / "a" / CARD).write_text(card + "More by a person.\n")
    OwnPrm.load(tmp_path / "a")


def damage_head(folder: Path) -> None:
    path = folder / HEAD
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def lose_adapter(folder: Path) -> None:
    (folder / LORA / "adapter_model.safetensors").unlink()


def other_weights(folder: Path) -> None:
    """Consistent with its hashes, but not a head of this PRM."""
    path = folder / HEAD
    save_file({**load_file(path), "extra": torch.zeros(1)}, path)
    metadata = json.loads((folder / METADATA).read_text())
    metadata["files"][HEAD] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / METADATA).write_text(json.dumps(metadata))


def unknown_field(folder: Path) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps({**metadata, "colour": "red"}))


def bad_head_record(folder: Path) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    metadata["head"]["classes"] = 5
    (folder / METADATA).write_text(json.dumps(metadata))


def files_as_list(folder: Path) -> None:
    metadata = json.loads((folder / METADATA).read_text())
    (folder / METADATA).write_text(json.dumps({**metadata, "files": ["a"]}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_head, r"head\.safetensors is damaged"),
        (lose_adapter, r"lora/adapter_model\.safetensors is missing"),
        (other_weights, r"head\.safetensors holds extra, head\.anchor"),
        (unknown_field, r"metadata\.json is damaged .*colour"),
        (bad_head_record, "no such head"),
        (files_as_list, r"metadata\.json is damaged"),
    ],
)
def test_damage_is_found_and_named(
    backbones: Backbones, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    build(backbones("llama"), lora={"r": 2}).save(tmp_path / "a", data_hash="d")
    damage(tmp_path / "a")
    with pytest.raises(CheckpointError, match=message):
        OwnPrm.load(tmp_path / "a")


def test_the_two_kinds_of_checkpoints_are_told_apart(backbones: Backbones, tmp_path: Path) -> None:
    build(backbones("llama")).save(tmp_path / "full", data_hash="d")
    with pytest.raises(CheckpointError, match="a whole model, not heads on frozen features"):
        load_checkpoint(tmp_path / "full")
    init_backbone(backbones("llama"), tmp_path / "heads")
    with pytest.raises(CheckpointError, match="heads on frozen features, not a whole model"):
        OwnPrm.load(tmp_path / "heads")
    with pytest.raises(CheckpointError, match="no checkpoint here"):
        OwnPrm.load(tmp_path / "nowhere")


def test_a_checkpoint_is_never_overwritten(backbones: Backbones, tmp_path: Path) -> None:
    prm = build(backbones("llama"))
    prm.save(tmp_path / "a", data_hash="d")
    with pytest.raises(CheckpointError, match="never changed"):
        prm.save(tmp_path / "a", data_hash="d")


def test_missing_weights_are_not_made_up(backbones: Backbones, tmp_path: Path) -> None:
    folder = random_backbone("qwen2", tmp_path / "cut")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"weights are missing \(layers\.1\.mlp\.up_proj\.weight\)"):
        OwnPrm.build(folder)


def test_what_cannot_be_read_step_by_step_is_refused(tmp_path: Path, backbones: Backbones) -> None:
    AutoTokenizer.from_pretrained(backbones("bert")).save_pretrained(tmp_path / "t5")
    T5Model(T5Config(vocab_size=400, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)).save_pretrained(
        tmp_path / "t5"
    )
    with pytest.raises(CheckpointError, match="t5: this architecture cannot be read step by step"):
        OwnPrm.build(tmp_path / "t5", max_tokens=100)
    with pytest.raises(CheckpointError, match="deberta-v2: this architecture cannot be read step by step"):
        OwnPrm.build(backbones("deberta-v2"))
    with pytest.raises(CheckpointError, match="not a transformers model"):
        OwnPrm.build(tmp_path / "nowhere")


def test_bad_arguments_are_named(backbones: Backbones) -> None:
    with pytest.raises(PrmError, match="one or the other"):
        OwnPrm.build(backbones("llama"), frozen=True, lora={})
    with pytest.raises(PrmError, match=r"LoRA arguments .*rank"):
        OwnPrm.build(backbones("llama"), lora={"rank": 2})
    with pytest.raises(PrmError, match=r"LoRA arguments .*nothing_like_it"):
        OwnPrm.build(backbones("llama"), lora={"target_modules": ["nothing_like_it"]})
    for arguments in ({"init_lora_weights": "pissa"}, {"bias": "all"}, {"modules_to_save": ["embed_tokens"]}):
        with pytest.raises(PrmError, match=f"LoRA argument {next(iter(arguments))} would change the backbone"):
            OwnPrm.build(backbones("llama"), lora=arguments)
    with pytest.raises(PrmError, match="nothing to read at"):
        OwnPrm.build(backbones("llama"), separator="")
    with pytest.raises(ValueError, match="no such head"):
        HeadSpec(heads=0)
