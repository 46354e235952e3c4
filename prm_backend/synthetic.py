"""Made-up word problems with model-like solutions and labels, for the demo, the tests and the measurements.

A problem tells of one quantity that events change; a solution works through the events, one step each, with neutral
steps between. Some errors are rare (slips, wrong numbers); others are misreadings so common in the pool that a
language model trained on it takes them for normal. Only labels can tell those from right steps, so labels are worth
something here. Light: neither torch nor numpy.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

# fmt: off
PEOPLE = (
    "Ana", "Ben", "Chloe", "Daniel", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Keiko", "Lucas", "Maya",
    "Nikolai", "Olivia", "Pedro", "Quinn", "Rosa", "Samir", "Tara", "Uma", "Victor", "Wanda", "Yusuf", "Zoe", "Amara",
    "Bruno", "Clara", "Dmitri", "Esra",
)
OBJECTS = (
    "apples", "marbles", "stickers", "books", "coins", "shells", "pencils", "cards", "stamps", "cookies", "beads",
    "buttons", "pears", "tickets", "photos", "plums", "flowers", "candles", "ribbons", "stones", "lemons", "badges",
    "magnets", "postcards",
)
# fmt: on
OPENINGS = (
    "{person} has {number} {things}.",
    "{person} starts the week with {number} {things}.",
    "There are {number} {things} on the shelf of {person}.",
    "{person} collected {number} {things} in spring.",
)
QUESTIONS = (
    "How many {things} does {person} have now?",
    "How many {things} does {person} have in the end?",
    "How many {things} are there at the end?",
    "Find the final number of {things}.",
)
ANSWERS = (
    "So {person} has {number} {things}.",
    "The answer is {number} {things}.",
    "In the end {person} has {number} {things}.",
    r"So the answer is $\boxed{{{number}}}$.",
)
RESTATEMENTS = ("We start with {number} {things}.", "At first {person} has {number} {things}.")
STALLS = (
    "Let us read the problem again.",
    "We go through the story one event at a time.",
    "Now we look at the next event.",
    "We are doing well so far.",
)


@dataclass(frozen=True)
class Wording:
    """How one kind of event reads: in the problem, and at the head of the step that works it out."""

    told: tuple[str, ...]
    worked: tuple[str, ...]


WORDINGS = {
    "gain": Wording(
        (
            "{person} finds {n} more {things}.",
            "{friend} gives {person} {n} more.",
            "Then {person} buys {n} new {things}.",
        ),
        ("Adding {n} gives {sums}.", "There are {n} more, so {sums}.", "Now {sums}."),
    ),
    "lose": Wording(
        (
            "{person} gives {n} {things} to {friend}.",
            "Then {n} of the {things} get lost.",
            "{person} sells {n} of them.",
        ),
        ("Taking away {n} gives {sums}.", "There are {n} fewer, so {sums}.", "Now {sums}."),
    ),
    "times": Wording(
        (
            "A week later {person} has {n} times as many {things}.",
            "By summer the number of {things} is {n} times as large.",
        ),
        ("There are {n} times as many, so {sums}.", "It becomes {n} times the number: {sums}."),
    ),
    "half": Wording(
        ("Half of the {things} go to {friend}.", "{person} sells half of the {things}.", "Then half of them break."),
        ("Half of them go, so {sums}.", "Only half is left: {sums}."),
    ),
    "percent": Wording(
        ("Then {n} percent of the {things} are sold.", "{person} gives {n} percent of the {things} to {friend}."),
        ("We take the part away: {sums}.", "Here {sums}."),
    ),
    "bags": Wording(
        ("{friend} brings {m} bags with {n} {things} each.", "{person} opens {m} boxes of {n} {things}."),
        ("We count what comes: {sums}.", "Here {sums}."),
    ),
}
MISREADABLE = ("times", "half", "percent", "bags")
KINDS = (*MISREADABLE, "gain", "lose")
LARGEST = 60
# The share of times that each make-believe model misreads an event that can be misread.
GENERATORS = {"finch-small": 0.58, "finch-base": 0.48, "finch-large": 0.38}
WRONG_OTHERWISE = 0.3
ERRORS = {"slip": 4, "wrong_operation": 3, "wrong_number": 3, "left_out_event": 3, "two_errors": 1, "wrong_answer": 1}

# What a critic would say of each kind of error.
CRITIQUES = {
    "misread_times": "“Times as many” multiplies; here it was added.",
    "misread_half": "Half of them is not two of them.",
    "misread_percent": "The percentage was taken for a number of things.",
    "misread_bags": "Every bag holds that many; the number of bags has to be multiplied in.",
    "slip": "The operation is right, but its result is miscalculated.",
    "wrong_operation": "It adds where the story takes away, or the other way round.",
    "wrong_number": "This number does not stand in the story.",
    "left_out_event": "Something that happened before this was left out.",
    "two_errors": "The result is off by a little: it is miscalculated.",
    "wrong_answer": "The steps before lead to another number.",
}


@dataclass(frozen=True)
class Event:
    """`n` is the number told; `m` the count of bags (0 elsewhere)."""

    kind: str
    n: int
    m: int
    wording: int
    friend: str


@dataclass(frozen=True)
class Story:
    person: str
    things: str
    start: int
    events: tuple[Event, ...]
    opening: int
    question: int

    def text(self) -> str:
        words = {"person": self.person, "things": self.things}
        told = [WORDINGS[e.kind].told[e.wording].format(n=e.n, m=e.m, friend=e.friend, **words) for e in self.events]
        return " ".join(
            [
                OPENINGS[self.opening].format(number=self.start, **words),
                *told,
                QUESTIONS[self.question].format(**words),
            ]
        )

    def answer(self) -> int:
        value = self.start
        for event in self.events:
            value = right_sums(event, value)[1]
        return value


class OutOfRangeError(Exception):
    """A value left the whole numbers from 1 to `LARGEST`; the caller draws again."""


def in_range(value: int) -> int:
    if not 1 <= value <= LARGEST:
        raise OutOfRangeError
    return value


def whole(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(numerator, denominator)
    if rest:
        raise OutOfRangeError
    return quotient


def sums(first: int, sign: str, second: int, result: int) -> str:
    return f"${first} {sign} {second} = {result}$"


def right_sums(event: Event, value: int, *, shift: int = 0) -> tuple[str, int]:
    """The sums of a right reading and their result; `shift` is a slip, added to the result."""
    if event.kind == "bags":
        amount = in_range(event.m * event.n)
        return worked_sums(event, value, amount, lead=sums(event.m, r"\times", event.n, amount), shift=shift)
    if event.kind == "percent":
        return worked_sums(event, value, whole(value * event.n, 100), shift=shift)
    if event.kind == "half":
        whole(value, 2)
    return worked_sums(event, value, event.n, shift=shift)


def misread_sums(event: Event, value: int) -> tuple[str, int]:
    """The common misreading: half as 2 fewer, percent as so many, times as many as so many more, bags as loose ones."""
    if event.kind == "bags":
        amount = event.m + event.n
        return worked_sums(event, value, amount, lead=sums(event.m, "+", event.n, amount))
    return worked_sums(
        replace(event, kind={"times": "gain", "half": "lose"}.get(event.kind, event.kind)), value, event.n
    )


def worked_sums(event: Event, value: int, amount: int, *, lead: str = "", shift: int = 0) -> tuple[str, int]:
    sign, result = {
        "gain": ("+", value + amount),
        "bags": ("+", value + amount),
        "lose": ("-", value - amount),
        "percent": ("-", value - amount),
        "times": (r"\times", value * amount),
        "half": ("/", value // 2),
    }[event.kind]
    if event.kind == "percent":
        lead = f"{event.n} percent of {value} is {amount}"
    result = in_range(result + shift)
    return f"{lead} and {sums(value, sign, amount, result)}" if lead else sums(value, sign, amount, result), result


def draw_event(rng: random.Random, value: int, person: str) -> Event:
    kind = rng.choices(KINDS, weights=(2, 2, 2, 2, 7, 7))[0]
    n = {
        "gain": rng.randint(2, 15),
        "lose": rng.randint(2, 15),
        "times": rng.choice((2, 3, 4)),
        "half": 2,
        "percent": rng.choice((10, 20, 25)),
        "bags": rng.randint(2, 9),
    }[kind]
    friend = rng.choice([name for name in PEOPLE if name != person])
    event = Event(kind, n, rng.randint(2, 5) if kind == "bags" else 0, rng.randrange(len(WORDINGS[kind].told)), friend)
    right_sums(event, value)
    return event


def draw_story(rng: random.Random) -> Story:
    while True:
        person, things, start = rng.choice(PEOPLE), rng.choice(OBJECTS), rng.randint(4, 40)
        events: list[Event] = []
        value = start
        try:
            for _ in range(rng.randint(2, 4)):
                events.append(draw_event(rng, value, person))
                value = right_sums(events[-1], value)[1]
        except OutOfRangeError:
            continue
        return Story(person, things, start, tuple(events), rng.randrange(len(OPENINGS)), rng.randrange(len(QUESTIONS)))


@dataclass
class Draft:
    """A solution being written. `first_error` is its step index, `category` what went wrong there, `asked` the event
    that was to be worked out there (None: the answer was to be said) and the value up to there."""

    steps: list[str]
    neutral: set[int]
    first_error: int | None = None
    category: str | None = None
    asked: tuple[Event | None, int] = (None, 0)
    answer: int = 0

    def blame(self, category: str, event: Event | None, value: int) -> None:
        """The next step to be written is wrong; only the first error counts."""
        if self.first_error is None:
            self.first_error, self.category, self.asked = len(self.steps), category, (event, value)

    def ratings(self) -> list[int | None]:
        judged = len(self.steps) if self.first_error is None else self.first_error
        before: list[int | None] = [0 if index in self.neutral else 1 for index in range(judged)]
        return before if self.first_error is None else [*before, -1, *[None] * (len(self.steps) - judged - 1)]


def spoiled_sums(rng: random.Random, event: Event, value: int, error: str) -> tuple[str, int]:
    """The sums of one step with a rare error."""
    if error == "wrong_operation" and event.kind in ("gain", "lose"):
        other = "lose" if event.kind == "gain" else "gain"
        return right_sums(Event(other, event.n, 0, 0, ""), value)
    if error == "wrong_number" and event.kind in ("gain", "lose", "bags"):
        wrong = rng.choice([n for n in range(2, 16) if n != event.n and abs(n - event.n) < 12])
        return right_sums(Event(event.kind, wrong, event.m, 0, ""), value)
    return right_sums(event, value, shift=rng.choice((-10, -3, -2, -1, 1, 2, 3, 10)))


def write_steps(rng: random.Random, story: Story, misreads: float, error: str | None) -> Draft:
    words = {"person": story.person, "things": story.things}
    draft = Draft([], set())
    value, spoiled, owed = story.start, rng.randrange(len(story.events)), 0
    if rng.random() < 0.5:
        draft.neutral.add(0)
        draft.steps.append(rng.choice(RESTATEMENTS).format(number=value, **words))
    left_out: Event | None = None
    for index, event in enumerate(story.events):
        if rng.random() < 0.12:
            draft.neutral.add(len(draft.steps))
            draft.steps.append(rng.choice(STALLS))
        if index == spoiled and error == "left_out_event":
            left_out = event
            continue
        if left_out:
            draft.blame("left_out_event", left_out, value)
            left_out = None
        if event.kind in MISREADABLE and rng.random() < misreads:
            draft.blame(f"misread_{event.kind}", event, value)
            written, value = misread_sums(event, value)
        elif index == spoiled and error == "two_errors":
            owed = rng.choice((-10, -2, -1, 1, 2, 10))
            draft.blame("two_errors", event, value)
            written, value = right_sums(event, value, shift=owed)
        elif owed and index > spoiled:
            written, value = right_sums(event, value, shift=-owed)
            owed = 0
        elif index == spoiled and error is not None and error != "wrong_answer":
            draft.blame(error, event, value)
            written, value = spoiled_sums(rng, event, value, error)
        else:
            written, value = right_sums(event, value)
        head = rng.choice(WORDINGS[event.kind].worked)
        draft.steps.append(head.format(n=event.n, m=event.m, sums=written))
    if left_out:
        draft.blame("left_out_event", left_out, value)
    if error == "wrong_answer":
        draft.blame("wrong_answer", None, value)
        value = in_range(value + rng.choice((-10, -2, -1, 1, 2, 10)))
    draft.steps.append(rng.choice(ANSWERS).format(number=value, **words))
    draft.answer = value
    return draft


def draw_solution(rng: random.Random, story: Story, misreads: float) -> Draft:
    while True:
        error = None
        if rng.random() < WRONG_OTHERWISE:
            error = rng.choices(list(ERRORS), weights=list(ERRORS.values()))[0]
        try:
            return write_steps(rng, story, misreads, error)
        except OutOfRangeError:
            continue


def other_steps(rng: random.Random, story: Story, draft: Draft) -> list[str]:
    """What could have stood in place of the first error: the right step, and another wrong one where there is one."""
    assert draft.first_error is not None
    event, value = draft.asked
    found: list[str] = []
    for shift in (0, rng.choice((-10, -3, -2, -1, 1, 2, 3, 10))):
        try:
            if event is None:
                wording = {"person": story.person, "things": story.things, "number": in_range(value + shift)}
                found.append(rng.choice(ANSWERS).format(**wording))
            else:
                worked = right_sums(event, value, shift=shift)[0]
                found.append(rng.choice(WORDINGS[event.kind].worked).format(n=event.n, m=event.m, sums=worked))
        except OutOfRangeError:
            continue
    rng.shuffle(found)
    return [text for text in found if text != draft.steps[draft.first_error]]


def critiques_of(rng: random.Random, draft: Draft) -> list[str]:
    """What is wrong with the first error, and something that is not."""
    assert draft.category is not None
    right = CRITIQUES[draft.category]
    found = [right, rng.choice([text for text in CRITIQUES.values() if text != right])]
    rng.shuffle(found)
    return found


def follow_ups(rng: random.Random, story: Story, draft: Draft) -> dict[str, object]:
    """`alternatives` and `critiques` of a row, by step; empty without an error."""
    if draft.first_error is None:
        return {}
    before, after = draft.first_error, len(draft.steps) - draft.first_error - 1
    return {
        "alternatives": [*[None] * before, other_steps(rng, story, draft), *[None] * after],
        "critiques": [*[None] * before, critiques_of(rng, draft), *[None] * after],
    }


def generate_rows(
    *, problems: int = 4000, solutions_per_problem: int = 2, seed: int = 0, with_follow_ups: bool = False
) -> Iterator[dict[str, object]]:
    """Rows of the simple JSONL form, `solutions_per_problem` for each of `problems` distinct problems.

    `ratings` stop at the first error (null after it). The same arguments give the same rows; `with_follow_ups` adds
    alternatives and critiques of the first error and changes nothing else.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible data, nothing secret
    seen: set[str] = set()
    while len(seen) < problems:
        story = draw_story(rng)
        text = story.text()
        if text in seen:
            continue
        seen.add(text)
        for number in range(solutions_per_problem):
            generator = rng.choice(list(GENERATORS))
            draft = draw_solution(rng, story, GENERATORS[generator])
            key = f"generated-{seed}-{len(seen)}-{number}"
            # A generator of its own: what is offered besides does not change what comes after.
            offered = follow_ups(random.Random(key), story, draft) if with_follow_ups else {}  # noqa: S311 - the same
            yield {
                "id": key,
                "source": "generated",
                "problem": text,
                "ground_truth_answer": str(story.answer()),
                "steps": draft.steps,
                "ratings": draft.ratings(),
                "final_answer_correct": draft.answer == story.answer(),
                "generator": generator,
                "label_origin": "generated",
                "error_category": draft.category,
                **offered,
            }
