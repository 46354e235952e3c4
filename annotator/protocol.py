"""What may be said of one solution, in which order, and what follows from it: PRM800K's two phases and targeted
labeling as one pure reducer over acts (docs/decisions/0009). `static/js/label/protocol.js` is the same reducer for the
page, and a test holds the two together.

An act that does not fit raises a `Refusal` and changes nothing. After every act what can no longer be reached is
pruned: a − cuts what follows it, a choice that is changed cuts the branch. Undo takes the last act out of the fold, so
everything it had cut comes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

from annotator.errors import Conflict, Invalid
from annotator.models.problem import ends_with_answer

FollowUp = Literal["off", "optional", "required"]
# A completion's primary key; for a step that the labeler wrote, the client id of its act; None is the root.
Node = int | str | None

ALTERNATIVES_SHOWN = 7
NOT_NEEDED = "A step of one's own is for where no candidate is good."
PROGRESS_SCALE = (0, 1, 2, 3)


@dataclass(frozen=True, slots=True)
class Act:
    """One act of a labeler. Times are milliseconds since the act before."""

    client_id: str
    kind: str
    completion: int | None = None
    critique: int | None = None
    value: int | None = None
    flagged: bool = False
    text: str = ""
    undoes: str | None = None
    active_ms: int = 0
    wall_ms: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A completion that may be shown. `draw` in [0, 1) orders the seeded draw among several + candidates."""

    id: int
    draw: float = 0.0
    is_final: bool = False


@dataclass(frozen=True)
class Item:
    """What is asked of the labeler: the rules and the tree. `children` holds the model's completions that follow a
    node, in order; in phase 2 the first of them is the ready solution's own step. `critiques` are offered for a
    completion."""

    phase: int
    children: Mapping[Node, Sequence[Candidate]]
    critiques: Mapping[int, Sequence[int]] = field(default_factory=dict)
    targets: tuple[int, ...] | None = None
    always_grid: bool = False
    continue_by_draw: bool = False
    candidates_shown: int = 7
    ask_progress: FollowUp = "off"
    ask_critiques: FollowUp = "off"
    ask_alternatives: FollowUp = "off"

    @cached_property
    def path(self) -> tuple[int, ...]:
        """The ready solution's completions, step by step."""
        steps: list[int] = []
        node: Node = None
        while following := self.children.get(node):
            node = following[0].id
            steps.append(node)
        return tuple(steps)

    @cached_property
    def step_of(self) -> dict[int, int]:
        return {completion: step for step, completion in enumerate(self.path)}

    def alternatives(self, step: int) -> tuple[int, ...]:
        """The other completions of a step of the ready solution."""
        parent = self.path[step - 1] if step else None
        return tuple(candidate.id for candidate in self.children[parent][1 : 1 + ALTERNATIVES_SHOWN])

    def first_error(self, said: Said) -> int | None:
        """The first step of the ready solution that is rated −."""
        bad = [self.step_of[key] for key, rated in said.ratings.items() if rated.value == -1 and key in self.step_of]
        return min(bad, default=None)


@dataclass(frozen=True, slots=True)
class Rated:
    value: int
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What the labeler has said so far. `written` holds own steps (step index to client id), `texts` their words."""

    ratings: Mapping[int, Rated] = field(default_factory=dict)
    choices: Mapping[int, int] = field(default_factory=dict)
    written: Mapping[int, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    progress: int | None = None
    critiques: Mapping[int, int] = field(default_factory=dict)
    own_critique: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a phase 1 walk: the candidates shown there, the node that continues, else what is `missing`."""

    step: int
    shown: tuple[Candidate, ...]
    next: Node = None
    missing: Literal["", "ratings", "choice", "own_step"] = ""
    is_final: bool = False


class Fold:
    """Acts folded one by one. `said` is the state after those so far; undo goes back to the state before."""

    def __init__(self, item: Item) -> None:
        self.item = item
        self._history: list[tuple[str, Said]] = [("", Said())]

    @property
    def said(self) -> Said:
        return self._history[-1][1]

    def add(self, act: Act) -> None:
        """Raises `Invalid` or `Conflict` for an act that does not fit."""
        if act.kind != "undo":
            self._history.append((act.client_id, apply(self.item, self.said, act)))
        elif len(self._history) == 1 or self._history[-1][0] != act.undoes:
            raise Conflict("not_last", "Only the last act can be taken back.")
        else:
            self._history.pop()


