// Code blocks. The colours come when highlight.js has been fetched, which happens at the first block that can use it.

import { make } from "./make.js";

const LONGEST = 10_000;

/** `info` is what stands behind the opening fence; its first word names the language. */
export function codeBlock(source, info) {
  const block = make("figure", "text-code");
  if (info) block.append(make("figcaption", "", info));
  const code = make("code", "", source.replace(/\n$/, ""));
  const pre = make("pre");
  pre.append(code);
  block.append(pre);
  const language = info.split(/[\s{,]/, 1)[0].toLowerCase();
  if (language && source.length <= LONGEST) highlight(code, language);
  return block;
}

async function highlight(code, language) {
  try {
    const { default: highlighter } = await import("../../vendor/highlight/highlight.min.js");
    if (!highlighter.getLanguage(language)) return;
    const { _emitter: emitter } = highlighter.highlight(code.textContent, { language, ignoreIllegals: true });
    const coloured = spans(emitter.rootNode.children);
    const text = coloured.map((node) => node.textContent).join("");
    if (text === code.textContent) code.replaceChildren(...coloured);
  } catch {
    // Without its colours it is the same code.
  }
}

/** highlight.js also offers HTML; its tree of scopes needs no parsing. */
function spans(children) {
  return children.map((child) => {
    if (typeof child === "string") return document.createTextNode(child);
    const span = make("span", child.scope ? `code-${child.scope.split(".", 1)[0].replaceAll(/[^a-z]/g, "")}` : "");
    span.append(...spans(child.children));
    return span;
  });
}
