// What a labeler who listens is told after an act: what was done, and what is next.

import * as protocol from "./protocol.js";
import { openPanel, valueAt } from "./session.js";
import { ratingWord, word } from "./words.js";

export function afterAct(session, stop, value) {
  return `${word("rated", { what: nameOf(session, stop), word: ratingWord(value) })} ${whatIsNext(session)}`;
}

export function whatIsNext(session) {
  const { item, state } = session;
  const panel = openPanel(session);
  if (panel) return session.stop.completion || session.stop.critique ? `${word(`ask-${panel.name}`)} ${nameOf(session, session.stop)}.` : word(`ask-${panel.name}`);
  if (session.asked) return word("answerDiffers");
  const reason = protocol.finishReason(item, state);
  if (reason === "found_error") return word("errorFound");
  if (reason !== null) return word("complete");
  const { wants } = item.protocol.phase === 1 ? session.way.at(-1) : {};
  if (wants === "choice") return word("chooseNext");
  if (wants === "own_step") return word(session.stop.kind === "coming" ? "candidates-coming" : "missing-own_step");
  return word("current", { what: nameOf(session, session.stop) });
}

/** "Step 3: neutral", where the cursor has gone. */
export function here(session) {
  const { stop } = session;
  const name = nameOf(session, stop);
  const value = valueAt(session, stop);
  return value === null ? name : `${name}: ${ratingWord(value)}`;
}

function nameOf(session, stop) {
  if (stop.kind === "step") return word("step", { n: stop.step + 1 });
  if (stop.kind === "candidate") {
    const place = session.way[stop.step]?.shown.indexOf(stop.completion) ?? 0;
    return word("candidate", { n: place + 1, step: stop.step + 1 });
  }
  if (stop.kind === "critique") return word("critique", { n: placeIn(session, stop) });
  if (stop.kind === "alternative") return word("alternative", { n: placeIn(session, stop) });
  if (stop.kind === "progress") return word("ask-progress");
  return word({ own: "ownCritique", write: "ownStep", written: "ownStep", coming: "candidates-coming", end: "complete" }[stop.kind]);
}

const placeIn = (session, stop) => session.stops.filter(({ kind }) => kind === stop.kind).findIndex(({ id }) => id === stop.id) + 1;
