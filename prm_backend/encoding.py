"""Text to token ids with step positions, for any transformers tokenizer, and the embedded tokenizer.

Layout: prefix, problem, separator, step 0, separator, step 1, separator, … Every step is tokenised on its own, so
later steps never change the ids of earlier ones. The read-out position of a step is its last token, which is the last
token of the separator behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Split
from tokenizers.pre_tokenizers import Sequence as PreTokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from prm_backend.controls import control_tokens, harmless
from prm_backend.errors import PrmError
from prm_backend.types import Solution

STEP_TOKEN, START_TOKEN, PAD_TOKEN = "<step>", "<start>", "<pad>"
PIECES = r"\d{1,3}|\\[A-Za-z]+|[^\W\d_]+|[^\s\w]|_"
WHOLE_NUMBERS = 200


class SolutionTooLong(PrmError):
    """A solution that the backbone cannot read whole; it is never cut in silence."""


@dataclass(frozen=True)
class Adapter:
    """How a backbone wants its input, and which hidden layers the heads read (0 is the embedding)."""

    prefix_ids: tuple[int, ...]
    separator_ids: tuple[int, ...]
    layers: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True)
class EncodedSolution:
    """Token ids of one solution; step i is `ids[starts[i]:ends[i]]`, its separator included."""

    ids: tuple[int, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


class StepEncoder:
    """Encodes solutions with one tokenizer and one adapter."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, adapter: Adapter) -> None:
        self.tokenizer = tokenizer
        self.adapter = adapter
        self._controls = control_tokens(tokenizer)

    def text_ids(self, text: str) -> list[int]:
        """Ids of user text, in which nothing is a control token."""
        ids = self.tokenizer(harmless(text, self._controls), add_special_tokens=False, verbose=False)["input_ids"]
        return list(ids)

    def encode(self, solution: Solution) -> EncodedSolution:
        """Raises `SolutionTooLong` when the solution has more tokens than the backbone can read."""
        separator = self.adapter.separator_ids
        ids = [*self.adapter.prefix_ids, *self.text_ids(solution.problem), *separator]
        starts, ends = [], []
        for step in solution.steps:
            starts.append(len(ids))
            ids += [*self.text_ids(step), *separator]
            ends.append(len(ids))
        if len(ids) > self.adapter.max_tokens:
            raise SolutionTooLong(
                f"solution {solution.key}: {len(ids)} tokens, but this model reads {self.adapter.max_tokens} at most"
            )
        return EncodedSolution(tuple(ids), tuple(starts), tuple(ends))


def train_tokenizer(texts: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which words, LaTeX commands and whole numbers below `WHOLE_NUMBERS` become single tokens.

    White space only separates and is not kept: the model scores text and never writes it.
    """
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = PreTokenizers(
        [
            Split(Regex(PIECES), behavior="removed", invert=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[PAD_TOKEN, START_TOKEN, STEP_TOKEN],
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    numbers = " ".join(map(str, range(WHOLE_NUMBERS)))
    tokenizer.train_from_iterator([*texts, *[numbers] * 2], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, additional_special_tokens=[START_TOKEN, STEP_TOKEN]
    )
