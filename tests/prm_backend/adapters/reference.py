"""Each family read slowly and independently: one prefix at a time, through the plain transformers model with its whole
vocabulary, as model cards and the authors' code do. Nothing here uses the library under test."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.nn.functional import linear, relu
from transformers import (
    AutoModelForCausalLM,
    AutoModelForTokenClassification,
    AutoTokenizer,
    LlamaModel,
    MistralModel,
    Qwen2ForCausalLM,
    Qwen2Model,
)

Triple = tuple[float, float, float]
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
HARMLESS = (
    "You are a helpful and harmless assistant. You should think step-by-step and put your final answer "
    "within \\boxed{}."
)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for file in folder.glob("model*.safetensors"):
        found |= load_file(file)
    for file in folder.glob("pytorch_model*.bin"):
        found |= torch.load(file, weights_only=True)
    return found


def body_weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name.removeprefix("model."): value for name, value in weights(folder).items() if name.startswith("model.")}


def pair(good: float) -> Triple:
    return (1 - good, 0.0, good)


def last(ids: Sequence[int], token: int) -> int:
    return max(place for place, found in enumerate(ids) if found == token)


def prefixes(judge: Callable[[Sequence[str]], Triple], steps: Sequence[str]) -> list[Triple]:
    with torch.inference_mode():
        return [judge(steps[: count + 1]) for count in range(len(steps))]


def chat_ids(tokenizer, system: str, problem: str, answer: str) -> list[int]:
    turns = [("system", system), ("user", problem), ("assistant", answer)]
    messages = [{"role": role, "content": content} for role, content in turns]
    return tokenizer.encode(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False))


def hidden(model, ids: Sequence[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0]


def logits(model, ids: Sequence[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([list(ids)])).logits[0]


def last_logits(model, ids: Sequence[int], count: int) -> torch.Tensor:
    return model(input_ids=torch.tensor([list(ids)]), logits_to_keep=count).logits[0]


def qwen(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    tokenizer, w = AutoTokenizer.from_pretrained(folder), weights(folder)
    model = Qwen2Model.from_pretrained(folder).eval()
    model.load_state_dict(body_weights(folder))

    def judge(prefix: Sequence[str]) -> Triple:
        ids = chat_ids(tokenizer, BOXED, problem, "<extra_0>".join(prefix) + "<extra_0>")
        inner = relu(linear(hidden(model, ids), w["score.0.weight"], w["score.0.bias"]))
        p = linear(inner, w["score.2.weight"], w["score.2.bias"]).softmax(dim=-1)
        return pair(p[last(ids, 151651), 1].item())

    return prefixes(judge, steps)


def math_shepherd(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    candidates = tokenizer.encode("+ -")[1:]
    assert candidates == [648, 387]

    def judge(prefix: Sequence[str]) -> Triple:
        answer = "\n".join(f"Step {number}: {step} ки" for number, step in enumerate(prefix, start=1))
        ids = tokenizer.encode(f"{problem} {answer}")
        scores = logits(model, ids)[:, candidates].softmax(dim=-1)[:, 0]
        return pair(scores[last(ids, 12902)].item())

    return prefixes(judge, steps)


def rlhflow(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    candidates = [tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]]

    def judge(prefix: Sequence[str]) -> Triple:
        turns = []
        for number, step in enumerate(prefix):
            turns.append({"role": "user", "content": f"{problem} {step}" if number == 0 else step})
            turns.append({"role": "assistant", "content": "+"})
        ids = tokenizer.encode(tokenizer.apply_chat_template(turns, tokenize=False), add_special_tokens=False)
        return pair(last_logits(model, ids, 3)[-3, candidates].softmax(dim=-1)[0].item())

    return prefixes(judge, steps)


def rlhflow_numbered(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    return rlhflow(folder, problem, [f"Step {number}: {step}" for number, step in enumerate(steps, start=1)])


FOVER = """** Problem **
{problem}

** Task **
Your task is to evaluate the accuracy of each step in the provided solution to the above question. For each step, respond with "correct" if the reasoning is logically valid and mathematically sound, or if the step is a general statement or transition that does not contain reasoning. Respond with "incorrect" if the step includes any errors or flawed logic.

** Sotluion **
{first_step}"""  # noqa: E501 -- one line in the authors' prompt


def fover(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in ("incorrect", "correct")]

    def judge(prefix: Sequence[str]) -> Triple:
        turns = []
        for number, step in enumerate(prefix):
            content = step if number else FOVER.format(problem=problem, first_step=step)
            turns += [{"role": "user", "content": content}, {"role": "assistant", "content": "correct"}]
        text = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=False)
        return pair(last_logits(model, ids, 1)[-1, words].softmax(dim=-1)[1].item())

    return prefixes(judge, steps)


def skywork(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    tokenizer, w = AutoTokenizer.from_pretrained(folder), weights(folder)
    model = Qwen2ForCausalLM.from_pretrained(folder).eval()

    def judge(prefix: Sequence[str]) -> Triple:
        ids = tokenizer.encode(tokenizer.bos_token + problem + "\n")
        for line in "\n".join(prefix).split("\n"):
            ids += (tokenizer.encode(line) if line else []) + [tokenizer.encode("\n")[-1]]
        value = linear(hidden(model.model, ids)[-1], w["v_head.summary.weight"], w["v_head.summary.bias"])
        return pair(value.sigmoid().item())

    return prefixes(judge, steps)


def classified(folder: Path, problem: str, steps: Sequence[str], separator: str) -> list[Triple]:
    """PURE and TRL as they train: question, steps and separators cut into tokens apart and strung together."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder).eval()

    def judge(prefix: Sequence[str]) -> Triple:
        ids = tokenizer(problem, add_special_tokens=False)["input_ids"]
        for step in prefix:
            ids = ids + tokenizer(step, add_special_tokens=False)["input_ids"]
            ids = ids + tokenizer.encode(separator, add_special_tokens=False)
        return pair(logits(model, ids)[-1].softmax(dim=-1)[1].item())

    return prefixes(judge, steps)


