"""Hostile texts in a real browser: they are shown as what they are, and become no script, style, link or request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client

from annotator.actions import datasets
from annotator.actions.campaigns import activate_campaign
from annotator.actions.labeling import submit_labeling
from annotator.actions.queue import claim_next
from annotator.models import Campaign, Critique, Labeling, QueueItem
from tests.annotator.cast import (
    Role,
    act,
    ending,
    import_rows,
    make_campaign,
    make_member,
    path_of,
    problem_texts,
    rating,
    simple_row,
)
from tests.e2e.modules import until
from tests.e2e.sheet import HARM, Sheet

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def sheet(new_page: Callable[..., Page]) -> Iterator[Sheet]:
    sheet = Sheet(new_page(viewport={"width": 900, "height": 700}))
    yield sheet
    assert sheet.strays == []


EVIL = "http://evil.test/x"
HOSTILE = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1><svg onload=window.hacked=1>",
    f"<style>@import url({EVIL});*{{display:none}}</style><iframe src={EVIL}></iframe><base href={EVIL}>",
    "</div></main><script>window.hacked=1</script>",
    "[a](javascript:window.hacked=1) ![b](javascript:window.hacked=1)",
    f"[a]({EVIL}) ![b]({EVIL}.png) [![c]({EVIL})]({EVIL})",
    "![a](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImhhY2tlZD0xIi8+)",
    f"[a][r] ![b][r] [r]\n\n[r]: {EVIL} 'title'",
    f"<{EVIL}> {EVIL} www.evil.test someone@evil.test",
    f"| [a]({EVIL}) | <img src={EVIL}> |\n|---|:-:|\n| ![b]({EVIL}) | <b onclick=hacked=1> |",
    f"> - **[a]({EVIL})** *<img src={EVIL}>*\n\n# <a href={EVIL}>head</a>",
    f'```"><img src={EVIL} onerror=hacked=1>\n<script>hacked=1</script>\n```',
    "```html\n<script>window.hacked=1</script><img src=x onerror=hacked=1>\n```",
    f"`<img src={EVIL}>`",
    r"$\href{javascript:window.hacked=1}{x}$ $\url{javascript:window.hacked=1}$",
    rf"$\includegraphics[height=1em]{{{EVIL}}}$",
    r"$\htmlData{x=1}{x}$",
    rf"$\htmlStyle{{background:url({EVIL})}}{{x}}$ $\htmlClass{{dialog}}{{x}}$ $\htmlId{{shell}}{{x}}$",
    rf"$\def\l{{\href{{{EVIL}}}{{x}}}}\l$ $\let\l\href \l{{{EVIL}}}{{x}}$",
    rf"$\color{{url({EVIL})}}x$ $\colorbox{{red;background:url({EVIL})}}{{x}}$ $\textcolor{{#fff;}}{{x}}$",
    r"$\text{<script>window.hacked=1</script>}$ $\tag{<img src=x onerror=hacked=1>}$ $<img>$",
    r"$\unicode{x}<svg onload=hacked=1>$ $\verb|<img src=x onerror=hacked=1>|$",
    f'[asy]</pre><img src="{EVIL}" onerror=hacked=1>[/asy]',
    f"Thought: <img src={EVIL}>\nAction: <script>hacked=1</script>\nObservation: [a]({EVIL})",
    f"# Answer\n\n<img src={EVIL} onerror=hacked=1>",
    "\ue0000\ue001 \ue00099999\ue001 \ue000x $x$ **b**",
    "{{ 7*7 }} ${7*7} {% debug %} __proto__ constructor",
    "\u202etxet desrever \x00\x01\x7f \ud83d\ude00 \u200b",
]


def test_no_text_becomes_script_style_link_or_request(sheet: Sheet) -> None:
    for options in ({}, {"inline": True}, {"answer": True}):
        sheet.show(*HOSTILE, **options)
        assert sheet.harm() == []
    until(sheet.page, "document.readyState === 'complete'")
    sheet.show("```html\n<script>window.hacked=1</script><img src=x onerror=hacked=1>\n```")
    until(sheet.page, "document.querySelector('.code-tag') !== null")
    assert sheet.harm() == []


def test_hostile_text_is_shown_as_what_it_is(sheet: Sheet) -> None:
    expected = {text: text for text in [*HOSTILE[:5], f"[a]({EVIL}) ![b]({EVIL}.png)", f"<{EVIL}> {EVIL}", HOSTILE[-2]]}
    expected[r"$\href{javascript:window.hacked=1}{x}$"] = r"⟦!$\href{javascript:window.hacked=1}{x}$⟧"
    expected[rf"$\includegraphics{{{EVIL}}}$"] = rf"⟦!$\includegraphics{{{EVIL}}}$⟧"
    assert sheet.readings(*expected) == expected


# Nesting, repetition and length with which a text could keep the page from answering.
BOMBS = {
    "quotes": ">" * 10_000 + "x",
    "spaced quotes": "> " * 10_000 + "x",
    "lists": "- " * 5000 + "x",
    "growing lists": "\n".join("  " * depth + "- x" for depth in range(140)),
    "emphasis": "**a *b " * 3000,
    "stars": "*a" * 10_000,
    "groups": "$" + "{" * 1900 + "x" + "}" * 1900 + "$",
    "fractions": "$" + r"\frac{1}{1+" * 180 + "x" + "}" * 180 + "$",
    "roots": "$" + r"\sqrt{" * 600 + "x" + "}" * 600 + "$",
    "definitions": r"$\def\a{\a\a}\a$",
    "doubling": "$" + r"\def\a{xx}" + "".join(r"\edef\a{\a\a}" for _ in range(30)) + r"\a$",
    "long definition": r"$\def\a{" + "x" * 3000 + "}" + r"\a" * 900 + "$",
    "huge sizes": r"$\rule{99999em}{99999em}\kern99999em\raisebox{99999em}{x}$",
    "formulas": "$x$ " * 5000,
    "dollars": "$x " * 6000,
    "open groups": "$ { " * 5000,
    "delimiters": r"\( \[ $$ \begin{a} " * 1000,
    "backticks": "`" * 9999 + " " + "``` `` ` " * 1000,
    "fences": "~~~\n" * 4000,
    "figures": "[asy]" * 4000,
    "table": "|" * 3000 + "\n|" + "-|" * 3000 + "\n" + "|x" * 3000,
    "long table": "|a|b|\n|-|-|\n" + "|x|y|\n" * 3000,
    "turns": "Thought: x\n" * 1800,
    "answers": "# Answer\n" * 2200,
    "brackets": "[" * 20_000,
    "one word": "a" * 1_000_000,
    "marks": "\u0301" * 20_000,
}


def test_no_text_keeps_the_page_from_answering(sheet: Sheet) -> None:
    slow = {}
    for name, bomb in BOMBS.items():
        began = time.monotonic()
        sheet.show(bomb)
        harm = sheet.harm()
        sheet.page.evaluate("new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")
        if (took := time.monotonic() - began) > 2:
            slow[name] = took
        assert harm == [], name
        size = sheet.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert size[0] <= size[1], f"{name}: the page scrolls sideways"
    assert slow == {}


def test_a_megabyte_shows_its_beginning_and_all_of_it_on_request(sheet: Sheet) -> None:
    text = "A word, then $x^2$ and **more**. " * 31_000
    began = time.monotonic()
    sheet.show(text)
    assert sheet.count(".katex") == 300
    button = sheet.page.get_by_role("button", name="Show all")
    assert re.search(r"[\d,]{7,} more characters", button.text_content() or "")
    button.click()
    assert sheet.count("button") == 0
    assert time.monotonic() - began < 5
    assert (sheet.page.locator(".step-text").text_content() or "").count("A word, then") == 31_000


# --- The pages that the server renders -------------------------------------------------------------------------------


@pytest.fixture
def campaign(transactional_db: None) -> Campaign:
    """Problems, steps, answers, critiques, comments and the labeler's own words are all hostile."""
    campaign = make_campaign(critiques="optional")
    labeler = make_member(campaign, "ada")
    make_member(campaign, "mia", Role.MANAGER)
    steps = ["So $x^2$.", *(text for text in HOSTILE if "\x00" not in text)]
    more = {"ground_truth_answer": HOSTILE[1], "critiques": [[text] for text in steps]}
    problems = [f"Is $x^2$ **odd**? {text} {HOSTILE[0]} {HOSTILE[9]}" for text in problem_texts("train", 6)]
    import_rows(campaign, [simple_row(problem, steps) | more for problem in problems])
    activate_campaign(campaign, actor=None)
    labeler.campaign.refresh_from_db()
    for values in ([1, -1], [1] * len(steps), []):
        assignment = claim_next(labeler)
        assert assignment is not None
        path = path_of(assignment)
        acts = [rating(completion, value, flagged=True) for completion, value in zip(path, values, strict=False)]
        if -1 in values:
            offered = Critique.objects.filter(completion=path[1]).get().pk
            acts += [act("critique", critique=offered, value=1), act("own_critique", text=HOSTILE[1])]
        reason = "bad_problem" if not values else "found_error" if -1 in values else "solution"
        words = {"reason": HOSTILE[0] if not values else "", "comment": HOSTILE[1], "answer_report": HOSTILE[2]}
        submit_labeling(assignment, ending(reason, **words), acts)
    claim_next(labeler)
    datasets.publish(datasets.write_draft(campaign), actor=None)
    return campaign


@pytest.mark.parametrize("name", ["ada", "mia"])
def test_pages_from_the_server_set_mathematics_and_do_no_harm(
    page: Page, campaign: Campaign, live_server: Any, name: str
) -> None:
    client = Client()
    client.force_login(campaign.memberships.get(user__username=name).user)
    session = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": session, "url": live_server.url}])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    said = [f"labelings/{pk}/" for pk in Labeling.objects.values_list("pk", flat=True)]
    items = [f"items/{pk}/" for pk in QueueItem.objects.order_by("rank").values_list("pk", flat=True)[:1]]
    pages = {"ada": ["history/", *said], "mia": ["generations/0/", "datasets/1/", "reports/", "leases/", *said, *items]}
    for path in pages[name]:
        page.goto(f"{live_server.url}/c/algebra/{path}")
        until(page, "document.querySelector('[data-math] .katex') !== null")
        page.evaluate("new Promise((idle) => requestIdleCallback(idle, { timeout: 2000 }))")
        assert page.evaluate(HARM, "[data-math]") == [], path
        assert page.locator("[data-math] strong").count() > 0, path
        assert page.locator("main :is(script, style, iframe, img, svg[onload])").count() == 0, path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert [url for url in asked if not url.startswith(live_server.url)] == []
