"""The public PRMs that this library reads, as data. `notes` say what their cards and code leave out or get wrong."""

from __future__ import annotations

import json
from dataclasses import replace

from prm_backend.adapters.beyond_heads import PRESETS_BEYOND_HEADS
from prm_backend.adapters.spec import Adapter
from prm_backend.errors import PrmError

BOXED = r"Please reason step by step, and put your final answer within \boxed{}."

QWEN = Adapter(
    name="qwen2.5-math-prm",
    source="Qwen/Qwen2.5-Math-PRM-7B, Qwen/Qwen2.5-Math-PRM-72B",
    licence="Qwen (not an OSI licence)",
    loader="transformers",
    head="two_layers",
    head_tensors="score",
    readout="softmax",
    template="chat",
    tokenization="joint",
    position="separator",
    system=BOXED,
    separator="<extra_0>",
    separator_ids=(151651,),
    max_tokens=4096,
    remote_code=True,
    notes=(
        "Neutral steps counted as good in training. The card's code drops probabilities that are exactly 0, which "
        "moves every later score of a bf16 run by a step, and copies of it hold a backspace for the \\b of \\boxed."
    ),
)
QWEN_PRM800K = replace(
    QWEN,
    name="qwen2.5-math-7b-prm800k",
    source="Qwen/Qwen2.5-Math-7B-PRM800K",
    notes="Trained on PRM800K without the problems of the MATH test set; neutral steps counted as good.",
)

MATH_SHEPHERD = Adapter(
    name="math-shepherd-mistral",
    source="peiyi9979/math-shepherd-mistral-7b-prm",
    licence="none stated",
    loader="transformers",
    head="label_tokens",
    readout="softmax",
    template="plain",
    tokenization="joint",
    position="separator",
    bos="required",
    prompt_suffix=" ",
    step_prefix="Step {i}: ",
    separator=" ки",
    separator_ids=(12902,),
    joiner="\n",
    strip_steps=True,
    label_words=("+", "-"),
    label_ids=(648, 387),
    classes=("good", "bad"),
    max_tokens=4096,
    notes="Labels by sampling: a step is good where some continuation reached the answer.",
)

RLHFLOW_DEEPSEEK = Adapter(
    name="rlhflow-llama3.1-deepseek",
    source="RLHFlow/Llama3.1-8B-PRM-Deepseek-Data",
    licence="none stated; the base model is under the Llama 3.1 licence",
    loader="transformers",
    head="label_tokens",
    readout="softmax",
    template="turns",
    tokenization="joint",
    position="before_label",
    prompt_suffix=" ",
    strip_steps=True,
    turn_label="+",
    label_words=("+", "-"),
    label_ids=(10, 12),
    classes=("good", "bad"),
    max_tokens=8192,
    notes=(
        "Every earlier step is followed by the label +, good or not, so what comes after a mistake is judged as if "
        "there had been none. Labels by sampling."
    ),
)
RLHFLOW_MISTRAL = replace(
    RLHFLOW_DEEPSEEK,
    name="rlhflow-llama3.1-mistral",
    source="RLHFlow/Llama3.1-8B-PRM-Mistral-Data",
    step_prefix="Step {i}: ",
)

FOVER_PREFIX = "** Problem **\n"
FOVER_TASK = """

** Task **
Your task is to evaluate the accuracy of each step in the provided solution to the above question. For each step, \
respond with "correct" if the reasoning is logically valid and mathematically sound, or if the step is a general \
statement or transition that does not contain reasoning. Respond with "incorrect" if the step includes any errors or \
flawed logic.

** Sotluion **
"""
FOVER = Adapter(
    name="fover",
    source="ryokamoi/Llama-3.1-8B-FoVer-PRM, ryokamoi/Qwen-2.5-7B-FoVer-PRM",
    licence="that of the base model; data CC BY 4.0",
    loader="transformers",
    head="label_tokens",
    readout="softmax",
    template="turns",
    tokenization="joint",
    position="before_label",
    prompt_prefix=FOVER_PREFIX,
    prompt_suffix=FOVER_TASK,
    turn_label="correct",
    label_words=("incorrect", "correct"),
    classes=("bad", "good"),
    max_tokens=8192,
    notes=(
        "The misspelling in the instruction is part of what the model was trained on. A word of several tokens is told "
        "by its first. Every earlier step is followed by correct, good or not."
    ),
)

