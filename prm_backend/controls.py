"""What a user wrote can never pose as a control token: whatever spells one is broken up by a blank."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """Whatever this tokenizer would turn into a token that ordinary text cannot give; runs of white space excepted."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
    longest_first = sorted((token for token in added if len(token.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def harmless(text: str, controls: re.Pattern[str]) -> str:
    """User text in which nothing is a control token."""
    return controls.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
