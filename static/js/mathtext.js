// Untrusted text (problems, steps, answers, critiques) on a page: mathematics first, then Markdown, code, agent turns.
//
// A page includes "includes/text_head.html" in its head and calls
//   typeset(element, text, {answer, inline})   replace the element's content, at once. Call it again for a new text (a preview).
//   typesetLater([[element, text, options], …])   the same for many: what stands first at once (one frame's work), the rest in
//       idle time, sooner when it nears the viewport. Works on elements that are not in the page yet. Returns {done: Promise}.
//       options.box: the element that is not laid out while it is far away, where it is more than the text's own.
//       A step that must be readable now: typeset(element, text, options) again; it takes the element out of the queue.
//   attach(element, attachments)   images of a problem, [{url, name}], as thumbnails that open larger; hides the element when none.
//   make(tag, className, text)
// Elements carry the class "math-text". Text only ever becomes text nodes; KaTeX alone makes other elements out of it.

import { formula } from "./text/formula.js";
import { forget, reserve, whenIdle } from "./text/later.js";
import { make, word } from "./text/make.js";
import { markdownNodes } from "./text/markdown.js";
import { split } from "./text/split.js";
import { turns } from "./text/turn.js";
import { watchWidth } from "./text/wide.js";

export { attach } from "./text/attachments.js";
export { make, split };

const LONGEST = 20_000;
const MOST_FORMULAS = 300;
const PIECE = 20_000;

// PRM800K ends the last step with this heading and the answer.
const ANSWER = "\n# Answer\n";

/** Replace an element's content by the rendered text. A reference answer is a formula even without dollar signs. */
export function typeset(element, text, options = {}) {
  forget(element);
  for (const _ of rendering(element, text, options));
}

/** The same for many elements, without keeping the page from answering: see the head of this file. */
export function typesetLater(entries) {
  for (const [element, text, options] of entries) {
    element.textContent = text.slice(0, LONGEST);
    if (!options?.inline && !options?.answer) reserve(options?.box ?? element, text);
  }
  return { done: whenIdle(entries.map(([element, text, options]) => [element, rendering(element, text, options ?? {})])) };
}

/** Renders step by step: the structure first, with formulas as their source, then one formula at a time. */
function* rendering(element, text, { answer = false, inline = false }) {
  const formulas = [];
  element.replaceChildren(...content(text, { answer, inline, formulas }));
  yield;
  for (const render of formulas) {
    render();
    yield;
  }
  watchWidth(element);
}

function content(text, context) {
  if (!text.trim()) return [make("span", "blank-text", word("blank"))];
  const [body, answer] = atAnswer(text);
  const shown = answer !== null && !body.trim() ? [] : agentTurns(body, context) ?? clipped(body, context);
  if (answer === null) return shown;
  const line = make("span", "answer-line");
  line.append(make("span", "answer-word", word("answer")), " ", ...clipped(answer, { ...context, answer: true }));
  return [...shown, line];
}

function atAnswer(text) {
  const at = `\n${text}`.indexOf(ANSWER);
  return at < 0 ? [text, null] : [text.slice(0, at).trimEnd(), text.slice(at + ANSWER.length - 1).trim()];
}

function agentTurns(text, context) {
  const found = context.inline || text.length > LONGEST ? null : turns(text);
  if (!found) return null;
  const list = make("dl", "turn");
  for (const { label, text: said, machine } of found) {
    const row = make("div", `turn-row turn-${label.split(" ", 1)[0].toLowerCase()}`);
    const plain = machine && split(said).every((part) => part.kind === "text");
    const body = make("dd", plain ? "turn-machine" : "");
    if (plain) body.textContent = said;
    else body.append(...nodes(said, context));
    row.append(make("dt", "", label), body);
    list.append(row);
  }
  return [list];
}

/** Of an extreme text the beginning is rendered; the rest waits, as plain text, behind a button. */
function clipped(text, context) {
  const end = limit(text);
  if (end === text.length) return nodes(text, context);
  const rest = make("span", "text-rest");
  const button = make("button", "link", word("all", { n: (text.length - end).toLocaleString(document.documentElement.lang || "en") }));
  button.type = "button";
  button.addEventListener("click", () => {
    const plain = [];
    for (let at = end; at < text.length; ) {
      const next = whole(text, at + PIECE);
      plain.push(make("span", "text-piece", text.slice(at, next)));
      at = next;
    }
    rest.replaceChildren(...plain);
  });
  rest.append(button);
  return [...nodes(text.slice(0, end), context), rest];
}

/** Where a text gets too long to be rendered in a moment: at a paragraph's or a word's end, or before one formula too many. */
function limit(text) {
  let end = text.length;
  if (end > LONGEST) {
    const paragraph = text.lastIndexOf("\n\n", LONGEST);
    const space = text.lastIndexOf(" ", LONGEST);
    end = paragraph > LONGEST / 2 ? paragraph : space > LONGEST / 2 ? space : whole(text, LONGEST);
  }
  if (end < 3 * MOST_FORMULAS) return end;
  let [at, formulas] = [0, 0];
  for (const part of split(text.slice(0, end))) {
    if ((part.kind === "inline" || part.kind === "display") && ++formulas > MOST_FORMULAS) return at;
    at += part.raw.length;
  }
  return end;
}

/** The same place, or one further where it would cut a character in two. */
const whole = (text, at) => (/[\uDC00-\uDFFF]/.test(text[at] ?? "") ? at + 1 : at);

function nodes(text, { answer, inline, formulas }) {
  const parts = split(text);
  const place = (some) => placed(some, inline, formulas);
  if (answer && parts.length === 1 && parts[0].kind === "text" && /[\\^_]/.test(text)) {
    return place([{ kind: "inline", source: text, raw: text }]);
  }
  return markdownNodes(parts, place, inline || answer) ?? place(parts);
}

/** Nodes for parts that stand in one line of text. */
function placed(parts, inline, formulas) {
  const trim = inline ? (part) => part : (part, index) => trimmed(part, parts[index - 1], parts[index + 1]);
  return parts.map(trim).map((part) => {
    if (part.kind === "figure") return figure(part.source);
    if (part.kind === "code") return make("code", "text-word", part.source);
    if (part.kind !== "inline" && part.kind !== "display") return document.createTextNode(part.kind === "fence" ? part.raw : part.source);
    const { span, render } = formula(part, part.kind === "display" && !inline);
    formulas.push(render);
    return span;
  });
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

function figure(source) {
  const details = make("details", "figure-source");
  details.append(make("summary", "", word("figure")), make("pre", "", source));
  return details;
}
