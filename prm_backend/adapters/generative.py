"""Generative PRMs: a model writes a critique of the whole solution, with a verdict like \\boxed{correct} on each step.

Each critique votes on each step, and p(−) = (bad votes + ½) / (votes + 1), the mean under Jeffreys' prior; p(0) = 0,
p(+) = 1 − p(−), spread = standard deviation of the votes. How a critique is read:

- A verdict belongs to the step whose heading ("Step 3:" at the beginning of a line) stands last before it. The last
  verdict on a step counts: these models reconsider. Verdicts on steps that do not exist do not count.
- Without any heading, verdicts belong to the steps in order where their number fits, else to none.
- A critique that stops at a step it calls wrong calls what builds on that step wrong too. ThinkPRM was trained on
  critiques that end so.
- A critique that ran into the limit on tokens says nothing on the step it was at, nor on those behind it.
- Verdicts in what the user wrote do not count: they are broken up by a blank before the model sees them, and where it
  quotes them (in quotation marks, backticks or "> " lines) the quotation is left out.

A step on which no critique gave a verdict is not known. `judge` gives None for it. `StepScores` have no word for that:
`score` raises `StepNotJudged`, or, with unjudged="mark", puts NaN in all four places of the step. It is never 0.5.

Light: torch is loaded only where the model runs in this process.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import pstdev
from typing import TYPE_CHECKING, Any, Literal, Protocol

from prm_backend.adapters.spec import Adapter
from prm_backend.controls import control_tokens, harmless
from prm_backend.errors import CheckpointError, EndpointError, PrmError
from prm_backend.sampling import Choice, EndpointSource
from prm_backend.types import Progress, ReportProgress, Solution, StepScores, ignore_progress

if TYPE_CHECKING:
    import torch

OPENING = "\nLet's verify step by step:"
PARALLEL_SOLUTIONS = 8
# What chat templates of the common families write; an endpoint does not tell which are its own.
CONTROL = re.compile(
    r"<[|｜][^<>|｜\n]{1,40}[|｜]>|</?(?:think|s|pad|unk|bos|eos|start_of_turn|end_of_turn)>|\[/?INST\]"
)
HEADING = re.compile(r"^[ \t*#_-]*step[ \t]+(\d{1,4})[ \t]*(?:[:.)*–—-]|$)", re.IGNORECASE | re.MULTILINE)
QUOTATION = re.compile(r'^[ \t]*>.*$|"[^"\n]+"|“[^”\n]+”|«[^»\n]+»|`[^`\n]+`', re.MULTILINE)
OWN_LABEL = re.compile(r"^[ \t]*step[ \t]+\d{1,4}[ \t]*:[ \t]*", re.IGNORECASE | re.MULTILINE)

Message = Mapping[str, str]
Verdicts = tuple[bool | None, ...]


class StepNotJudged(PrmError):
    """No critique gave a verdict on a step: they missed it, or ran into the limit on tokens before it."""


class CritiqueWriter(Protocol):
    """What writes critiques. `control` is what must not stand in user text, `parallel` how many it writes at a time."""

    control: re.Pattern[str]
    parallel: int

    def write(self, messages: Sequence[Message], *, name: str, count: int, seed: int) -> list[Choice]:
        """`count` critiques, or fewer; errors name `name`."""


@dataclass(frozen=True, slots=True)
class Votes:
    """How many critiques called each step good and bad."""

    good: tuple[int, ...]
    bad: tuple[int, ...]

    @classmethod
    def of(cls, critiques: Sequence[Verdicts], steps: int) -> Votes:
        columns = [[verdicts[step] for verdicts in critiques] for step in range(steps)]
        return cls(tuple(column.count(True) for column in columns), tuple(column.count(False) for column in columns))

    @property
    def p_bad(self) -> tuple[float | None, ...]:
        """p(−) of each step; None where nobody voted."""
        return tuple(
            (bad + 0.5) / (good + bad + 1) if good + bad else None
            for good, bad in zip(self.good, self.bad, strict=True)
        )

    @property
    def spread(self) -> tuple[float | None, ...]:
        """Standard deviation of the votes on each step; None where nobody voted."""
        return tuple(
            pstdev([0.0] * good + [1.0] * bad) if good + bad else None
            for good, bad in zip(self.good, self.bad, strict=True)
        )


class GenerativePrm:
    """An adapter and what writes its critiques."""

    def __init__(self, adapter: Adapter, writer: CritiqueWriter, *, seed: int = 0) -> None:
        """Raises `PrmError` for an adapter of another kind."""
        if adapter.readout != "generative" or len(adapter.label_words) != len(adapter.classes):
            raise PrmError(f"adapter {adapter.name} is read by {adapter.readout}, not from the verdicts of critiques")
        self.adapter, self.writer, self.seed = adapter, writer, seed
        words = dict(zip(adapter.classes, adapter.label_words, strict=True))
        either = "|".join(sorted(map(re.escape, words.values()), key=len, reverse=True))
        self.verdict = re.compile(rf"\\boxed\{{\s*(?:\\text\s*\{{\s*)?({either})\b[.!]?\s*\}}", re.IGNORECASE)
        self.good_word = words["good"]

    @classmethod
    def at_endpoint(cls, adapter: Adapter, source: EndpointSource, *, seed: int = 0) -> GenerativePrm:
        """Through an OpenAI-compatible endpoint, which has to send the model's thinking along with its answer: verdicts
        stand in it. `source` bounds the time that each solution may take, retries and all."""
        return cls(adapter, EndpointWriter(replace(source, max_tokens=adapter.max_new_tokens)), seed=seed)

    @classmethod
    def load(
        cls, path: str | Path, adapter: Adapter, *, device: torch.device | str | None = None, seed: int = 0, **more: Any
    ) -> GenerativePrm:
        """In this process; `more` goes to `LocalWriter`. Raises `CheckpointError`."""
        writer = LocalWriter.load(path, adapter, device=device, **more)
        return cls(adapter, writer, seed=seed)

    def messages(self, solution: Solution) -> list[Message]:
        """The chat that asks for a critique. Labels that steps bring along go, as in the authors' code: the numbers are
        the adapter's."""
        adapter = self.adapter
        steps = (
            adapter.step_prefix.replace("{i}", str(number)) + OWN_LABEL.sub("", self._harmless(step)).strip()
            for number, step in enumerate(solution.steps, start=1)
        )
        problem = self._harmless(solution.problem)
        asked = adapter.prompt_prefix + problem + adapter.prompt_suffix + adapter.joiner.join(steps) + adapter.question
        system = [{"role": "system", "content": adapter.system}] if adapter.system else []
        return [*system, {"role": "user", "content": asked}]

    def judge(
        self, solutions: Iterable[Solution], *, progress: ReportProgress = ignore_progress, total: int | None = None
    ) -> Iterator[tuple[str, Votes]]:
        """(key, votes) in input order, in constant memory. Raises what the writer raises."""
        done = 0
        waiting: deque[tuple[str, Future[Votes]]] = deque()
        pool = ThreadPoolExecutor(max_workers=self.writer.parallel)
        try:
            for solution in solutions:
                waiting.append((solution.key, pool.submit(self._votes, solution)))
                if len(waiting) >= 2 * self.writer.parallel:
                    done += 1
                    yield self._done(*waiting.popleft(), progress, done, total)
            while waiting:
                done += 1
                yield self._done(*waiting.popleft(), progress, done, total)
        finally:
            pool.shutdown(cancel_futures=True)

    def score(
        self,
        solutions: Iterable[Solution],
        *,
        unjudged: Literal["raise", "mark"] = "raise",
        progress: ReportProgress = ignore_progress,
        total: int | None = None,
    ) -> Iterator[tuple[str, StepScores]]:
        """(key, step scores) in input order. A step without any verdict raises `StepNotJudged`, which names it; with
        unjudged="mark" it has NaN in all four places."""
        for key, votes in self.judge(solutions, progress=progress, total=total):
            missing = [str(number) for number, p in enumerate(votes.p_bad, start=1) if p is None]
            if missing and unjudged == "raise":
                raise StepNotJudged(f"solution {key}: no critique gives a verdict on step {', '.join(missing)}")
            bad = tuple(math.nan if p is None else p for p in votes.p_bad)
            spread = tuple(math.nan if value is None else value for value in votes.spread)
            neutral = tuple(math.nan if math.isnan(p) else 0.0 for p in bad)
            yield key, StepScores(bad, neutral, tuple(1.0 - p for p in bad), spread)

    def read(self, critique: Choice, solution: Solution) -> Verdicts:
        """One verdict for each step (True: correct), by the rules above."""
        steps = len(solution.steps)
        said = "".join("".join((solution.problem, *solution.steps)).split())
        text = QUOTATION.sub(lambda match: "" if self._is_quoted(match[0], said) else match[0], critique.text)
        headings = list(HEADING.finditer(text))
        verdicts: list[bool | None] = [None] * steps
        if headings:
            ends = [*(heading.start() for heading in headings[1:]), len(text)]
            for heading, end in zip(headings, ends, strict=True):
                found = self._verdicts(text[heading.end() : end])
                step, unfinished = int(heading[1]) - 1, critique.cut and end == len(text)
                if 0 <= step < steps and (found or unfinished):
                    verdicts[step] = None if unfinished else found[-1]
        else:
            found = self._verdicts(text)
            if not critique.cut and (len(found) == steps or (found and len(found) < steps and not found[-1])):
                verdicts[: len(found)] = found
        judged = [step for step, verdict in enumerate(verdicts) if verdict is not None]
        if judged and not critique.cut and verdicts[judged[-1]] is False:
            verdicts[judged[-1] :] = [False] * (steps - judged[-1])
        return tuple(verdicts)

    def _verdicts(self, text: str) -> list[bool]:
        return [match[1].casefold() == self.good_word.casefold() for match in self.verdict.finditer(text)]

    def _is_quoted(self, quotation: str, said: str) -> bool:
        return bool(self.verdict.search(quotation)) and "".join(quotation.split()).strip('>"“”«»`') in said

    def _harmless(self, text: str) -> str:
        text = harmless(text, self.writer.control)
        return self.verdict.sub(lambda match: match[0].replace("\\boxed", "\\boxed ", 1), text)

    def _votes(self, solution: Solution) -> Votes:
        if not solution.steps:
            return Votes((), ())
        messages = self.messages(solution)
        # From the content, so that a critique depends neither on the order nor on what else is asked.
        digest = hashlib.sha256(f"{self.seed}\n{messages[-1]['content']}".encode()).digest()
        critiques = self.writer.write(
            messages, name=solution.key, count=self.adapter.samples, seed=int.from_bytes(digest[:3])
        )
        return Votes.of([self.read(critique, solution) for critique in critiques], len(solution.steps))

    def _done(
        self, key: str, votes: Future[Votes], progress: ReportProgress, done: int, total: int | None
    ) -> tuple[str, Votes]:
        found = votes.result()
        progress(Progress(done, total or done, "reading critiques"))
        return key, found


