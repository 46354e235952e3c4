// One formula, by KaTeX: within bounds, without its links and requests, and never as a red message.

import { make } from "./make.js";

// \equal, \plus and \minus are a large forum's, and in the data sets that were made from it.
const MACROS = { "\\mbox": "\\text{#1}", "\\equal": "=", "\\plus": "+", "\\minus": "-" };
const LIMITS = { trust: false, throwOnError: true, maxSize: 20, maxExpand: 1000, strict: "ignore" };
// A definition may repeat its body as often as it may be expanded: 1,000 times 10,000 characters would hang the page.
const DEFINES = /\\(?:[gex]?def|let|futurelet|(?:re)?newcommand|providecommand)(?![a-zA-Z])/;
// KaTeX refuses these, and would show the bare command without what it was given.
const UNTRUSTED = /\\(href|url|includegraphics|html(?:Class|Data|Id|Style))(?![a-zA-Z])/;
// A price inside a formula: "\frac{$100,000}{5}".
const PRICE = /(?<!\\)\$(?=\s?[\d.])/g;
const SHORT = 400;
const LONGEST = 4000;
const DEEPEST = 250;

/** A formula's place, showing its source until `render` is called. */
export function formula(part, displayMode) {
  const span = make("span", displayMode ? "math math-display" : "math", part.raw);
  const render = () => {
    try {
      const drawn = draw(part.source, displayMode);
      span.replaceChildren(...drawn.childNodes);
    } catch (error) {
      const source = make("span", "katex-error", part.raw);
      source.title = String(error.message ?? error);
      span.replaceChildren(source);
    }
  };
  return { span, render };
}

function draw(source, displayMode) {
  if (source.length > LONGEST) throw new Error(`longer than ${LONGEST} characters`);
  const untrusted = UNTRUSTED.exec(source)?.[1];
  if (untrusted) throw new Error(`no \\${untrusted} in untrusted text`);
  const defines = DEFINES.test(source);
  if (defines && source.length > SHORT) throw new Error(`defines commands and is longer than ${SHORT} characters`);
  const span = document.createElement("span");
  const options = { ...LIMITS, maxExpand: defines ? 50 : LIMITS.maxExpand, displayMode };
  const render = (tex) => withoutStyleAttributes(() => globalThis.katex.render(tex, span, { ...options, macros: { ...MACROS } }));
  try {
    render(source);
  } catch (error) {
    const priced = source.replace(PRICE, "\\$");
    if (priced === source) throw error;
    render(priced);
  }
  if (source.length > SHORT && deeperThan(span, DEEPEST)) throw new Error("too many levels");
  return span;
}

/** Browsers lay out recursively: thousands of levels end the tab. */
function deeperThan(root, limit) {
  const open = [[root, 0]];
  while (open.length) {
    const [element, depth] = open.pop();
    if (depth > limit) return true;
    for (const child of element.children) open.push([child, depth + 1]);
  }
  return false;
}

/** KaTeX writes a few style attributes (\vec, \boxed), which the content security policy forbids; the same through the
 * style object is allowed. */
function withoutStyleAttributes(render) {
  const { setAttribute } = Element.prototype;
  Element.prototype.setAttribute = function (name, value) {
    if (name === "style") this.style.cssText = value;
    else setAttribute.call(this, name, value);
  };
  try {
    render();
  } finally {
    Element.prototype.setAttribute = setAttribute;
  }
}
