// A step of an agent: thought, action, what the action was given, what was observed.

const LABEL = /^[ \t]*(?:\*\*)?((?:Thought|Action Input|Action|Observation|Final Answer)(?: \d+)?)(?::\*\*|\*\*:|:)[ \t]*/gm;

/** [{label, kind, text}] when the text's first line starts with such a label, else null. */
export function turns(text) {
  const found = [...text.matchAll(LABEL)];
  if (!found.length || text.slice(0, found[0].index).trim() || found[0][1].startsWith("Final")) return null;
  return found.map((match, index) => ({
    label: match[1],
    kind: match[1].replace(/ \d+$/, ""),
    text: text.slice(match.index + match[0].length, found[index + 1]?.index).trim(),
  }));
}
