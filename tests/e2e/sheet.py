"""A page of nothing but rendered texts, under the policy of the real pages."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING

from csp.utils import build_policy
from django.contrib.staticfiles import finders
from django.template.loader import render_to_string

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

ORIGIN = "http://stepmark.test"
ATTACHMENT = "/c/algebra/attachments/8f0c/"
DRAWING = b'<svg xmlns="http://www.w3.org/2000/svg" width="640" height="480"><path d="M9 9h600v400z"/></svg>'
STYLES = ["tokens", "base", "components", "solution"]

# Puts each text on the page in an element of its own, one below the other.
SHOW = """([texts, options]) => {
  const main = document.querySelector("main");
  main.replaceChildren(...texts.map((text) => {
    const box = window.text.make("div", "math-text step-text");
    window.text.typeset(box, text, options);
    return box;
  }));
}"""
# What became of them: elements without attributes; formulas as KaTeX understood them, ⟦inline⟧, ⟦⟦displayed⟧⟧ or
# ⟦!refused⟧.
READ = """() => [...document.querySelectorAll(".step-text")].map((element) => {
  const box = element.cloneNode(true);
  for (const span of box.querySelectorAll(".math")) {
    const tex = span.querySelector("annotation")?.textContent;
    const error = span.querySelector(".katex-error")?.textContent;
    const [open, close] = span.querySelector(".katex-display") ? ["⟦⟦", "⟧⟧"] : ["⟦", "⟧"];
    span.replaceWith(error ? `⟦!${error}⟧` : open + tex.trim() + close);
  }
  box.querySelectorAll("*").forEach((one) => one.getAttributeNames().forEach((name) => one.removeAttribute(name)));
  return box.innerHTML.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
})"""
# What no text may bring into the page, whatever it says.
HARM = r"""(boxes) => {
  const [blocks, phrases] = [/^(p|[uo]l|li|div|blockquote|table|thead|tbody|t[rhd]|hr|figure|pre|d[ltd]|details)$/,
    /^(span|em|strong|s|figcaption|code|summary|button)$/];
  const isActive = /^(a|img|image|script|style|link|base|meta|iframe|object|embed|form|input|use|foreignobject)$/i;
  const isPlain = /^(class|role|title|type|tabindex)$/;
  const found = window.hacked === undefined ? [] : ["a script ran"];
  for (const element of document.querySelectorAll(`:is(${boxes}) *`)) {
    const inFormula = element.closest(".math") !== null;
    const name = element.localName;
    if (inFormula ? isActive.test(name) : !blocks.test(name) && !phrases.test(name)) found.push(element.outerHTML);
    for (const { name, value } of element.attributes) {
      const isHarm = inFormula ? /^on|href|src|action|^id$|^name$|^data-/.test(name) : !isPlain.test(name);
      if (isHarm) found.push(element.outerHTML);
      if (name === "style" && /url|image|expression|import|fixed/i.test(value)) found.push(element.outerHTML);
    }
  }
  return found;
}"""


class Sheet:
    """Every request that the page makes for anything else than its own files is noted."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.strays: list[str] = []
        page.route("**/*", self.answer)
        page.goto(f"{ORIGIN}/")
        page.evaluate("async () => { window.text = await import('/static/js/mathtext.js') }")

    def answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path == "/":
            links = "".join(f'<link rel="stylesheet" href="/static/css/{name}.css">' for name in STYLES)
            head = f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">{links}'
            html = f'<!doctype html><html lang="en"><head>{head}{render_to_string("includes/text_head.html")}</head>'
            route.fulfill(
                body=html + "<body><main class='page'></main></body></html>",
                headers={"content-type": "text/html", "content-security-policy": str(build_policy())},
            )
        elif path.startswith("/static/") and (file := finders.find(path.removeprefix("/static/"))):
            kind = mimetypes.guess_type(str(file))[0] or "application/octet-stream"
            route.fulfill(body=Path(str(file)).read_bytes(), headers={"content-type": kind})
        elif path == ATTACHMENT:
            route.fulfill(body=DRAWING, headers={"content-type": "image/svg+xml"})
        else:
            self.strays.append(route.request.url)
            route.abort()

    def show(self, *texts: str, **options: bool) -> None:
        """Put texts on the page, one below the other, each in an element of its own."""
        self.page.evaluate(SHOW, [list(texts), options])

    def readings(self, *texts: str, **options: bool) -> dict[str, str]:
        self.show(*texts, **options)
        return dict(zip(texts, self.page.evaluate(READ), strict=True))

    def reading(self, text: str, **options: bool) -> str:
        return self.readings(text, **options)[text]

    def count(self, selector: str) -> int:
        return self.page.locator(f".step-text {selector}").count()

    def harm(self) -> list[str]:
        return list(self.page.evaluate(HARM, ".step-text"))