def fold(item: Item, acts: Iterable[Act]) -> Said:
    """The state after all acts, oldest first. Raises `Invalid` or `Conflict` at the first act that does not fit."""
    folded = Fold(item)
    for act in acts:
        folded.add(act)
    return folded.said


def apply(item: Item, said: Said, act: Act) -> Said:
    """The state after one act that is no undo."""
    if act.kind == "rate":
        return _rate(item, said, act)
    if act.kind in ("choose", "write"):
        if item.phase != 1:
            raise Conflict("not_needed", "In phase 2 the steps are given.")
        return _choose(item, said, act) if act.kind == "choose" else _write(item, said, act)
    if act.kind in ("progress", "critique", "own_critique"):
        return _follow_up(item, said, act)
    raise Invalid("unknown_act", f"There is no act called {act.kind}.")


def finish_reason(item: Item, said: Said) -> str | None:
    """`found_error` or `solution`; blank where all that was asked in targeted labeling is judged; None while something
    is missing (see `missing`)."""
    if missing(item, said):
        return None
    if item.phase == 1:
        return "solution"
    if any(rated.value == -1 for rated in said.ratings.values()):
        return "found_error"
    return "solution" if item.targets is None else ""


def missing(item: Item, said: Said) -> list[str]:
    """What is still to be done, in the order in which it is asked."""
    if item.phase == 1:
        last = walk(item, said)[-1]
        return [] if last.is_final else [last.missing]
    error = item.first_error(said)
    if error is None:
        return [] if _first_unrated(item, said) is None else ["ratings"]
    return _missing_follow_ups(item, said, error) if item.targets is None else []


def walk(item: Item, said: Said) -> list[Stage]:
    """Phase 1: the stages from the first step to the final answer, or to where something is missing. Never empty."""
    stages: list[Stage] = []
    node: Node = None
    while not stages or (stages[-1].next is not None and not stages[-1].is_final):
        stages.append(_stage(item, said, node, len(stages)))
        node = stages[-1].next
    return stages


def may_write(item: Item, said: Said) -> bool:
    """Whether the labeler is to write a step now: no candidate of the step reached is good, or there are none."""
    return item.phase == 1 and walk(item, said)[-1].missing == "own_step"


def _stage(item: Item, said: Said, node: Node, step: int) -> Stage:
    shown = _shown(item, said, node, step)
    if any(candidate.id not in said.ratings for candidate in shown):
        return Stage(step, shown, missing="ratings")
    good = [candidate for candidate in shown if said.ratings[candidate.id].value == 1]
    if not good:
        own = said.written.get(step)
        if own is None:
            return Stage(step, shown, missing="own_step")
        return Stage(step, shown, next=own, is_final=ends_with_answer(said.texts[own]))
    chosen = next((candidate for candidate in good if candidate.id == said.choices.get(step)), None)
    if chosen is None and (len(good) == 1 or item.continue_by_draw):
        chosen = min(good, key=lambda candidate: (candidate.draw, candidate.id))
    if chosen is None:
        return Stage(step, shown, missing="choice")
    return Stage(step, shown, next=chosen.id, is_final=chosen.is_final)


def _shown(item: Item, said: Said, node: Node, step: int) -> tuple[Candidate, ...]:
    """The first candidate; the others once it is rated 0 or −, or one of them has been rated."""
    candidates = tuple(item.children.get(node, ()))[: item.candidates_shown]
    rated = [candidate for candidate in candidates if candidate.id in said.ratings]
    if step in said.written and not rated:
        return ()  # written before candidates came: they change nothing any more
    opened = any(candidate.id != candidates[0].id or said.ratings[candidate.id].value != 1 for candidate in rated)
    return candidates if item.always_grid or opened else candidates[:1]


# --- Acts ------------------------------------------------------------------------------------------------------------


