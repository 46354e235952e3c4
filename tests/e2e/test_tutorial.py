"""The tutorial: sample items that are right in every word, and a box that says what each answer meant."""

from __future__ import annotations

import json
import re
from math import comb
from typing import TYPE_CHECKING, Any

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from annotator.tutorial import tutorial_items
from tests.e2e.modules import ModuleSite

if TYPE_CHECKING:
    from playwright.sync_api import Page

RATINGS = {"-1", "0", "1"}
HOST = """
<footer class="bottom-bar"><div id="bar"><button data-act="bad">bad</button></div></footer>
{box}
<template id="words"></template>
"""


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("phase", [1, 2])
def test_samples_are_plain_data_in_the_form_of_the_api(phase: int) -> None:
    items = tutorial_items(phase)
    assert json.loads(json.dumps(items)) == items
    for item in items:
        assert item["protocol"]["phase"] == phase
        assert item["acts"] == []
        ids = [completion["id"] for completion in item["completions"]]
        assert len(set(ids)) == len(ids)
        for completion in item["completions"]:
            parents = [other for other in item["completions"] if other["id"] == completion["parent"]]
            assert completion["step"] == (parents[0]["step"] + 1 if completion["parent"] else 0)


@pytest.mark.parametrize("phase", [1, 2])
def test_every_answer_to_a_sample_is_explained(phase: int) -> None:
    for item in tutorial_items(phase):
        about = [hint["completion"] for hint in item["hints"] if "completion" in hint]
        critiques = [hint["critique"] for hint in item["hints"] if "critique" in hint]
        assert about == [completion["id"] for completion in item["completions"]]
        assert critiques == [critique["id"] for critique in item["critiques"]]
        assert all(set(hint["text_by_value"]) == RATINGS for hint in item["hints"])
        assert {"solution", ""} <= set(item["ends"])
        assert "undo" in item["says"]


def test_the_samples_of_phase_2_show_a_neutral_step_an_error_and_a_doubt() -> None:
    right, wrong, doubtful = tutorial_items(2)
    assert "neutral" in right["hints"][2]["text_by_value"]["0"]
    assert "Found" in wrong["hints"][2]["text_by_value"]["-1"]
    assert wrong["problem"]["answer_differs"]
    assert [completion["index"] for completion in wrong["completions"]] == [0, 0, 0, 0, 0, 1, 2]
    assert any("text_flagged" in hint for hint in doubtful["hints"])


def test_the_mathematics_is_right() -> None:
    assert next((w, w + 3) for w in range(1, 13) if 2 * (w + w + 3) == 26) == (5, 8)
    by_6, by_8 = ({n for n in range(1, 100) if n % k == 0} for k in (6, 8))
    assert (len(by_6), len(by_8), len(by_6 & by_8), len(by_6 | by_8)) == (16, 12, 4, 24)
    assert (comb(10, 2), comb(4, 2), comb(6, 2)) == (45, 6, 15)
    odd = range(1, 41, 2)
    assert (len(odd), odd[-1], sum(odd)) == (20, 39, 400)
    answers = [item["problem"]["reference_answer"] for phase in (2, 1) for item in tutorial_items(phase)]
    assert answers == ["40", "24", "$\\frac{7}{15}$", "400"]


def test_texts_are_translated_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = translation.trans_real.translation("en")  # type: ignore[attr-defined]  # how Django keeps its catalogs
    monkeypatch.setattr(catalog, "gettext", str.upper)
    assert tutorial_items(1)[0]["title"] == "CHOOSING THE NEXT STEP"


def test_keys_are_named_by_their_acts(page: Page) -> None:
    named = {act for phase in (1, 2) for act in re.findall(r"\[\[(\w+)]]", " ".join(texts(tutorial_items(phase))))}
    ModuleSite(page.context).open(page)
    known = page.evaluate("async () => Object.keys((await import('/static/js/label/keys.js')).DEFAULTS)")
    assert named <= set(known)


# --- The box ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(page: Page) -> Page:
    """The tutorial of phase 2 at its first sample; undo is on the key Q."""
    rendered = render_to_string("label/_tutorial.html", {"campaign": {"slug": "algebra"}})
    ModuleSite(page.context, HOST.format(box=rendered)).open(page)
    page.evaluate(
        """async (items) => {
             const { Tutorial } = await import("/static/js/label/tutorial.js");
             const { Keymap } = await import("/static/js/label/keys.js");
             window.tutorial = new Tutorial(items, new Keymap({ undo: ["q"] }));
             tutorial.addEventListener("item", () => tutorial.mount());
             tutorial.mount();
           }""",
        tutorial_items(2),
    )
    return page


def act(page: Page, **fields: Any) -> str:
    page.evaluate("(act) => tutorial.onAct({}, act)", fields)
    return page.inner_text(".coach-text")


def test_the_box_stands_above_the_keys_and_opens_with_what_to_do(box: Page) -> None:
    assert box.evaluate("document.getElementById('bar').previousElementSibling.id") == "coach"
    assert box.inner_text("#coach-title") == "Sample 1 of 3 · A right solution"
    assert box.inner_text(".coach-text") == (
        "Read the problem, then the first step. Is it bad (1), neutral (2) or good (3)?"
    )


def test_each_rating_is_explained_with_the_persons_own_keys(box: Page) -> None:
    assert act(box, kind="rate", completion=1, value=1).startswith("Right, and it brings")
    assert act(box, kind="rate", completion=1, value=-1).endswith("Q takes a rating back.")
    assert act(box, kind="undo").startswith("Taken back.")


def test_what_needs_no_words_leaves_the_last_ones(box: Page) -> None:
    before = act(box, kind="rate", completion=3, value=0)
    assert act(box, kind="rate", completion=3, value=None) == before


def test_samples_follow_each_other_and_end_in_labeling(box: Page) -> None:
    box.evaluate("tutorial.onSubmit({ finish_reason: 'solution' })")
    assert box.inner_text(".coach-text").startswith("A right solution to the end.")
    box.keyboard.press("Enter")  # "Next sample" has the focus
    assert box.inner_text("#coach-title") == "Sample 2 of 3 · The first bad step"
    assert not box.is_visible(".coach-next")
    assert act(box, kind="critique", critique=2, value=-1).startswith("Indeed")
    assert act(box, kind="progress", value=2).startswith("Both counts were right")
    box.evaluate("tutorial.onSubmit({ finish_reason: 'found_error' })")
    box.click(".coach-next")
    assert "unsure" in act(box, kind="rate", completion=1, value=1, flagged=True)
    box.evaluate("tutorial.onSubmit({ finish_reason: 'give_up' })")
    assert "Giving up is no shame" in box.inner_text(".coach-text")
    with box.expect_request("**/label/tutorial/done/") as sent:
        box.keyboard.press("Enter")
    assert sent.value.method == "POST"


def test_it_can_be_skipped_at_once(box: Page) -> None:
    with box.expect_request("**/label/tutorial/done/") as sent:
        box.click(".coach-skip")
    assert sent.value.method == "POST"
