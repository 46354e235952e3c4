"""Problems and steps to the token ids that a public PRM was trained to read, with the places where it judges.

What a user wrote can never pose as a control token: whatever spells one is broken up by a blank. Steps are found by
where they were put, never by looking for the separator's id, so text that happens to hold a separator is not scored.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from prm_backend.adapters.spec import Adapter
from prm_backend.batching import Encoded
from prm_backend.controls import control_tokens, harmless
from prm_backend.encoding import SolutionTooLong
from prm_backend.errors import CheckpointError, PrmError
from prm_backend.passages import Excerpt
from prm_backend.types import Solution, SolutionTree

MARKS = ("⟦problem⟧", "⟦answer⟧", "⟦second⟧", "⟦last⟧")


@dataclass(frozen=True, slots=True)
class ChatFrame:
    """What a chat template puts around the contents of turns, and whether it strips white space from them."""

    head: str
    to_answer: str
    to_user: str
    strips_user: bool
    strips_answer: bool

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, system: str) -> ChatFrame:
        """Raises `CheckpointError` where there is no template, or one whose turns do not all look alike."""
        user, answer, second, last = (f" {mark} " for mark in MARKS)
        turns = [{"role": "system", "content": system}] if system else []
        for question, reply in ((user, answer), (second, last)):
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        try:
            text = str(tokenizer.apply_chat_template(turns, tokenize=False))
        except (ValueError, TemplateError) as error:
            raise CheckpointError(f"the tokenizer's chat template cannot be used ({error})") from error
        bare = [padded if padded in text else padded.strip() for padded in (user, answer, second, last)]
        places = [text.find(mark) for mark in bare]
        between = [text[at + len(mark) : then] for (at, then), mark in zip(pairwise(places), bare, strict=False)]
        alike = between[0] == between[2] and (bare[0] == user, bare[1] == answer) == (
            bare[2] == second,
            bare[3] == last,
        )
        if -1 in places or places != sorted(places) or not alike:
            raise CheckpointError("the tokenizer's chat template does not render all turns alike")
        return cls(text[: places[0]], between[0], between[1], bare[0] != user, bare[1] != answer)


class Renderer:
    """One adapter with one tokenizer. Raises `CheckpointError` where they do not fit each other."""

    def __init__(self, adapter: Adapter, tokenizer: PreTrainedTokenizerBase) -> None:
        self.adapter, self.tokenizer = adapter, tokenizer
        self._controls = control_tokens(tokenizer)
        self.frame = None if adapter.template == "plain" else ChatFrame.of(tokenizer, adapter.system)
        self.bos = self._bos()
        if adapter.tokenization == "joint" and not tokenizer.is_fast:
            raise CheckpointError("this tokenizer does not tell where its tokens stand in the text")
        self.separator_ids = adapter.separator_ids or tuple(self.ids(adapter.separator))
        if adapter.tokenization == "separate" and (found := tuple(self.ids(adapter.separator))) != self.separator_ids:
            raise CheckpointError(
                f"the tokenizer gives {list(found)} for the separator {adapter.separator!r}; adapter {adapter.name} "
                f"states {list(self.separator_ids)}"
            )
        if adapter.position == "separator" and not self.separator_ids:
            raise CheckpointError(f"the tokenizer gives no token for the separator {adapter.separator!r}")
        try:
            self.encode(Solution("probe", "probe", "What is 1 + 1?", ("First, x.", "Then, y.", "So it is 2.")))
        except SolutionTooLong:
            raise
        except PrmError as error:
            raise CheckpointError(f"the tokenizer does not fit adapter {adapter.name}: {error}") from error

    def encode(self, item: Solution | SolutionTree) -> Encoded:
        """Raises `SolutionTooLong` where a path has more tokens than the model reads, and `PrmError` where a step
        cannot be told from its surroundings; both name the solution."""
        steps = item.steps if isinstance(item, Solution) else [node.text for node in item.nodes]
        try:
            "".join((item.problem, *steps)).encode()
        except UnicodeEncodeError as error:
            raise PrmError(f"solution {item.key}: half of a character stands in its text") from error
        if isinstance(item, SolutionTree):
            return self._tree(item)
        return self._chain(item.key, item.problem, steps, item.first_step if isinstance(item, Excerpt) else 1)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def harmless(self, text: str) -> str:
        """User text in which nothing is a control token."""
        return harmless(text, self._controls)

    def _bos(self) -> list[int]:
        token = self.tokenizer.bos_token_id
        if self.adapter.bos == "required" and token is None:
            raise CheckpointError("the tokenizer has no beginning-of-sequence token, and the adapter requires one")
        return [] if self.adapter.bos == "none" or token is None else [token]

    def _chain(self, key: str, problem: str, steps: Sequence[str], first_step: int = 1) -> Encoded:
        prompt = f"{self.adapter.prompt_prefix}{self.harmless(problem)}{self.adapter.prompt_suffix}"
        texts = [self._step_text(step, number) for number, step in enumerate(steps, start=first_step)]
        if self.adapter.template == "turns":
            encoded = self._turns(key, prompt, texts)
        else:
            if self.frame is not None:
                prompt = self.frame.head + (prompt.strip() if self.frame.strips_user else prompt) + self.frame.to_answer
            encoded = (self._apart if self.adapter.tokenization == "separate" else self._jointly)(key, prompt, texts)
        if len(encoded) > self.adapter.max_tokens:
            raise SolutionTooLong(
                f"solution {key}: {len(encoded)} tokens, but this model reads {self.adapter.max_tokens} at most"
            )
        return encoded

    def _step_text(self, step: str, number: int) -> str:
        text = self.harmless(step.strip() if self.adapter.strip_steps else step)
        prefix = self.adapter.step_prefix.replace("{i}", str(number))
        return text if prefix and text.lstrip().startswith(prefix.strip()) else prefix + text

    def _apart(self, key: str, prompt: str, texts: Sequence[str]) -> Encoded:
        """Every step, or every line of it, is cut into tokens on its own."""
        ids = [*self.bos, *self.ids(prompt)]
        bounds, reads = [len(ids)], []
        for number, text in enumerate(texts, start=1):
            for line in text.split(self.adapter.separator) if self.adapter.every_line else [text]:
                ids += [*self.ids(line), *self.separator_ids]
            behind = len(self.separator_ids) if self.adapter.position == "last_step_token" else 0
            reads.append(self._read(key, number, bounds[-1], len(ids) - behind))
            bounds.append(len(ids))
        return chain(ids, bounds, reads)

    def _jointly(self, key: str, prompt: str, texts: Sequence[str]) -> Encoded:
        """The whole text is cut into tokens at once, as authors do who write one string. A token that reaches over the
        beginning of a step belongs to the step."""
        text, marks, steps = prompt, [len(prompt)], []
        for number, step in enumerate(texts):
            text += (self.adapter.joiner if number else "") + step
            steps.append(len(text))
            text += self.adapter.separator
            marks.append(len(text))
        ids, ends = self._with_ends(text)
        bounds = [bisect_right(ends, mark) for mark in marks]
        reads = []
        for number, (start, end) in enumerate(pairwise(bounds), start=1):
            if self.adapter.position == "separator":
                self._check_separator(key, number, ids[start:end], ends[end - 1] == marks[number])
            else:
                end = bisect_right(ends, steps[number - 1])
            reads.append(self._read(key, number, start, end))
        return self._with_bos(ids, bounds, reads)

    def _turns(self, key: str, prompt: str, texts: Sequence[str]) -> Encoded:
        """A chat in which the user says the steps one by one and the assistant labels each."""
        assert self.frame is not None
        strip = self.frame.strips_user
        text = self.frame.head + (prompt.lstrip() if strip else prompt)
        marks, asked = [len(text)], []
        for number, step in enumerate(texts):
            shown = (step.strip() if number else step.rstrip()) if strip else step
            text += (self.frame.to_user if number else "") + shown + self.frame.to_answer
            asked.append(len(text))
            text += self.adapter.turn_label
            marks.append(len(text))
        ids, ends = self._with_ends(text)
        bounds = [bisect_right(ends, mark) for mark in marks]
        places = [bisect_right(ends, mark) for mark in asked]
        reads = []
        for number, (place, (start, end), mark) in enumerate(
            zip(places, pairwise(bounds), asked, strict=True), start=1
        ):
            if not start < place < end or ends[place - 1] != mark:
                raise PrmError(f"solution {key}: the label of step {number} melts into the tokens around it")
            reads.append(self._read(key, number, start, place))
        return self._with_bos(ids, bounds, reads)

    def _with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids and where each token ends in the text."""
        encoding = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(encoding["input_ids"]), [end for _, end in encoding["offset_mapping"]]

    def _with_bos(self, ids: Sequence[int], bounds: Sequence[int], reads: Sequence[int]) -> Encoded:
        shift = len(self.bos)
        return chain([*self.bos, *ids], [bound + shift for bound in bounds], [read + shift for read in reads])

    def _check_separator(self, key: str, number: int, ids: Sequence[int], whole: bool) -> None:
        found = tuple(ids[-len(self.separator_ids) :])
        if not whole or found != self.separator_ids:
            raise PrmError(
                f"solution {key}: the separator {self.adapter.separator!r} behind step {number} became the tokens "
                f"{list(found)}, not {list(self.separator_ids)}"
            )

    def _read(self, key: str, number: int, start: int, end: int) -> int:
        """The place to read of a step whose tokens up to that place are `start` to `end`."""
        if start >= end:
            raise PrmError(f"solution {key}: step {number} is empty, so there is no token to judge it at")
        return max(start, end - 1 - self.adapter.read_offset)

    def _tree(self, tree: SolutionTree) -> Encoded:
        """From the chains of its paths, which must agree on what they share."""
        followed = {node.parent for node in tree.nodes}
        pieces: dict[int, tuple[tuple[int, ...], int]] = {}
        prompt = None if tree.nodes else self._chain(tree.key, tree.problem, ()).ids
        for leaf in range(len(tree.nodes)):
            if leaf in followed:
                continue
            path = [leaf]
            while (parent := tree.nodes[path[-1]].parent) >= 0:
                path.append(parent)
            path.reverse()
            encoded = self._chain(tree.key, tree.problem, [tree.nodes[step].text for step in path])
            prompt = prompt or encoded.ids[: encoded.starts[0]]
            for step, start, end, read in zip(path, encoded.starts, encoded.ends, encoded.reads, strict=True):
                piece = (encoded.ids[start:end], read - start)
                if pieces.setdefault(step, piece) != piece or encoded.ids[: encoded.starts[0]] != prompt:
                    raise PrmError(
                        f"solution {tree.key}: adapter {self.adapter.name} cuts problem and steps into tokens "
                        "together, and here a step changes the tokens of what stands before it; score each path alone"
                    )
        ids, starts, ends, reads = list(prompt or ()), [], [], []
        for step in range(len(tree.nodes)):
            own, read = pieces[step]
            starts.append(len(ids))
            reads.append(len(ids) + read)
            ids += own
            ends.append(len(ids))
        parents = tuple(node.parent for node in tree.nodes)
        return Encoded(tuple(ids), tuple(starts), tuple(ends), tuple(reads), parents)


def chain(ids: Sequence[int], bounds: Sequence[int], reads: Sequence[int]) -> Encoded:
    """Steps that follow one another; step i is `ids[bounds[i] : bounds[i + 1]]`."""
    parents = tuple(range(-1, len(reads) - 1))
    return Encoded(tuple(ids), tuple(bounds[:-1]), tuple(bounds[1:]), tuple(reads), parents)
