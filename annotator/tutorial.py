"""The tutorial's sample items, as the labeling page takes them, with what the tutorial says about each answer.

Plain data: nothing is read from the database, nothing that is answered here is kept. Beside the fields of an item there
are `title`, `intro`, `hints` (what to say about a rating of a completion or a critique, by value, and about the unsure
mark), `says` (by kind of act) and `ends` (by finish reason; "" for any other). `[[undo]]` in a text stands for the key
of that act.
"""

from __future__ import annotations

from typing import Any, TypedDict

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Text = str | Promise


class Hint(TypedDict, total=False):
    """Names one completion or one critique of the item by its id."""

    completion: int
    critique: int
    text_by_value: dict[str, Text]
    text_flagged: Text


def tutorial_items(phase: int) -> list[dict[str, Any]]:
    """The samples of a protocol, in order, in the language that is active."""
    items = [_rectangle(), _multiples(), _balls()] if phase == 2 else [_odd_numbers()]
    return [_spoken(item) for item in items]


def _spoken(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _spoken(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_spoken(inner) for inner in value]
    return str(value) if isinstance(value, Promise) else value


def _hint(completion: int, bad: Text, neutral: Text, good: Text, **more: Text) -> Hint:
    return {"completion": completion, "text_by_value": {"-1": bad, "0": neutral, "1": good}, **more}  # type: ignore[typeddict-item]  # the one key of `more` is text_flagged


def _completion(number: int, parent: int | None, step: int, text: Text, index: int = 0) -> dict[str, Any]:
    return {
        "id": number,
        "parent": parent,
        "step": step,
        "index": index,
        "text": text,
        "own": False,
        "draw": index / 10,
    }


def _path(*texts: Text) -> list[dict[str, Any]]:
    """Completions 1, 2, … of a ready solution."""
    return [_completion(step + 1, step or None, step, text) for step, text in enumerate(texts)]


def _item(name: str, phase: int, problem: Text, answer: str, completions: list[dict[str, Any]]) -> dict[str, Any]:
    follow_up = "optional" if name == "multiples" else "off"
    return {
        "assignment": f"tutorial-{name}",
        "lease_until": None,
        "ahead": False,
        "state": "active",
        "revision": 0,
        "protocol": {
            "phase": phase,
            "scope": "whole",
            "always_grid": False,
            "continue_by": "labeler",
            "candidates": 7,
            "source": "imported",
            "progress": follow_up,
            "critiques": follow_up,
            "alternatives": follow_up,
        },
        "problem": {
            "text": problem,
            "reference_answer": answer,
            "answer_differs": name == "multiples",
            "attachments": [],
        },
        "completions": completions,
        "targets": None,
        "critiques": [],
        "waiting": [],
        "acts": [],
        "active_ms": 0,
        "wall_ms": 0,
    }


def _rectangle() -> dict[str, Any]:
    """A right solution with a step that does not advance it."""
    problem = _("A rectangle is 3 cm longer than it is wide, and its perimeter is 26 cm. How many cm² is its area?")
    steps = _path(
        _("Let $w$ be the width in centimetres. Then the length is $w + 3$."),
        _("The perimeter is $2(w + w + 3) = 4w + 6$."),
        _("We are asked for the area, so it is important to keep in mind what the area of a rectangle is."),
        _("From $4w + 6 = 26$ we get $w = 5$, so the sides are $5$ and $8$."),
        _("The area is $5 \\cdot 8 = 40$.\n\n# Answer\n\n40"),
    )
    hints = [
        _hint(
            1,
            _("Nothing is wrong here: naming the width and the length is a good start. [[undo]] takes a rating back."),
            _("It is more than neutral: with these names the problem can be written down as an equation."),
            _("Right, and it brings the solution forward: that is what “good” means."),
        ),
        _hint(
            2,
            _("Count again: two widths and two lengths are $2w + 2(w + 3) = 4w + 6$. The step is right."),
            _("It advances the solution: this is the equation's left side. “Good” fits better."),
            _("Right: $2w + 2(w + 3) = 4w + 6$."),
        ),
        _hint(
            3,
            _("It says nothing wrong. “Bad” is for steps that are wrong, senseless, or cannot be checked."),
            _("Just so: nothing wrong, and nothing gained. Such a step is neutral, and the solution goes on."),
            _("It is not wrong, but what do we know now that we did not know before? Nothing: it is neutral."),
        ),
        _hint(
            4,
            _("$4w = 20$ gives $w = 5$, and the length is $5 + 3 = 8$. The step is right."),
            _("This is the heart of the solution: right, and a step forward. “Good” fits better."),
            _("Right. Check such a line by putting $w = 5$ back: $4 \\cdot 5 + 6 = 26$."),
        ),
        _hint(
            5,
            _("The answer follows from the sides, and agrees with the reference answer. Nothing is wrong."),
            _("A last step that gives the right answer for right reasons is good."),
            _("All steps are rated and none is bad, so the solution ends as right. [[submit]] submits it."),
        ),
    ]
    return _item("rectangle", 2, problem, "40", steps) | {
        "title": _("A right solution"),
        "intro": _(
            "Read the problem, then the first step. Is it bad ([[bad]]), neutral ([[neutral]]) or good ([[good]])?"
        ),
        "hints": hints,
        "says": {"undo": _("Taken back. Every act can be taken back, one by one.")},
        "ends": {
            "solution": _("A right solution to the end. You never had to solve the problem yourself."),
            "found_error": _(
                "You have ended it at a bad step, but this solution is right. Have another look in the next."
            ),
            "": _("This is how an item is left. This one could have been judged: all of its steps are right."),
        },
    }


def _multiples() -> dict[str, Any]:
    """An error in the middle, with critiques and alternatives."""
    problem = _("How many positive integers less than 100 are divisible by 6 or by 8?")
    steps = _path(
        _("Below $100$ there are $\\lfloor 99/6 \\rfloor = 16$ multiples of $6$."),
        _("There are $\\lfloor 99/8 \\rfloor = 12$ multiples of $8$."),
        _("Both divide it when $6 \\cdot 8 = 48$ does. So $\\lfloor 99/48 \\rfloor = 2$ integers are counted twice."),
        _("Together that makes $16 + 12 - 2 = 26$."),
        _("So there are $26$ such integers.\n\n# Answer\n\n26"),
    )
    look_again = _("Look again: both $6$ and $8$ divide $24$, but $48$ does not. [[undo]] takes the rating back.")
    look_above = _("There is an error in the step above. Go up ([[up]]) and correct its rating: what follows is cut.")
    find_it = _("The reference answer is 24. Go up ([[up]]) and look for the step where the two part.")
    alternatives = [
        _completion(
            6,
            2,
            2,
            _("Both divide it when $24$ does. So $\\lfloor 99/24 \\rfloor = 4$ integers are counted twice."),
            1,
        ),
        _completion(7, 2, 2, _("Some integers are divisible by both $6$ and $8$."), 2),
    ]
    hints = [
        _hint(
            1,
            _("$16 \\cdot 6 = 96$ is the last multiple below $100$, so there are $16$. The step is right."),
            _("It is one of the two counts that are needed: good."),
            _("Right: $6, 12, \\ldots, 96$."),
        ),
        _hint(
            2,
            _("$12 \\cdot 8 = 96$ is the last multiple below $100$, so there are $12$. The step is right."),
            _("It is the other count that is needed: good."),
            _("Right: $8, 16, \\ldots, 96$."),
        ),
        _hint(
            3,
            _(
                "Found: both divide $24$, but $48$ does not. What follows fades: after the first bad step nothing is "
                "rated. Now say how far the solution had come, or press [[submit]] to go past a panel."
            ),
            look_again,
            look_again,
        ),
        _hint(
            4,
            _("The sum itself is right; the error is in the step above. Go up ([[up]]) and rate that step bad."),
            look_above,
            look_above,
        ),
        _hint(
            5,
            _("The answer is wrong, but the first bad step comes earlier. Go up ([[up]]) to the third step."),
            find_it,
            find_it,
        ),
        _hint(
            6,
            _("It is right: $24$ is the least common multiple of $6$ and $8$, and $4 \\cdot 24 = 96$."),
            _("It is right and brings the solution forward: good."),
            _("Right: $24, 48, 72, 96$."),
        ),
        _hint(
            7,
            _("It is true, so not bad. It only does not say how many."),
            _("True, and no step forward: neutral."),
            _("True, but it does not say how many: neutral."),
        ),
    ]
    critiques: list[Hint] = [
        {
            "critique": 1,
            "text_by_value": {
                "-1": _("It names the mistake exactly: the least common multiple is $24$."),
                "0": _("It names the mistake exactly: the least common multiple is $24$. It is good."),
                "1": _("Yes, this is the mistake."),
            },
        },
        {
            "critique": 2,
            "text_by_value": {
                "-1": _("Indeed: $8 \\cdot 13 = 104$ is beyond $100$. The critique is wrong."),
                "0": _("$8 \\cdot 13 = 104$ is beyond $100$, so the critique is wrong: bad."),
                "1": _("$8 \\cdot 13 = 104$ is beyond $100$, so the critique is wrong: bad."),
            },
        },
    ]
    return _item("multiples", 2, problem, "24", [*steps, *alternatives]) | {
        "critiques": [
            {
                "id": 1,
                "completion": 3,
                "text": _("An integer is divisible by both 6 and 8 when it is divisible by 24, not only by 48."),
            },
            {"id": 2, "completion": 3, "text": _("There are 13 multiples of 8 below 100, not 12.")},
        ],
        "title": _("The first bad step"),
        "intro": _("This solution's answer differs from the reference answer. Rate the steps until the first bad one."),
        "hints": [*hints, *critiques],
        "says": {
            "progress": _("Both counts were right, so it had come a good way. Your rough impression is enough here."),
            "own_critique": _("Your own words on the mistake are kept with the rating."),
            "undo": _("Taken back. After a slip on “bad”, this brings the later ratings back, too."),
        },
        "ends": {
            "found_error": _("Ended at the first bad step. Nobody asks about the steps that build on it."),
            "solution": _(
                "One step was wrong: 24 is divisible by both 6 and 8, but not by 48. The answer is 24, not 26."
            ),
            "": _("This is how an item is left. Here the third step was bad: the least common multiple is 24."),
        },
    }


def _balls() -> dict[str, Any]:
    """A case for the unsure mark."""
    problem = _(
        "A bag holds 4 red and 6 blue balls. Two are drawn without looking. How likely is it that both have one colour?"
    )
    steps = _path(
        _("We assume that the first ball is not put back."),
        _("Then there are $\\binom{10}{2} = 45$ equally likely pairs."),
        _("Of these, $\\binom{4}{2} + \\binom{6}{2} = 6 + 15 = 21$ have one colour."),
        _("The probability is $\\frac{21}{45} = \\frac{7}{15}$.\n\n# Answer\n\n$\\frac{7}{15}$"),
    )
    hints = [
        _hint(
            1,
            _("It is the natural reading, so it is not bad. If the guideline leaves you in doubt, press [[unsure]]."),
            _("That can be argued: it only says how the problem is read. If in doubt, go up and press [[unsure]]."),
            _("That can be argued: it settles what the problem leaves open. If in doubt, go up and press [[unsure]]."),
            text_flagged=_("Marked unsure: your rating counts, and a manager sees that the guideline was no help."),
        ),
        _hint(
            2,
            _("$\\binom{10}{2} = \\frac{10 \\cdot 9}{2} = 45$. The step is right."),
            _("It is needed and right: good."),
            _("Right: $\\frac{10 \\cdot 9}{2} = 45$."),
        ),
        _hint(
            3,
            _("$\\binom{4}{2} = 6$ red pairs and $\\binom{6}{2} = 15$ blue ones. The step is right."),
            _("It is needed and right: good."),
            _("Right: $6$ red pairs and $15$ blue ones."),
        ),
        _hint(
            4,
            _("$21$ and $45$ share the factor $3$, so $\\frac{21}{45} = \\frac{7}{15}$. The step is right."),
            _("A last step that gives the right answer for right reasons is good."),
            _("Right. [[submit]] submits the solution."),
        ),
    ]
    return _item("balls", 2, problem, "$\\frac{7}{15}$", steps) | {
        "title": _("When you are not sure"),
        "intro": _(
            "The problem does not say whether the first ball is put back. Where the guideline does not help you, rate "
            "as you think best and press [[unsure]]: it marks the step as unsure."
        ),
        "hints": hints,
        "says": {"undo": _("Taken back.")},
        "ends": {
            "solution": _(
                "That was the last sample. Guideline ([[guideline]]) and keys ([[keys]]) are always one key away."
            ),
            "": _(
                "That was the last sample. Giving up is no shame: where you cannot judge, say so, and the item goes to "
                "somebody else."
            ),
        },
    }


def _odd_numbers() -> dict[str, Any]:
    """Phase 1: a neutral first candidate, two good ones among the others, two bad ones."""
    problem = _("What is the sum of the first 20 odd positive integers?")
    tree = [
        _completion(1, None, 0, _("We could write down all twenty integers and add them up."), 0),
        _completion(2, None, 0, _("The $n$-th odd positive integer is $2n - 1$, so the last one is $39$."), 1),
        _completion(3, None, 0, _("The first $20$ odd positive integers are $1, 3, 5, \\ldots, 41$."), 2),
        _completion(
            4, None, 0, _("From both ends, $1 + 39$, $3 + 37$ and so on: these are ten pairs with the sum $40$."), 3
        ),
        _completion(5, 1, 1, _("The sum $1 + 3 + \\cdots + 39$ is $400$.\n\n# Answer\n\n400"), 0),
        _completion(
            6,
            2,
            1,
            _("They are evenly spaced, so the sum is $20 \\cdot \\frac{1 + 39}{2} = 400$.\n\n# Answer\n\n400"),
            0,
        ),
        _completion(7, 4, 1, _("Ten pairs with the sum $40$ make $400$.\n\n# Answer\n\n400"), 0),
    ]
    final = (
        _("The sum is $400$ and follows from the step before. Nothing is wrong."),
        _("A last step that gives the right answer for right reasons is good."),
        _("Right, and with the answer the solution is complete. [[submit]] submits it."),
    )
    hints = [
        _hint(
            1,
            _("It would work, so it is not bad: it only leads nowhere yet. More candidates have come; rate them all."),
            _("True, but no step forward: neutral. That opens more candidates; rate them all."),
            _(
                "It does not bring the solution forward. As it is good in your eyes, the solution goes on from it; "
                "[[undo]] takes that back."
            ),
        ),
        _hint(
            2,
            _("$2 \\cdot 20 - 1 = 39$ is indeed the twentieth. The candidate is right."),
            _("The last summand is needed for the sum: good."),
            _("Right: $2 \\cdot 20 - 1 = 39$."),
        ),
        _hint(
            3,
            _("Yes: $41$ is the twenty-first. The twentieth is $39$."),
            _("$41$ is the twenty-first odd integer, so it is wrong: bad."),
            _("$41$ is the twenty-first odd integer, so it is wrong: bad."),
        ),
        _hint(
            4,
            _("Twenty integers make ten pairs, and each has the sum $40$. The candidate is right."),
            _("It all but solves the problem: good."),
            _("Right. Where several candidates are good, you choose the one that the solution goes on from."),
        ),
        _hint(
            5,
            _("$400$ is right, but how it came about is not said. Where you could not check a jump, it is bad."),
            _("$400$ is right, but how it came about is not said."),
            final[2],
        ),
        _hint(6, *final),
        _hint(7, *final),
    ]
    return _item("odd-numbers", 1, problem, "400", tree) | {
        "title": _("Choosing the next step"),
        "intro": _(
            "You build the solution from candidate steps. One is shown first: a good one goes on at once, any other "
            "opens more candidates."
        ),
        "hints": hints,
        "says": {
            "choose": _("The solution goes on from here."),
            "write": _(
                "Your own step is now part of the solution. In real work new candidates may follow it; here, go on "
                "writing and end with a line “# Answer” and the answer, or take it back with [[undo]]."
            ),
            "undo": _("Taken back. The candidates are there again."),
        },
        "ends": {
            "solution": _("A complete solution. Where no candidate is good, you write the next step yourself."),
            "": _("This is how an item is left: it goes to somebody else."),
        },
    }
