// Markdown in a text that is mathematics first. markdown-it finds the structure; we make the elements, from a short list.
//
// What Markdown would take away stays: links, images, HTML and entities are shown as their source, a list keeps the marker
// that was written, and where words would get lost the text is shown as it is.

import { codeBlock } from "./code.js";
import { make } from "./make.js";

const RULES = ["fence", "hr", "list", "heading", "blockquote", "table", "emphasis", "strikethrough"];
const DEEPEST = 20;
const MOST_TOKENS = 5000;
const MOST_CELLS = 2000;
const LONGEST_HEADING = 120; // what is longer is a paragraph after all
const TAGS = new Set(["p", "ul", "ol", "li", "blockquote", "thead", "tbody", "tr", "th", "td", "em", "strong", "s"]);

// A held part (formula, code, escaped sign) is a number between two private characters while Markdown is read.
const [OPEN, CLOSE] = ["\uE000", "\uE001"];
const HELD = /\uE000(\d+)\uE001/;

const MAY_BE_MARKDOWN = /[*_~#>|\\]|^[ \t]*(?:-|\d{1,9}[.)])(?:[ \t]|$)|^[ \t]*---/m;
const ESCAPED = /\\\\|\\([*_`#~|>+.-])/g;
// At the start of a line these are signs, not marks: a sum, a product, "# of apples", "> 5", a blank to fill in,
// the bar of a written sum.
const SIGNS = /^([ \t]*)(\+(?=[ \t])|\*(?=[ \t]+\d)|#(?=[ \t]+\p{Ll})|>(?![ \t]*\p{L}{2})|_(?=[ \t_]*$)|(?<=\S[ \t]*\n[ \t]*)-(?=-{2,}[ \t]*$))/gmu;

// Emphasis begins a word: behind a letter, a digit or a closing sign a star is a product. (Chinese has no spaces.)
const BEFORE_EMPHASIS = /[\s([{"'“‘«—–:;,/*_~>|-]|(?![\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}])\p{L}/u;
const STARTS_EMPHASIS = /[\p{L}\p{N}\p{Sc}\uE000("'“‘«[{\\+\-−=<*_~]/u;
const AFTER_PRODUCT = /[\p{Script=Latin}\p{Script=Greek}\p{N}([{\uE000]/u;

let parser = null;

function markdown() {
  if (parser || !globalThis.markdownit) return parser;
  parser = globalThis.markdownit("zero", { maxNesting: DEEPEST }).enable(RULES);
  const { State } = parser.inline;
  parser.inline.State = class extends State {
    scanDelims(start, canSplitWord) {
      const found = super.scanDelims(start, canSplitWord);
      const before = this.src[start - 1] ?? " ";
      const after = this.src[start + found.length] ?? " ";
      if (this.src[start] === "_") {
        found.can_open &&= found.length === 1 && /\p{L}/u.test(after);
      } else if (this.src[start] === "*") {
        const single = found.length === 1;
        found.can_open &&= found.length < 4 && STARTS_EMPHASIS.test(after) && BEFORE_EMPHASIS.test(before) && !(single && /\d/.test(after));
        found.can_close &&= !(single && AFTER_PRODUCT.test(after));
      }
      return found;
    }
  };
  return parser;
}

/** Nodes for the parts of a text, or null where there is no Markdown in it. `place(part)` makes a formula's or figure's
 * node; `inline` reads no blocks. */
export function markdownNodes(parts, place, inline) {
  const rich = parts.some((part) => part.kind === "code" || part.kind === "fence");
  if (!rich && !parts.some((part) => part.kind === "text" && MAY_BE_MARKDOWN.test(part.raw))) return null;
  const reader = markdown();
  if (!reader) return null;
  const { source, held } = hold(parts);
  if (cells(source) > MOST_CELLS) return null;
  const tokens = inline ? reader.parseInline(source, {}) : reader.parse(source, {});
  if (!rich && !held.some((part) => part.escaped) && tokens.every(isPlain)) return null;
  if (tokens.some(isMisread)) return null;
  if (tokens.length > MOST_TOKENS || tokens.some((token) => token.level >= DEEPEST - 1)) return null;
  if (countSigns(tokens.map(said).join("")) !== countSigns(source)) return null;
  return build(tokens, (text) => pieces(text, held, place));
}

function hold(parts) {
  const held = [];
  const keep = (part) => `${OPEN}${held.push(part) - 1}${CLOSE}`;
  let lineStart = true;
  const source = parts.map((part) => {
    const starts = lineStart;
    lineStart = part.raw.endsWith("\n");
    if (part.kind === "fence") return part.raw;
    if (part.kind !== "text") return keep(part);
    return part.raw
      .replace(/[\uE000\uE001]/g, (char) => keep({ kind: "text", source: char }))
      .replaceAll("\\$", () => keep({ kind: "text", source: "$" }))
      .replace(ESCAPED, (all, char) => (char ? keep({ kind: "text", source: char, escaped: true }) : all))
      .replace(SIGNS, (all, indent, char, at) => (at > 0 || starts ? indent + keep({ kind: "text", source: char }) : all));
  }).join("");
  return { source, held };
}

const isPlain = (token) =>
  token.type.startsWith("paragraph") || (token.type === "inline" && token.children.every((child) => child.type === "text"));

/** With a formula in it: no block of code for us, but one for Markdown, to which the backticks in its first line are hidden. */
const isMisread = (token) => token.type === "fence" && (token.content + token.info).includes(OPEN);

const said = (token) =>
  token.type === "inline" ? token.children.map((child) => child.content).join("") : token.content + token.info;

/** How many characters there are that are no marks of Markdown. */
const countSigns = (text) => text.replace(/[\s*_~#>|:+\-`.)]/g, "").length;

