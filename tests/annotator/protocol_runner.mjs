// The page's reducer for test_protocol_parity.py. Each line of the input is {item, acts: [[act, isKept], …]}; each line of the
// output is a list with, for each act, the code under which the page refuses it, and what holds after it if it is kept.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [source] = process.argv.slice(2);
// As a data URL it is a module, whatever Node's version and package.json say.
const protocol = await import(`data:text/javascript;base64,${readFileSync(source).toString("base64")}`);

function judge({ item, acts }) {
  const kept = [];
  return acts.map(([act, isKept]) => {
    const refusal = protocol.refusal(item, protocol.fold(item, kept), act, kept);
    if (isKept) kept.push(act);
    const state = protocol.fold(item, kept);
    return { refusal, state, missing: protocol.missing(item, state), finish: protocol.finishReason(item, state) };
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(judge(JSON.parse(line)))}\n`);
}