SKYWORK = Adapter(
    name="skywork-o1-prm",
    source="Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B, Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B",
    licence="Skywork community licence",
    loader="transformers",
    head="linear",
    head_tensors="v_head.summary",
    readout="sigmoid",
    template="plain",
    tokenization="separate",
    position="separator",
    bos="required",
    prompt_suffix="\n",
    separator="\n",
    separator_ids=(198,),
    every_line=True,
    max_tokens=4096,
    remote_code=True,
    notes=(
        "The public code gives a score at every line; here a step has one, at its last line. The model stands in "
        "pytorch_model files, which are read as plain tensors."
    ),
)

PURE = Adapter(
    name="pure",
    source="jinachris/PURE-PRM-7B",
    licence="none stated",
    loader="transformers",
    head="linear",
    head_tensors="score",
    readout="softmax",
    template="plain",
    tokenization="separate",
    position="separator",
    separator="\n",
    separator_ids=(198,),
    max_tokens=4096,
    notes=(
        "The published reward is P(good) − P(bad), so its threshold 0 is P(good) = 0.5. Separator as on the card and "
        "in training; PRMBench's code uses two line breaks. Neutral steps counted as good in training."
    ),
)

TRL = Adapter(
    name="trl",
    source="whatever TRL's PRMTrainer (up to 1.13) wrote with its default separator",
    licence="that of the model",
    loader="transformers",
    head="linear",
    head_tensors="score",
    readout="softmax",
    template="plain",
    tokenization="separate",
    position="separator",
    bos="if_any",
    separator="\n",
    max_tokens=4096,
    notes=(
        "In training nothing stands between problem and step 1, and steps are cut into tokens on their own; TRL's own "
        "sample code does both otherwise. Its PRM800K converter counted neutral steps as bad."
    ),
)
TRL_H4 = replace(
    TRL,
    name="trl-h4",
    source="HuggingFaceH4/Qwen2.5-Math-1.5B-Instruct-PRM-0.2, HuggingFaceH4/Qwen2.5-Math-7B-Instruct-PRM-0.2",
    licence="none stated",
    separator="\n\n",
    separator_ids=(271,),
)

REASONEVAL_34B = Adapter(
    name="reasoneval-34b",
    source="GAIR/ReasonEval-34B",
    licence="Apache-2.0",
    loader="transformers",
    head="linear",
    head_tensors="score_head",
    readout="softmax",
    template="plain",
    tokenization="separate",
    position="last_step_token",
    bos="if_any",
    prompt_prefix="Question:\n",
    prompt_suffix="\nAnswer:\nLet's think step by step.\n",
    classes=("bad", "neutral", "good"),
    max_tokens=4096,
    remote_code=True,
    notes="The only public PRM family that tells neutral from good. Published mark of redundancy: P(neutral) > 0.15.",
)
REASONEVAL_7B = replace(
    REASONEVAL_34B,
    name="reasoneval-7b",
    source="GAIR/ReasonEval-7B",
    licence="Llama 2",
    bos="required",
    read_offset=1,
    notes=(
        "The only public PRM family that tells neutral from good. The published code, which the published figures come "
        "from, puts the beginning-of-sequence token back after it has counted positions, and so reads the token before "
        "the last one of a step; this adapter does as it does."
    ),
)

VERSAPRM = Adapter(
    name="versaprm",
    source="UW-Madison-Lee-Lab/VersaPRM, UW-Madison-Lee-Lab/Llama-PRM800K",
    licence="none stated on the cards; the base model is under the Llama 3.1 licence",
    loader="transformers",
    head="label_tokens",
    readout="softmax",
    template="plain",
    tokenization="joint",
    position="separator",
    bos="if_any",
    prompt_suffix=" \n\n",
    separator=" \n\n\n\n",
    separator_ids=(23535,),
    strip_steps=True,
    label_words=("-", "+"),
    label_ids=(12, 10),
    classes=("bad", "good"),
    max_tokens=8192,
    notes=(
        "Bad comes first, the other way round than in Math-Shepherd. White space at the edge of a step would melt into "
        "the separator; the card's code then loses the step's score without a word."
    ),
)
QWEN_UW_PRM800K = replace(
    VERSAPRM,
    name="uw-qwen-prm800k",
    source="UW-Madison-Lee-Lab/Qwen-PRM800K",
    licence="none stated on the card",
    separator_ids=(22701,),
    max_tokens=4096,
)

