"""Texts in a real browser: mathematics first, then Markdown, code, agent turns and figures; and what is none of them
stays as it was written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.modules import until
from tests.e2e.sheet import ATTACHMENT, READ, Sheet

if TYPE_CHECKING:
    from playwright.sync_api import Page

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

# Words and TeX of rendered texts, without the few words that rendering adds; and the formulas that were refused
# although KaTeX can set them.
WORDS = """(texts) => texts.map((text) => {
  const box = document.createElement("div");
  window.text.typeset(box, text);
  box.querySelectorAll("summary, .answer-word, .blank-text").forEach((word) => word.remove());
  const refused = [...box.querySelectorAll(".katex-error")].map((error) => error.textContent);
  const formulas = box.querySelectorAll(".math").length;
  for (const tex of box.querySelectorAll(".math annotation")) tex.closest(".math").replaceWith(tex.textContent);
  const wrongly = refused.filter((raw) => {
    const tex = raw.replace(/^(\\$\\$?|\\\\[([])|(\\$\\$?|\\\\[)\\]])$/g, "");
    try {
      katex.renderToString(tex, { displayMode: true, strict: "ignore" });
      return true;
    } catch {
      return false;
    }
  });
  return { words: box.textContent, formulas, refused, wrongly };
})"""


@pytest.fixture
def sheet(new_page: Callable[..., Page]) -> Iterator[Sheet]:
    sheet = Sheet(new_page(viewport={"width": 900, "height": 700}))
    yield sheet
    assert sheet.strays == []


# --- Mathematics -----------------------------------------------------------------------------------------------------


def test_every_way_to_write_a_formula_is_set(sheet: Sheet) -> None:
    expected = {
        "Let $x = 3$, so $x^2 = 9$.": "Let ⟦x = 3⟧, so ⟦x^2 = 9⟧.",
        r"If \(a_1 * b_1\) then": "If ⟦a_1 * b_1⟧ then",
        "So $$x^2$$": "So⟦⟦x^2⟧⟧",
        "So\n\n\\[ x^2 \\]\n\nholds": "So⟦⟦x^2⟧⟧holds",
        r"\begin{align*}a&=b\\c&=d\end{align*}": r"⟦⟦\begin{align*}a&=b\\c&=d\end{align*}⟧⟧",
        r"$\begin{pmatrix}1&2\\3&4\end{pmatrix}$": r"⟦\begin{pmatrix}1&2\\3&4\end{pmatrix}⟧",
        r"\[|x|=\begin{cases}x&x>0\\-x&\text{otherwise}\end{cases}\]": (
            r"⟦⟦|x|=\begin{cases}x&x>0\\-x&\text{otherwise}\end{cases}⟧⟧"
        ),
        r"$\begin{aligned}a&=1\\b&=2\end{aligned}$": r"⟦\begin{aligned}a&=1\\b&=2\end{aligned}⟧",
        r"so \boxed{\frac{1}{2}}.": r"so ⟦\boxed{\frac{1}{2}}⟧.",
        r"$\text{if $x>0$ then}$ and $y$": r"⟦\text{if $x>0$ then}⟧ and ⟦y⟧",
        r"$\mbox{as } a\equal{}b$": r"⟦\mbox{as } a\equal{}b⟧",
        r"$5 \% \$$ of": r"⟦5 \% \$⟧ of",
    }
    assert sheet.readings(*expected) == expected
    assert sheet.count(".katex-error") == 0


def test_a_boxed_answer_has_its_frame_and_a_display_its_own_line(sheet: Sheet) -> None:
    sheet.show(r"so $\boxed{42}$ and \[x\]")
    frames = """[...document.querySelectorAll(".katex-html *")].filter((one) => one.getBoundingClientRect().width > 9
                  && getComputedStyle(one).borderTopStyle === "solid").length"""
    assert sheet.page.evaluate(frames) == 1
    display = sheet.page.locator(".katex-display").bounding_box()
    inline = sheet.page.locator(".math:not(.math-display)").bounding_box()
    assert display is not None
    assert inline is not None
    assert display["y"] >= inline["y"] + inline["height"] / 2
    assert display["width"] > inline["width"]


def test_a_formula_that_cannot_be_set_is_its_source_with_a_quiet_mark(sheet: Sheet) -> None:
    broken = {
        r"a $x^{2$ b $c$": r"a ⟦!$x^{2$⟧ b ⟦c⟧",
        r"$\frac{1}{$": r"⟦!$\frac{1}{$⟧",
        r"\[ \nosuchthing{3} \]": r"⟦!\[ \nosuchthing{3} \]⟧",
        r"$x^2^3$": r"⟦!$x^2^3$⟧",
    }
    assert sheet.readings(*broken) == broken
    mark = sheet.page.locator(".katex-error").last
    assert "superscript" in str(mark.get_attribute("title"))
    assert mark.evaluate("one => getComputedStyle(one).borderBottomStyle") == "dotted"
    red, green, blue = map(int, re.findall(r"\d+", mark.evaluate("one => getComputedStyle(one).color"))[:3])
    assert max(red, green, blue) - min(red, green, blue) < 60, "a grey: a labeler has done nothing wrong"


def test_a_reference_answer_is_mathematics_without_dollar_signs(sheet: Sheet) -> None:
    expected = {
        r"\frac{1}{2}": r"⟦\frac{1}{2}⟧",
        "x^2": "⟦x^2⟧",
        "42": "42",
        "four apples": "four apples",
        "$x$": "⟦x⟧",
    }
    assert sheet.readings(*expected, answer=True) == expected


def test_figures_are_folded_source(sheet: Sheet) -> None:
    text = '[asy]\ndraw((0,0)--(1,1)); label("$x$");\n[/asy]\nthen $x$'
    figure = '<details><summary>Figure (source)</summary><pre>draw((0,0)--(1,1)); label("$x$");</pre></details>'
    assert sheet.reading(text) == f"{figure}then ⟦x⟧"
    assert sheet.page.locator("pre").is_hidden()
    sheet.page.locator("summary").click()
    assert sheet.page.locator("pre").is_visible()


# --- Markdown --------------------------------------------------------------------------------------------------------


def item(marker: str, content: str) -> str:
    return f"<li><span>{marker}</span><div>{content}</div></li>"


def test_markdown_is_read(sheet: Sheet) -> None:
    expected = {
        "**Step 1:** we *know* ~~not~~ _that_": (
            "<p><strong>Step 1:</strong> we <em>know</em> <s>not</s> <em>that</em></p>"
        ),
        "- a\n- b $x$": f"<ul>{item('–', 'a')}{item('–', 'b ⟦x⟧')}</ul>",
        "3. three\n4. four": f"<ol>{item('3.', 'three')}{item('4.', 'four')}</ol>",
        "a) not\nb) these": "a) not\nb) these",
        "1) one\n   - deeper": f"<ol>{item('1)', 'one<ul>' + item('–', 'deeper') + '</ul>')}</ol>",
        "日本語*強調*なし": "<p>日本語<em>強調</em>なし</p>",
        "> said\n> so": "<blockquote><p>said\nso</p></blockquote>",
        "### Solution\ntext": "<p>Solution</p><p>text</p>",
        "| n | $n^2$ |\n|---|--:|\n| 2 | $|4|$ |": (
            "<div><table><thead><tr><th>n</th><th>⟦n^2⟧</th></tr></thead>"
            "<tbody><tr><td>2</td><td>⟦|4|⟧</td></tr></tbody></table></div>"
        ),
        "use `x*y` and `$z$`": "<p>use <code>x*y</code> and <code>$z$</code></p>",
        "**bold $x_1$** then\n\\[ y \\]\n\\[ z \\]": "<p><strong>bold ⟦x_1⟧</strong> then⟦⟦y⟧⟧⟦⟦z⟧⟧</p>",
    }
    assert sheet.readings(*expected) == expected


def test_code_keeps_its_characters_and_gets_colours(sheet: Sheet) -> None:
    code = 'def f(x):\n    return "$x$" * 2  # <b>*not*</b> mathematics'
    sheet.show(f"Then\n```python\n{code}\n```\nruns")
    until(sheet.page, "document.querySelectorAll('pre .code-keyword').length === 2")
    assert sheet.page.locator("pre").text_content() == code
    assert sheet.page.locator("figcaption").text_content() == "python"
    assert sheet.page.locator(".code-comment").text_content() == "# <b>*not*</b> mathematics"
    assert sheet.reading("```\nno language, $x$\n```") == "<figure><pre><code>no language, $x$</code></pre></figure>"
    for unclear in ["```f(`x`) = $y$ **b**", "```*_`~~~# **b**:`x2+ $a$"]:
        assert "⟦" in sheet.reading(unclear), "what looks like a fence and is none keeps its formulas"
    assert "never closed" in sheet.reading("```python\nnever closed")


UNTOUCHED = [
    "2*3*4",
    "2 * 3 * 4 = 24",
    "a_1 and b_2 and _ _ _",
    "-3x+5",
    "+ 3\n+ 4",
    "5 < 6 > 2",
    "a pen costs $5 and a book $7",
    "between $5 and $7 each, $12.50 in all",
    "Let x\n---\ny",
    "  12\n+ 30\n----\n  42",
    "Title\n===",
    "# of apples",
    "#1 is right",
    "|x| < 3 | y",
    "~5 and ~6",
    "n! * (n-1)!*k",
    "a**b**c in Python, 2**3**4",
    "snake_case_name and __init__",
    "> 5 means more than five",
    "[a, b) and (c](d)",
    "&lt;b&gt; &amp; &#106;",
    "``quotes'' and `these'",
    "unclosed $ sign, \\( and \\[ and `",
    "$" * 50,
    "3 \\ 4",
    "f(x) = x\\",
    "first line\nsecond line\n\nnew paragraph",
]


def test_plain_solutions_are_left_alone(sheet: Sheet) -> None:
    readings = sheet.readings(*UNTOUCHED)
    assert readings == {text: text for text in readings}
    assert sheet.reading("1. Let x\n2. Let y") == f"<ol>{item('1.', 'Let x')}{item('2.', 'Let y')}</ol>"
    assert sheet.reading(r"it costs \$5") == "it costs $5"
    assert sheet.reading("") == sheet.reading(" \n ") == "<span>blank</span>"


def test_agent_turns_are_told_apart(sheet: Sheet) -> None:
    text = (
        'Thought: so $x$ is **odd**\nAction: search["2*3*4"]\nObservation 1: 5 * 3 <b>\nsecond line\n'
        "Final Answer: $\\frac12$"
    )
    rows = [
        ("Thought", "<p>so ⟦x⟧ is <strong>odd</strong></p>"),
        ("Action", 'search["2*3*4"]'),
        ("Observation 1", "5 * 3 <b>\nsecond line"),
        ("Final Answer", r"⟦\frac12⟧"),
    ]
    expected = "".join(f"<div><dt>{label}</dt><dd>{said}</dd></div>" for label, said in rows)
    assert sheet.reading(text) == f"<dl>{expected}</dl>"
    assert sheet.reading("I thought: Action is needed") == "I thought: Action is needed"
    assert sheet.reading("Observation 2: the sum is even") == "Observation 2: the sum is even"


def test_the_answer_that_ends_a_solution_is_named(sheet: Sheet) -> None:
    answer = "<span><span>Answer</span> "
    expected = {
        "So it is.\n\n# Answer\n\n42": f"So it is.{answer}42</span>",
        "# Answer\n\n\\frac{1}{2}": f"{answer}⟦\\frac{{1}}{{2}}⟧</span>",
        "# Answers\nfollow": "<p>Answers</p><p>follow</p>",
    }
    assert sheet.readings(*expected) == expected


# --- Images of a problem ---------------------------------------------------------------------------------------------


def test_an_image_is_small_until_it_is_opened(sheet: Sheet) -> None:
    page = sheet.page
    page.evaluate(
        """(url) => {
             const box = document.querySelector("main").appendChild(document.createElement("div"));
             window.text.attach(box, [{ url, name: "A triangle" }, { url, name: '"><img src=x onerror=hacked=1>' }]);
           }""",
        ATTACHMENT,
    )
    thumbnail = page.get_by_role("button", name="A triangle")
    small = page.get_by_alt_text("A triangle", exact=True).bounding_box()
    assert small is not None
    assert small["height"] < 200
    thumbnail.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="A triangle")
    large = dialog.get_by_alt_text("A triangle").bounding_box()
    assert large is not None
    assert large["width"] > 2 * small["width"]
    page.keyboard.press("Escape")
    assert page.get_by_role("dialog").count() == 0
    assert thumbnail.evaluate("one => one === document.activeElement")
    assert page.locator("main img").count() == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.test/c/algebra/attachments/1/",
        "//evil.test/c/algebra/attachments/1/",
        "data:image/svg+xml,<svg onload='hacked=1'/>",
        "javascript:hacked=1",
        "/c/algebra/export/",
        "/c/a/attachments/../../../accounts/logout/",
        "/c/algebra/attachments/8f0c/?then=/",
    ],
)
def test_only_images_of_a_campaign_are_fetched(sheet: Sheet, url: str) -> None:
    sheet.page.evaluate(
        """(url) => {
             const box = document.querySelector("main").appendChild(document.createElement("div"));
             window.text.attach(box, [{ url, name: "Plan" }]);
           }""",
        url,
    )
    addresses = sheet.page.eval_on_selector_all("img", "all => all.map(one => one.getAttribute('src'))")
    assert addresses in ([], [ATTACHMENT]), "a query is cut off, everything else refused"
    if not addresses:
        assert sheet.page.get_by_text("Plan: not an image of this campaign").is_visible()


# --- Many at once, and again -----------------------------------------------------------------------------------------


def test_texts_rendered_in_idle_time_end_as_those_rendered_at_once(sheet: Sheet) -> None:
    texts = [f"{n}. **Step {n}**: $\\frac{{{n}}}{{x^2}}$ and \\[ y_{n} \\]" for n in range(60)]
    sheet.show(*texts)
    at_once = sheet.page.evaluate(READ)
    sheet.page.evaluate(
        """async (texts) => {
             const boxes = texts.map(() => window.text.make("div", "math-text step-text"));
             document.querySelector("main").replaceChildren(...boxes);
             await window.text.typesetLater(boxes.map((box, index) => [box, texts[index], {}])).done;
           }""",
        texts,
    )
    assert sheet.page.evaluate(READ) == at_once


def test_a_preview_replaces_what_stood_there(sheet: Sheet) -> None:
    shown = sheet.page.evaluate(
        """async () => {
             const box = Object.assign(document.createElement("div"), { className: "math-text step-text" });
             document.querySelector("main").replaceChildren(box);
             const { done } = window.text.typesetLater([[box, "old $x$ ".repeat(200), {}]]);
             window.text.typeset(box, "new $y$");
             await done;
             return box.textContent;
           }"""
    )
    assert "old" not in shown
    assert sheet.page.evaluate(READ) == ["new ⟦y⟧"]


# --- Nothing is lost or doubled -----------------------------------------------------------------------------------


def letters(text: str) -> str:
    """What no reading may lose or double: everything but space and the characters that mark something."""
    return re.sub(r"[\s$\\*_#>|:+\-–•`~.()\[\]]", "", text)


def source_of(text: str) -> str:
    return letters(re.sub(r"\[/?asy\]", "", f"\n{text}".replace("\n# Answer\n", "\n")))


MARKS = [
    "$",
    "$$",
    r"\(",
    r"\)",
    r"\[",
    r"\]",
    "\\",
    r"\$",
    "{",
    "}",
    "x",
    "1",
    "word",
    " ",
    "  ",
    "\n",
    "\n\n",
    "*",
    "**",
    "_",
]
MARKS += [
    "__",
    "~~",
    "`",
    "``",
    "```",
    "~~~",
    "# ",
    "> ",
    "- ",
    "1. ",
    "+ ",
    "|",
    "|-|-|",
    "---",
    "===",
    "# Answer",
    "<b>",
]
MARKS += [
    "Thought:",
    "Action:",
    "Observation:",
    r"\begin{align}",
    r"\end{align}",
    r"\text{",
    r"\boxed{",
    "\ue000",
    "\ue0010",
]
MARKS += ["[a](b)", "&amp;", "é", "日本", "😀", "\r\n", "\t", "'", "''"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(MARKS), max_size=30).map("".join), min_size=1, max_size=10))
def test_no_mix_of_marks_loses_a_letter(sheet: Sheet, texts: list[str]) -> None:
    for text, said in zip(texts, sheet.page.evaluate(WORDS, texts), strict=True):
        assert letters(said["words"]) == source_of(text)


def real_texts(every: int) -> list[str]:
    """Problems and steps of every n-th solution of each data set."""
    texts: dict[str, None] = {}
    for file in sorted(DATA.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for index, line in enumerate(lines) if index % every == 0]
        for row in rows:
            if "steps" in row:
                texts.update(dict.fromkeys([row["problem"], *row["steps"]]))
    return list(texts)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data sets are not beside this repository")
def test_real_solutions_are_read_whole(sheet: Sheet) -> None:
    texts = real_texts(every=25)
    shown = sheet.page.evaluate(WORDS, texts)
    differ = [
        (text, said["words"])
        for text, said in zip(texts, shown, strict=True)
        if letters(said["words"]) != source_of(text)
    ]
    assert differ == []
    assert [one for said in shown for one in said["wrongly"]] == []
    formulas, refused = sum(said["formulas"] for said in shown), sum(len(said["refused"]) for said in shown)
    assert formulas > 2000
    assert refused <= formulas / 300