def reasoneval(folder: Path, problem: str, steps: Sequence[str], size: str) -> list[Triple]:
    """The authors' example: separators are put in, found, counted and taken out again."""
    tokenizer, w = AutoTokenizer.from_pretrained(folder), weights(folder)
    model = (MistralModel if size == "7B" else LlamaModel).from_pretrained(folder).eval()
    model.load_state_dict(body_weights(folder))
    mark = tokenizer.pad_token if size == "7B" else "<|eot_id|>"

    def judge(prefix: Sequence[str]) -> Triple:
        prompt = f"Question:\n{problem}\nAnswer:\nLet's think step by step.\n"
        marked = tokenizer(prompt + mark + "".join(step + mark for step in prefix))["input_ids"]
        separator = tokenizer(mark)["input_ids"][-1]
        places, ids = [], []
        for place, token in enumerate(marked):
            if token == separator:
                places.append(place - 1 - len(places))
            else:
                ids.append(token)
        ids, places = ([1, *ids], places[2:]) if size == "7B" else (ids, places[1:])
        assert len(places) == len(prefix)
        raw = linear(hidden(model, ids)[places[-1]], w["score_head.weight"], w.get("score_head.bias"))
        bad, neutral, good = raw.softmax(dim=-1).tolist()
        return (bad, neutral, good)

    return prefixes(judge, steps)


def versaprm(folder: Path, problem: str, steps: Sequence[str], separator: int) -> list[Triple]:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()

    def judge(prefix: Sequence[str]) -> Triple:
        ids = tokenizer.encode(problem + " \n\n" + " \n\n\n\n".join(prefix) + " \n\n\n\n")
        return pair(logits(model, ids)[last(ids, separator), [12, 10]].softmax(dim=-1)[1].item())

    return prefixes(judge, steps)


def math_psa(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    base = folder.with_name(f"{folder.name}-base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    with warnings.catch_warnings(action="ignore"):  # peft asks transformers for what it is about to drop
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()
    candidates = tokenizer.encode(" + -")
    assert candidates == [488, 481]

    def judge(prefix: Sequence[str]) -> Triple:
        parts = [f"Step {number}: {step} \n\n\n\n\n" for number, step in enumerate(prefix, start=1)]
        ids = tokenizer.encode(f"{problem} {' '.join(parts)}")
        return pair(logits(model, ids)[last(ids, 76325), candidates].softmax(dim=-1)[0].item())

    return prefixes(judge, steps)


def actprm(folder: Path, problem: str, steps: Sequence[str]) -> list[Triple]:
    return [pair(sum(heads) / len(heads)) for heads in actprm_heads(folder, problem, steps)]


def actprm_heads(folder: Path, problem: str, steps: Sequence[str]) -> list[list[float]]:
    """P(good) of each step by each head."""
    tokenizer, w = AutoTokenizer.from_pretrained(folder), weights(folder)
    model = Qwen2Model.from_pretrained(folder).eval()
    model.load_state_dict(body_weights(folder))
    found = []
    with torch.inference_mode():
        for count in range(1, len(steps) + 1):
            text = "<extra_0>".join(step.strip() for step in steps[:count]) + "<extra_0>"
            ids = chat_ids(tokenizer, HARMLESS, problem, text)
            state = hidden(model, ids)[last(ids, 151651)]
            heads = []
            for head in range(w["score.model.nn1.weight"].shape[0]):
                signal = state
                for layer in ("nn1", "nn2", "nn_out"):
                    weight, bias = w[f"score.model.{layer}.weight"][head], w[f"score.model.{layer}.bias"][head]
                    signal = (relu(signal) if layer != "nn1" else signal) @ weight + bias
                heads.append(signal.sigmoid().item())
            found.append(heads)
    return found


REFERENCES: dict[str, Callable[[Path, str, Sequence[str]], list[Triple]]] = {
    "qwen2.5-math-prm": qwen,
    "qwen2.5-math-7b-prm800k": qwen,
    "math-shepherd-mistral": math_shepherd,
    "rlhflow-llama3.1-mistral": rlhflow_numbered,
    "rlhflow-llama3.1-deepseek": rlhflow,
    "fover": fover,
    "skywork-o1-prm": skywork,
    "pure": lambda folder, problem, steps: classified(folder, problem, steps, "\n"),
    "trl": lambda folder, problem, steps: classified(folder, problem, steps, "\n"),
    "trl-h4": lambda folder, problem, steps: classified(folder, problem, steps, "\n\n"),
    "reasoneval-7b": lambda folder, problem, steps: reasoneval(folder, problem, steps, "7B"),
    "reasoneval-34b": lambda folder, problem, steps: reasoneval(folder, problem, steps, "34B"),
    "versaprm": lambda folder, problem, steps: versaprm(folder, problem, steps, 23535),
    "uw-qwen-prm800k": lambda folder, problem, steps: versaprm(folder, problem, steps, 22701),
    "math-psa": math_psa,
    "actprm": actprm,
}