MATH_PSA = Adapter(
    name="math-psa",
    source="openreasoner/Math-psa",
    licence="MIT",
    loader="lora",
    subfolder="checkpoint-2127",
    base="Qwen/Qwen2.5-Math-7B-Instruct",
    head="label_tokens",
    readout="softmax",
    template="plain",
    tokenization="joint",
    position="separator",
    prompt_suffix=" ",
    step_prefix="Step {i}: ",
    separator=" \n\n\n\n\n",
    separator_ids=(76325,),
    joiner=" ",
    strip_steps=True,
    label_words=(" +", " -"),
    label_ids=(488, 481),
    classes=("good", "bad"),
    max_tokens=4096,
    notes="The label words carry a blank, unlike those of other Qwen models.",
)

ACTPRM = Adapter(
    name="actprm",
    source="sail/ActPRM, sail/ActPRM-X",
    licence="none stated",
    loader="transformers",
    head="ensemble",
    head_tensors="score.model",
    readout="mean_sigmoid",
    template="chat",
    tokenization="joint",
    position="separator",
    system=r"You are a helpful and harmless assistant. You should think step-by-step and put your final answer within "
    r"\boxed{}.",
    separator="<extra_0>",
    separator_ids=(151651,),
    strip_steps=True,
    max_tokens=4096,
    remote_code=True,
    notes=(
        "Mean of the heads' sigmoids, as in the authors' evaluation; the card averages the outputs before the sigmoid, "
        "which gives other numbers."
    ),
)

PRESETS: dict[str, Adapter] = {
    preset.name: preset
    for preset in (
        QWEN,
        QWEN_PRM800K,
        MATH_SHEPHERD,
        RLHFLOW_MISTRAL,
        RLHFLOW_DEEPSEEK,
        FOVER,
        SKYWORK,
        PURE,
        TRL,
        TRL_H4,
        REASONEVAL_7B,
        REASONEVAL_34B,
        VERSAPRM,
        QWEN_UW_PRM800K,
        MATH_PSA,
        ACTPRM,
        *PRESETS_BEYOND_HEADS,
    )
}


def adapter(name: str) -> Adapter:
    """The preset of this name. Raises `PrmError` listing the presets where there is none."""
    if name not in PRESETS:
        raise PrmError(f"no adapter is called {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def markdown() -> str:
    """The presets as a table and a list of notes: what docs/adapters.md shows."""
    head = "| preset | checkpoints | text | a step is judged at | output | most tokens | licence |"
    notes = "\n".join(f"- `{preset.name}`: {preset.notes}" for preset in PRESETS.values() if preset.notes)
    return "\n".join([head, "|---" * 7 + "|", *map(row, PRESETS.values())]) + f"\n\n{notes}\n"


def row(preset: Adapter) -> str:
    separator = f"`{json.dumps(preset.separator, ensure_ascii=False)}`"
    ids = f" ({', '.join(map(str, preset.separator_ids))})" if preset.separator_ids else ""
    places = {
        "separator": f"the separator {separator}{ids}",
        "last_step_token": f"its last token{f' but {preset.read_offset}' if preset.read_offset else ''}",
        "before_label": "the token before its label",
    }
    words = f"the words {', '.join(f'`{word}`' for word in preset.label_words)}: " if preset.label_words else ""
    cells = [
        f"`{preset.name}`",
        preset.source,
        f"{preset.template}, {'at once' if preset.tokenization == 'joint' else 'step by step'}",
        places[preset.position] if preset.head != "none" else "the whole step",
        f"{preset.readout}, {words}{', '.join(preset.classes)}",
        str(preset.max_tokens),
        preset.licence,
    ]
    return f"| {' | '.join(cells)} |"
