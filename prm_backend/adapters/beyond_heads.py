"""Presets of the PRMs that are no head on a step: log-ratios of two models, and models that write critiques. Light."""

from __future__ import annotations

from dataclasses import replace

from prm_backend.adapters.spec import Adapter

QWEN_MATH = "Qwen/Qwen2.5-Math-7B-Instruct"

EURUS_PRM_STAGE1 = Adapter(
    name="eurus-prm-stage1",
    source="PRIME-RL/EurusPRM-Stage1",
    licence="Apache-2.0",
    loader="policy_and_reference",
    head="none",
    readout="log_ratio",
    template="chat",
    tokenization="joint",
    position="last_step_token",
    max_tokens=4096,
    base=QWEN_MATH,
    step_prefix="Step {i}: ",
    joiner="\n\n",
    beta=0.001,
    scale=0.001,
    notes="The card asks for steps that begin with 'Step K'. Scale = beta, so P(good) is the probability that the "
    "policy and not the reference wrote the step; no threshold is published.",
)

EURUS_PRM_STAGE2 = replace(EURUS_PRM_STAGE1, name="eurus-prm-stage2", source="PRIME-RL/EurusPRM-Stage2")

PRIME = replace(
    EURUS_PRM_STAGE1,
    name="prime",
    source="PRIME-RL/PRIME",
    base="PRIME-RL/Eurus-2-7B-SFT",
    step_prefix="",
    beta=0.05,
    scale=0.05,
    notes="A reward model trained along with a policy (arXiv 2502.01456); its reference is where both started from.",
)

THINK_PRM = Adapter(
    name="think-prm",
    source="launch/ThinkPRM-1.5B",
    licence="Apache-2.0",
    loader="generator",
    head="none",
    readout="generative",
    template="chat",
    tokenization="joint",
    position="last_step_token",
    max_tokens=16384,
    prompt_prefix="You are given a math problem and a proposed step-by-step solution:\n\n[Math Problem]\n\n",
    prompt_suffix="\n\n[Solution]\n\n",
    step_prefix="Step {i}: ",
    joiner="\n",
    question=(
        "\n\nReview and critique each step in the proposed solution to determine whether each step is correct. If the "
        "solution is incomplete, only verify the provided steps."
    ),
    label_words=("incorrect", "correct"),
    max_new_tokens=4096,
    samples=4,
    notes="Also launch/ThinkPRM-7B and -14B. The critique stops at the first step that it finds wrong.",
)

PRESETS_BEYOND_HEADS = (EURUS_PRM_STAGE1, EURUS_PRM_STAGE2, PRIME, THINK_PRM)
