"""Small tokenizers that give control tokens, separators and labels the ids that the real ones give them."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders
from tokenizers.models import BPE
from tokenizers.normalizers import NFC, Prepend, Replace
from tokenizers.normalizers import Sequence as Normalizers
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BREAKS = (("Ċ", "Ċ"), ("ĊĊ", "ĊĊ"), ("ĊĊĊĊ", "Ċ"), ("Ġ", "ĊĊĊĊĊ"), ("Ġ", "ĊĊĊĊ"), ("Ġ", "ĊĊ"))
WORDS = (("Ġ", "+"), ("Ġ", "-"), (".", "Ċ"), (".", "ĊĊ"), ("Ġ", "S"), ("t", "h"), ("ĠS", "t"))
QWEN_IDS = {"ĊĊ": 271, "ĠĊĊĊĊ": 22701, "ĠĊĊĊĊĊ": 76325, "Ġ+": 488, "Ġ-": 481}
LLAMA_IDS = {"ĊĊ": 271, "ĠĊĊĊĊ": 23535, "Ġ+": 489, "Ġ-": 482}
QWEN_CONTROL = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<extra_0>": 151651}
LLAMA_CONTROL = {
    "<|begin_of_text|>": 128000,
    "<|start_header_id|>": 128006,
    "<|end_header_id|>": 128007,
    "<|eot_id|>": 128009,
}
CHATML = (
    "{% if messages[0]['role'] == 'system' %}{{ '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}{% if not (loop.first and message['role'] == 'system') %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_CHAT = (
    "{{ bos_token }}{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023"
    "\nToday Date: 26 Jul 2024\n\n<|eot_id|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def byte_alphabet() -> list[str]:
    """GPT-2's order, in which + is 10, - is 12 and a line break 198, as in Qwen and Llama 3."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(rest))]


def byte_level(ids: dict[str, int], control: dict[str, int]) -> Tokenizer:
    vocabulary = {token: place for place, token in enumerate(byte_alphabet())}
    merges = [*BREAKS, *WORDS]
    free = (place for place in range(300, 400))
    for merged in ("".join(pair) for pair in merges):
        vocabulary[merged] = ids.get(merged) or next(free)
    tokenizer = Tokenizer(BPE(vocab=vocabulary | control, merges=merges))
    tokenizer.pre_tokenizer = PreTokenizers(
        [Split(Regex(PIECES), behavior="isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return tokenizer


def qwen(*, bos: str | None = None) -> PreTrainedTokenizerFast:
    tokenizer = byte_level(QWEN_IDS, QWEN_CONTROL)
    tokenizer.normalizer = NFC()
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", **({"bos_token": bos} if bos else {})}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHATML, **ends)


def llama() -> PreTrainedTokenizerFast:
    tokenizer = byte_level(LLAMA_IDS, LLAMA_CONTROL)
    begin = ("<|begin_of_text|>", LLAMA_CONTROL["<|begin_of_text|>"])
    tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, chat_template=LLAMA_CHAT, bos_token=begin[0], eos_token="<|eot_id|>"
    )


def mistral(*, pad: str = "</s>", begins: bool = True) -> PreTrainedTokenizerFast:
    """Pieces of SentencePiece: a blank is part of the word behind it, and there is one before the text."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    letters = [chr(code) for code in range(33, 127)] + ["▁", "к", "и"]
    vocabulary |= {letter: 1000 + place for place, letter in enumerate(letters)}
    merges = [("к", "и"), ("▁", "ки"), ("▁", "+"), ("▁", "-"), ("t", "h"), ("▁", "S")]
    vocabulary |= {"ки": 500, "▁ки": 12902, "▁+": 648, "▁-": 387, "th": 501, "▁S": 502}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = Normalizers([Prepend("▁"), Replace(" ", "▁")])
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    if begins:
        tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad
    )