/** At most so many cells would a table have, which markdown-it fills up to the width of its head. */
function cells(source) {
  if (!source.includes("|")) return 0;
  const rows = source.split("\n").map((line) => line.split("|").length - 1).filter(Boolean);
  return rows.length * Math.max(0, ...rows);
}

function build(tokens, pieces) {
  const root = document.createDocumentFragment();
  const open = [root];
  for (const token of tokens) {
    const parent = open.at(-1);
    if (token.type === "inline") {
      if (token.content.length > LONGEST_HEADING) parent.classList?.remove("text-heading");
      parent.append(...inlineNodes(token.children, pieces));
    } else if (token.type === "fence") {
      const empty = !token.content.trim();
      parent.append(empty ? make("p", "", token.markup + token.info) : codeBlock(token.content, token.info.trim()));
    } else if (token.type === "hr") {
      parent.append(make("hr", "text-rule"));
    } else if (token.nesting > 0) {
      const { outer, inner } = token.hidden ? { inner: parent } : element(token);
      if (outer) parent.append(outer);
      open.push(inner);
    } else if (token.nesting < 0) {
      open.pop();
    }
  }
  return [...root.childNodes];
}

/** The element for a token that opens: what is put into the page, and what its content goes into. */
function element(token) {
  if (token.type === "heading_open") return same(make("p", "text-heading"));
  if (token.type === "list_item_open") {
    const outer = make("li");
    const inner = make("div", "text-item");
    outer.append(make("span", "text-marker", MARKERS[token.markup] ?? token.info + token.markup), inner);
    return { outer, inner };
  }
  if (token.type === "table_open") {
    const outer = make("div", "text-table");
    const inner = make("table");
    outer.append(inner);
    return { outer, inner };
  }
  const made = make(TAGS.has(token.tag) ? token.tag : "span");
  if (token.tag === "ul" || token.tag === "ol") made.setAttribute("role", "list");
  const align = /text-align:(right|center)/.exec(token.attrGet("style") ?? "")?.[1];
  if (align) made.className = `text-${align}`;
  return same(made);
}

const same = (made) => ({ outer: made, inner: made });
const MARKERS = { "-": "–", "*": "•" };

function inlineNodes(tokens, pieces) {
  const root = document.createDocumentFragment();
  const open = [root];
  for (const token of tokens) {
    if (token.nesting > 0) {
      const made = make(TAGS.has(token.tag) ? token.tag : "span");
      open.at(-1).append(made);
      open.push(made);
    } else if (token.nesting < 0) {
      open.pop();
    } else {
      open.at(-1).append(...pieces(token.content));
    }
  }
  return [...root.childNodes];
}

/** A token's text with the held parts back in their places. */
function pieces(text, held, place) {
  const parts = text.split(HELD).map((piece, index) => {
    if (index % 2 === 0) return { kind: "text", source: piece };
    return held[piece] ?? { kind: "text", source: OPEN + piece + CLOSE };
  });
  return place(parts.filter((part) => part.source || part.kind !== "text"));
}
