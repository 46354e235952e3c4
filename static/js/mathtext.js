// Untrusted text (problems, steps, answers, critiques) on a page: mathematics first, then Markdown, code, agent turns.
//
// A page includes "includes/text_head.html" in its head and calls
//   typeset(element, text, {answer, inline})   replace the element's content, at once. Call it again for a new text (a preview).
//   typesetLater([[element, text, options], …])   the same for many: what stands first at once (one frame's work), the rest in
//       idle time, sooner when it nears the viewport. Works on elements that are not in the page yet. Returns {done: Promise}.
//       A step that must be readable now: typeset(element, text, options) again; it takes the element out of the queue.
//   attach(element, attachments)   images of a problem, [{url, name}], as thumbnails that open larger; hides the element when none.
//   make(tag, className, text)
// Elements carry the class "math-text". Text only ever becomes text nodes; KaTeX alone makes other elements out of it.

const ENVIRONMENT = /^\\begin\{([a-zA-Z]+\*?)\}/;
const MACROS = { "\\mbox": "\\text{#1}" };
const LIMITS = { trust: false, throwOnError: false, maxSize: 20, maxExpand: 1000, strict: "ignore", errorColor: "currentColor" };

// PRM800K ends the last step with this heading and the answer.
const ANSWER = /\n+# Answer\n+([\s\S]*)$/;

/** Parts of a text, in order: {kind: "text" | "inline" | "display" | "figure", source, raw}. */
export function split(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(/\[asy\]([\s\S]*?)\[\/asy\]/g)) {
    splitMath(text.slice(from, match.index), parts);
    parts.push({ kind: "figure", source: match[1].trim(), raw: match[0] });
    from = match.index + match[0].length;
  }
  splitMath(text.slice(from), parts);
  return parts;
}

/** Displayed formulas and figures bring their own space: the blank lines around them in the source go. */
function trimmed(part, previous, next) {
  if (part.kind !== "text") return part;
  const isBlock = (other) => other?.kind === "display" || other?.kind === "figure";
  let source = part.source;
  if (isBlock(previous)) source = source.trimStart();
  if (isBlock(next)) source = source.trimEnd();
  return { ...part, source };
}

function splitMath(text, parts) {
  let plain = 0;
  let at = 0;
  const flush = (end) => {
    if (end > plain) parts.push({ kind: "text", source: text.slice(plain, end).replaceAll("\\$", "$"), raw: text.slice(plain, end) });
  };
  while (at < text.length) {
    const found = text[at] === "\\" || text[at] === "$" ? mathAt(text, at) : null;
    if (found) {
      flush(at);
      parts.push({ ...found.part, raw: text.slice(at, found.end) });
      at = plain = found.end;
    } else {
      at += text[at] === "\\" ? 2 : 1;
    }
  }
  flush(text.length);
}

function mathAt(text, at) {
  for (const [open, close, kind] of [["\\[", "\\]", "display"], ["\\(", "\\)", "inline"], ["$$", "$$", "display"]]) {
    if (text.startsWith(open, at)) {
      const end = unescaped(text, close, at + open.length);
      const source = text.slice(at + open.length, end);
      return end > 0 && source.trim() ? { part: { kind, source }, end: end + close.length } : null;
    }
  }
  if (text[at] === "\\") {
    const name = ENVIRONMENT.exec(text.slice(at, at + 40))?.[1];
    const close = `\\end{${name}}`;
    const end = name ? text.indexOf(close, at) : -1;
    return end < 0 ? null : { part: { kind: "display", source: text.slice(at, end + close.length) }, end: end + close.length };
  }
  const end = unescaped(text, "$", at + 1);
  const source = text.slice(at + 1, end);
  return end > 0 && isMath(source, text[end + 1] ?? "") ? { part: { kind: "inline", source }, end: end + 1 } : null;
}

/** Where `close` stands next, not behind a backslash and in the same paragraph; -1 where it does not. */
function unescaped(text, close, from) {
  for (let at = from; at < text.length; at += 1) {
    if (text.startsWith(close, at)) return at;
    if (text.startsWith("\n\n", at) && close === "$") return -1;
    if (text[at] === "\\") at += 1;
  }
  return -1;
}

/** Whether what stands between two dollar signs is a formula, or two prices and the words between them. */
function isMath(source, next) {
  if (!source.trim() || /\d/.test(next)) return false;
  const startsOpen = /^\s/.test(source);
  const endsOpen = /\s$/.test(source);
  if (!startsOpen && !endsOpen) return !/^[\d.,]+\s+[a-z]{2,}.*\s[a-z]{2,}/i.test(source) || /[\\^_{}]/.test(source);
  if (startsOpen && endsOpen) return /[\\^_{}=+<>]|^\s*\S+\s*$/.test(source);
  return /[\\^_{}]/.test(source);
}

/** Replace an element's content by the rendered text. A reference answer is a formula even without dollar signs. */
export function typeset(element, text, { answer = false, inline = false } = {}) {
  if (!text.trim()) return element.replaceChildren(make("span", "blank-text", "blank"));
  const heading = ANSWER.exec(text);
  const body = heading ? text.slice(0, heading.index) : text;
  element.replaceChildren(...nodes(body, answer, inline));
  if (heading) {
    const line = make("span", "answer-line");
    line.append(make("span", "answer-word", "Answer"), " ", ...nodes(heading[1].trim(), true, inline));
    element.append(line);
  }
  return requestAnimationFrame(() => containWide(element));
}

/** A formula that is wider than its column scrolls by itself, so that the page never does. */
function containWide(element) {
  const room = element.getBoundingClientRect().width;
  for (const span of element.querySelectorAll(".math:not(.math-display)")) {
    span.classList.toggle("math-wide", Math.max(0, ...[...span.querySelectorAll(".base")].map((base) => base.offsetWidth)) > room);
  }
}

function nodes(text, answer, inline) {
  let parts = split(text);
  if (!inline) parts = parts.map((part, index) => trimmed(part, parts[index - 1], parts[index + 1]));
  const bare = answer && parts.length === 1 && parts[0].kind === "text" && /[\\^_]/.test(text);
  return (bare ? [{ kind: "inline", source: text, raw: text }] : parts).map((part) => node(part, inline));
}

function node(part, inline) {
  if (part.kind === "text") return document.createTextNode(part.source);
  if (part.kind === "figure") {
    const details = make("details", "figure-source");
    const pre = document.createElement("pre");
    pre.textContent = part.source;
    details.append(make("summary", "", "Figure (source)"), pre);
    return details;
  }
  const displayMode = part.kind === "display" && !inline;
  const span = make("span", displayMode ? "math math-display" : "math");
  span.dataset.source = part.raw;
  try {
    withoutStyleAttributes(() =>
      globalThis.katex.render(part.source, span, { ...LIMITS, macros: { ...MACROS }, displayMode }));
  } catch (error) {
    const source = make("span", "katex-error", part.raw);
    source.title = String(error.message ?? error);
    span.replaceChildren(source);
  }
  return span;
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

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function typesetLater(entries) {
  for (const entry of entries) typeset(...entry);
  return { done: Promise.resolve() };
}

export function attach(element, attachments) {
  element.hidden = true;
}