def _rate(item: Item, said: Said, act: Act) -> Said:
    if act.value not in (-1, 0, 1, None):
        raise Invalid("bad_rating", f"A rating is -1, 0, 1 or none, not {act.value!r}.")
    assert act.completion is not None, "the API asks for it"
    if item.phase == 1:
        return _rate_candidate(item, said, act, act.completion)
    step = item.step_of.get(act.completion)
    if step is None:
        return _rate_alternative(item, said, act, act.completion)
    if item.targets is not None and step not in item.targets:
        _check_context_step(item, said, step, act.value)
    elif act.value is not None:
        _check_order(item, said, step)
    return _prune_ready(item, replace(said, ratings=_with(said, act.completion, act)), item.first_error(said))


def _with(said: Said, completion: int, act: Act) -> dict[int, Rated]:
    rest = {key: rated for key, rated in said.ratings.items() if key != completion}
    return rest if act.value is None else rest | {completion: Rated(act.value, act.flagged)}


def _first_unrated(item: Item, said: Said) -> int | None:
    asked = range(len(item.path)) if item.targets is None else item.targets
    return next((step for step in asked if item.path[step] not in said.ratings), None)


def _check_not_after_error(item: Item, said: Said, step: int) -> None:
    error = item.first_error(said)
    if error is not None and error < step:
        raise Conflict("after_first_error", f"Step {error + 1} is rated −: the steps after it stay unrated.")


def _check_order(item: Item, said: Said, step: int) -> None:
    """A step is judged after all that are asked before it, and not after a −."""
    _check_not_after_error(item, said, step)
    unrated = _first_unrated(item, said)
    if unrated is not None and unrated < step:
        raise Conflict("step_skipped", f"Step {unrated + 1} comes before step {step + 1} and is not rated yet.")


def _check_context_step(item: Item, said: Said, step: int, value: int | None) -> None:
    """A step that is not asked may only be said to be wrong, and only if it lies before the one in question."""
    assert item.targets is not None
    unrated = _first_unrated(item, said)
    current = item.targets[-1] if unrated is None else unrated
    if value in (0, 1) or step > current:
        raise Conflict("not_a_target", f"Step {step + 1} is not asked; an earlier step can only be said to be wrong.")
    if value is not None:
        _check_not_after_error(item, said, step)


def _rate_alternative(item: Item, said: Said, act: Act, completion: int) -> Said:
    place = next((step for step in range(len(item.path)) if completion in item.alternatives(step)), None)
    if place is None:
        raise Invalid("unknown_completion", f"Completion {completion} is not a step of this solution.")
    if item.ask_alternatives == "off" or item.targets is not None:
        raise Conflict("follow_up_off", "This campaign does not ask for alternative steps.")
    if item.first_error(said) != place:
        raise Conflict("no_error", f"Alternatives of step {place + 1} are rated after it is rated −.")
    return replace(said, ratings=_with(said, completion, act))


def _rate_candidate(item: Item, said: Said, act: Act, completion: int) -> Said:
    stage = next((stage for stage in walk(item, said) if completion in [c.id for c in stage.shown]), None)
    if stage is None:
        if any(completion == candidate.id for known in item.children.values() for candidate in known):
            raise Conflict("not_shown", "This candidate is not shown yet.")
        raise Invalid("unknown_completion", f"Completion {completion} is not a candidate of this solution.")
    after = replace(said, ratings=_with(said, completion, act))
    if stage.step in after.written:
        without = replace(after, written={step: own for step, own in after.written.items() if step != stage.step})
        if walk(item, without)[stage.step].missing != "own_step":
            after = without
    return _prune_walk(item, after)


def _choose(item: Item, said: Said, act: Act) -> Said:
    if item.continue_by_draw:
        raise Conflict("not_needed", "In this campaign a draw chooses what continues.")
    for stage in walk(item, said):
        good = _good(said, stage)
        if act.completion in good and len(good) > 1 and stage.missing in ("", "choice"):
            assert act.completion is not None
            return _prune_walk(item, replace(said, choices={**said.choices, stage.step: act.completion}))
    raise Conflict("not_a_choice", "Only one of several candidates rated + can be chosen to continue.")


