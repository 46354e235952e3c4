// A text cut into what is mathematics or code and what is not, before anything reads it as Markdown.

const ENVIRONMENT = /^\\begin\{([a-zA-Z]+\*?)\}/;
const FENCE = /^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}(?=[^`\n]*$)|~{3,})[^\n]*$/gm;
// Commands that often stand without dollar signs in what language models write, and how many groups they take.
const BARE = /^\\(?:(boxed|fbox|sqrt|overline)|[dt]?(?:frac|binom))(?=\{)/;
const NEAR = 1000; // characters; what closes later belongs to something else
const DELIMITERS = [["\\[", "\\]", "display"], ["\\(", "\\)", "inline"], ["$$", "$$", "display"]];

/** Parts of a text, in order: {kind: "text" | "inline" | "display" | "figure" | "code" | "fence", source, raw}. */
export function split(text) {
  const parts = [];
  let from = 0;
  for (const block of blocks(text)) {
    splitLine(text.slice(from, block.start), parts);
    parts.push({ kind: block.kind, source: block.source, raw: text.slice(block.start, block.end) });
    from = block.end;
  }
  splitLine(text.slice(from), parts);
  return parts;
}

/** What stands for itself whatever is in it: fenced code and figures, which hold dollar signs of their own. */
function* blocks(text) {
  let from = 0;
  const found = [
    ...[...text.matchAll(/\[asy\]([\s\S]*?)\[\/asy\]/g)].map((match) => ({
      kind: "figure", source: match[1].trim(), start: match.index, end: match.index + match[0].length })),
    ...fences(text),
  ].sort((a, b) => a.start - b.start);
  for (const block of found) {
    if (block.start < from) continue;
    yield block;
    from = block.end;
  }
}

/** From the line that opens to the line that closes, or to the end of the text, as Markdown has it. */
function* fences(text) {
  let from = 0;
  for (const match of text.matchAll(FENCE)) {
    if (match.index < from) continue;
    const [mark] = match[1];
    const close = new RegExp(`^[ \\t>]*\\${mark}{${Math.min(match[1].length, 999)},}[ \\t]*$`, "m");
    const body = match.index + match[0].length;
    const end = close.exec(text.slice(body + 1));
    from = end ? body + 1 + end.index + end[0].length : text.length;
    yield { kind: "fence", source: "", start: match.index, end: from };
  }
}

function splitLine(text, parts) {
  const never = new Set(); // what does not close once will not close later either
  let plain = 0;
  let at = 0;
  const flush = (end) => {
    if (end > plain) parts.push({ kind: "text", source: text.slice(plain, end).replaceAll("\\$", "$"), raw: text.slice(plain, end) });
  };
  while (at < text.length) {
    const char = text[at];
    const found = char === "\\" || char === "$" ? mathAt(text, at, never) : char === "`" ? codeAt(text, at, never) : null;
    if (found?.part) {
      flush(at);
      parts.push({ ...found.part, raw: text.slice(at, found.end) });
      plain = found.end;
    }
    at = found?.end ?? at + (char === "\\" ? 2 : 1);
  }
  flush(text.length);
}

function mathAt(text, at, never) {
  for (const [open, close, kind] of DELIMITERS) {
    if (!text.startsWith(open, at)) continue;
    const end = never.has(close) ? -1 : unescaped(text, close, at + open.length);
    if (end < 0) never.add(close);
    const source = text.slice(at + open.length, end);
    if (end < 0 || !source.trim()) return null;
    return { part: { kind, source }, end: end + close.length };
  }
  if (text[at] === "\\") {
    const bare = bareAt(text, at);
    if (bare) return bare;
    const name = ENVIRONMENT.exec(text.slice(at, at + 40))?.[1];
    const close = `\\end{${name}}`;
    const end = name && !never.has(close) ? text.indexOf(close, at) : -1;
    if (end < 0) never.add(close);
    return end < 0 ? null : { part: { kind: "display", source: text.slice(at, end + close.length) }, end: end + close.length };
  }
  const end = dollarAfter(text, at + 1);
  const source = text.slice(at + 1, end);
  return end > 0 && isMath(source, text[end + 1] ?? "") ? { part: { kind: "inline", source }, end: end + 1 } : null;
}

