// A step of an agent: thought, action, what the action was given, what was observed.

const LABEL = /^[ \t]*(?:\*\*)?((?:Thought|Action Input|Action|Observation|Final Answer)(?: \d+)?)(?::\*\*|\*\*:|:)[ \t]*/gm;

/** [{label, text, machine}] when the text's first line starts with such a label, else null. `machine` is what a program reads
 * or writes. A lone "Observation 2:" is a mathematician's. */
export function turns(text) {
  const found = [...text.matchAll(LABEL)];
  if (!found.length || text.slice(0, found[0].index).trim()) return null;
  const lone = found.length === 1 && !/^(?:Thought|Action)/.test(found[0][1]);
  if (lone && found[0][1] !== "Observation") return null;
  return found.map((match, index) => {
    const said = text.slice(match.index + match[0].length, found[index + 1]?.index).trim();
    return { label: match[1], text: said, machine: /^(?:Action|Observation)/.test(match[1]) && (!lone || /^[[{<]|\n/.test(said)) };
  });
}