def _write(item: Item, said: Said, act: Act) -> Said:
    last = walk(item, said)[-1]
    if not act.text.strip():
        if not said.written:
            raise Invalid("text_missing", "Write the step.")
        deepest = max(said.written)
        return _prune_walk(item, replace(said, written={s: own for s, own in said.written.items() if s != deepest}))
    # Candidates that nobody has rated may have come after the step was written: `may_write` is for new steps.
    rated = any(candidate.id in said.ratings for candidate in last.shown)
    if last.missing != "own_step" and (rated or last.missing != "ratings"):
        raise Conflict("not_needed", NOT_NEEDED)
    return replace(
        said,
        written={**said.written, last.step: act.client_id},
        texts={**said.texts, act.client_id: act.text},
    )


def _follow_up(item: Item, said: Said, act: Act) -> Said:
    asked = item.ask_progress if act.kind == "progress" else item.ask_critiques
    if asked == "off" or item.phase != 2 or item.targets is not None:
        raise Conflict("follow_up_off", "This campaign does not ask for it.")
    error = item.first_error(said)
    if error is None:
        raise Conflict("no_error", "This is asked after the first −.")
    if act.kind == "own_critique":
        return replace(said, own_critique=act.text.strip())
    if act.kind == "progress":
        if act.value is not None and act.value not in PROGRESS_SCALE:
            raise Invalid("bad_rating", f"Progress is 0, 1, 2, 3 or none, not {act.value!r}.")
        return replace(said, progress=act.value)
    if act.value not in (-1, 0, 1, None):
        raise Invalid("bad_rating", f"A rating is -1, 0, 1 or none, not {act.value!r}.")
    if act.critique is None or act.critique not in item.critiques.get(item.path[error], ()):
        raise Invalid("unknown_critique", f"Critique {act.critique} is not offered for step {error + 1}.")
    rest = {key: value for key, value in said.critiques.items() if key != act.critique}
    return replace(said, critiques=rest if act.value is None else rest | {act.critique: act.value})


# --- What can no longer be reached ---------------------------------------------------------------------------------


def _prune_ready(item: Item, said: Said, error_before: int | None) -> Said:
    """Ratings end at the first − or before the first step that is asked and unrated; follow-ups belong to one error."""
    unrated = _first_unrated(item, said)
    error = item.first_error(said)
    if error is not None and unrated is not None and unrated < error:
        error = None
    end = error if error is not None else len(item.path) if unrated is None else unrated
    kept = set(item.path[: end + 1])
    if error is None or error != error_before:
        return Said(ratings={key: rated for key, rated in said.ratings.items() if key in kept})
    kept.update(item.alternatives(error))
    return replace(said, ratings={key: rated for key, rated in said.ratings.items() if key in kept})


def _prune_walk(item: Item, said: Said) -> Said:
    stages = walk(item, said)
    shown = {candidate.id for stage in stages for candidate in stage.shown}
    several = {stage.step: good for stage in stages if len(good := _good(said, stage)) > 1}
    written = {stage.step: stage.next for stage in stages if isinstance(stage.next, str)}
    return Said(
        ratings={key: rated for key, rated in said.ratings.items() if key in shown},
        choices={step: key for step, key in said.choices.items() if key in several.get(step, ())},
        written=written,
        texts={own: said.texts[own] for own in written.values()},
    )


def _good(said: Said, stage: Stage) -> list[int]:
    return [c.id for c in stage.shown if c.id in said.ratings and said.ratings[c.id].value == 1]


def _missing_follow_ups(item: Item, said: Said, error: int) -> list[str]:
    offered = item.critiques.get(item.path[error], ())
    agreed = said.own_critique or any(value == 1 for value in said.critiques.values())
    open_questions = {
        "progress": item.ask_progress == "required" and said.progress is None,
        "critiques": item.ask_critiques == "required"
        and bool(offered)
        and not (agreed and all(critique in said.critiques for critique in offered)),
        "alternatives": item.ask_alternatives == "required"
        and any(alternative not in said.ratings for alternative in item.alternatives(error)),
    }
    return [name for name, is_open in open_questions.items() if is_open]