/** A command that needs no delimiters to be known as mathematics, with its groups. */
function bareAt(text, at) {
  const found = BARE.exec(text.slice(at, at + 12));
  if (!found) return null;
  let end = at + found[0].length;
  for (let groups = found[1] ? 1 : 2; groups > 0; groups -= 1) {
    if (text[end] !== "{") return null;
    end = groupEnd(text, end);
    if (end < 0) return null;
  }
  return { part: { kind: "inline", source: text.slice(at, end) }, end };
}

/** Behind the brace that closes the one at `at`, in the same paragraph and not too far; -1 without one. */
function groupEnd(text, at) {
  let depth = 0;
  for (let end = at; end < Math.min(text.length, at + NEAR); end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text[end] === "{") depth += 1;
    else if (text[end] === "}" && --depth === 0) return end + 1;
    else if (text.startsWith("\n\n", end)) return -1;
  }
  return -1;
}

/** Where `close` stands next, not behind a backslash and in the same paragraph; -1 where it does not. */
function unescaped(text, close, from) {
  for (let at = from; at < text.length; at += 1) {
    if (text.startsWith(close, at)) return at;
    if (close === "$" && text.startsWith("\n\n", at)) return -1;
    if (text[at] === "\\") at += 1;
  }
  return -1;
}

/** The dollar sign that closes: outside of groups ("$\text{if $x$}$") where there is one near, else the first. */
function dollarAfter(text, from) {
  const first = unescaped(text, "$", from);
  let depth = 0;
  for (let at = from; first >= 0 && at < Math.min(text.length, from + NEAR) && !text.startsWith("\n\n", at); at += 1) {
    if (text[at] === "$" && depth <= 0) return at;
    if (text[at] === "{") depth += 1;
    else if (text[at] === "}") depth -= 1;
    else if (text[at] === "\\") at += 1;
  }
  return first;
}

/** Whether what stands between two dollar signs is a formula, or two prices and the words between them. */
function isMath(source, next) {
  if (!source.trim() || /\d/.test(next) || /(?<!\\)\\[([]/.test(source)) return false;
  const startsOpen = /^\s/.test(source);
  const endsOpen = /\s$/.test(source);
  if (!startsOpen && !endsOpen) return !/^[\d.,]+\s+[a-z]{2,}.*\s[a-z]{2,}/i.test(source) || /[\\^_{}]/.test(source);
  if (startsOpen && endsOpen) return /[\\^_{}=+<>]|^\s*\S+\s*$/.test(source);
  return /[\\^_{}]/.test(source);
}

/** Code between backticks, as many as before it and in the same paragraph. TeX's ``quotes'' and `quotes' are none. */
function codeAt(text, at, never) {
  let from = at;
  while (text[from] === "`") from += 1;
  const ticks = text.slice(at, from);
  const paragraph = text.indexOf("\n\n", from);
  for (let end = never.has(ticks) ? -1 : text.indexOf(ticks, from); end >= 0; end = text.indexOf(ticks, end)) {
    if (paragraph >= 0 && end > paragraph) break;
    let after = end;
    while (text[after] === "`") after += 1;
    if (after - end === ticks.length) {
      const source = text.slice(from, end);
      if (ticks === "``" ? source.includes("''") : /^\s|\s$/.test(source) && source.includes("'")) return { end: from };
      return { part: { kind: "code", source: source.replace(/^ (.*\S.*) $/s, "$1") }, end: after };
    }
    end = after;
  }
  if (paragraph < 0) never.add(ticks);
  return { end: from };
}