class EndpointWriter:
    """A model behind an OpenAI-compatible endpoint."""

    control = CONTROL
    parallel = PARALLEL_SOLUTIONS

    def __init__(self, source: EndpointSource) -> None:
        self.source = source

    def write(self, messages: Sequence[Message], *, name: str, count: int, seed: int) -> list[Choice]:
        """Raises `EndpointError` that names the solution; a call ends within the source's own limit on time."""
        try:
            return self.source.complete(messages, count=count, seed=seed)
        except EndpointError as error:
            message = f"solution {name}: {error}"
            raise EndpointError(
                message, permanent=error.permanent, detail=error.detail, retry_after_s=error.retry_after_s
            ) from error


class LocalWriter:
    """A transformers model in this process. Its answer is made to begin with `opening`, as the ThinkPRM card does."""

    parallel = 1

    def __init__(
        self, model: Any, tokenizer: Any, adapter: Adapter, *, opening: str = OPENING, temperature: float = 0.6
    ) -> None:

        self.model, self.tokenizer, self.adapter = model.eval(), tokenizer, adapter
        self.opening, self.temperature = opening, temperature
        self.control = control_tokens(tokenizer)

    @classmethod
    def load(
        cls,
        path: str | Path,
        adapter: Adapter,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **more: Any,
    ) -> LocalWriter:
        """Raises `CheckpointError` where the folder does not load."""
        import torch
        from transformers import AutoModelForCausalLM

        from prm_backend.adapters.implicit import tokenizer_as_saved
        from prm_backend.adapters.loaders import UNREADABLE

        revision = adapter.revision or None
        try:
            tokenizer = tokenizer_as_saved(path, revision)
            model: Any = AutoModelForCausalLM.from_pretrained(
                path, revision=revision, dtype=dtype or "auto", trust_remote_code=False
            )
        except UNREADABLE as error:
            raise CheckpointError(f"{path}: does not load as a causal language model ({error})") from error
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(model.to(device=where), tokenizer, adapter, **more)

    def write(self, messages: Sequence[Message], *, name: str, count: int, seed: int) -> list[Choice]:
        """Raises `SolutionTooLong` where the question leaves no room for a critique. At temperature 0 all critiques
        would be the same, so one is written."""
        import torch
        from transformers import GenerationConfig

        from prm_backend.encoding import SolutionTooLong

        text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        asked = self.tokenizer(text + self.opening, add_special_tokens=False, return_tensors="pt").to(self.model.device)
        size, room = asked["input_ids"].shape[1], self.adapter.max_tokens - self.adapter.max_new_tokens
        if size > room:
            raise SolutionTooLong(f"solution {name}: {size} tokens, but at most {room} leave room for the critique")
        ends = self.model.generation_config.eos_token_id or self.tokenizer.eos_token_id
        stops = ends if isinstance(ends, list) else [ends]
        sampled = {"temperature": self.temperature, "top_p": 1.0, "top_k": 0, "num_return_sequences": count}
        config = GenerationConfig(
            max_new_tokens=self.adapter.max_new_tokens,
            do_sample=self.temperature > 0,
            eos_token_id=stops,
            pad_token_id=stops[0],
            **(sampled if self.temperature > 0 else {}),
        )
        device = self.model.device
        with torch.inference_mode(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            written = self.model.generate(**asked, generation_config=config)[:, size:].tolist()
        return [self._choice(ids, stops) for ids in written]

    def _choice(self, ids: list[int], stops: list[int]) -> Choice:
        end = next((place for place, token in enumerate(ids) if token in stops), None)
        return Choice(self.tokenizer.decode(ids[:end], skip_special_tokens=True), cut=end is None)
