// The page around the item: the bottom bar, which never moves, one line above it, and the page without an item.

import * as protocol from "./protocol.js";
import { openPanel, valueAt } from "./session.js";
import { find, word } from "./words.js";

const RATES = [["bad", -1], ["neutral", 0], ["good", 1]];
const bar = find("bar");
const button = (act) => bar.querySelector(`[data-act=${act}]`);

/** Bring the bar in line with the item and the cursor. */
export function drawBar(session) {
  const { stop } = session;
  const value = valueAt(session, stop);
  const canRate = ["step", "critique", "alternative", "candidate"].includes(stop?.kind) && !picks(session);
  for (const [act, rating] of RATES) {
    button(act).setAttribute("aria-pressed", String(canRate && value === rating));
    button(act).disabled = !canRate || (session.earlier && rating !== -1);
  }
  const { completion } = stop ?? {};
  const flagged = completion && canRate ? session.unsure || protocol.flaggedOf(session.state, completion) : false;
  button("unsure").setAttribute("aria-pressed", String(flagged));
  button("unsure").disabled = !canRate || !completion || session.earlier;
  button("undo").disabled = !session.last;
  const isTargeted = session.item.protocol.phase === 2 && session.item.targets !== null;
  button("earlier").hidden = !isTargeted;
  button("earlier").disabled = isTargeted && session.step === 0;
  button("earlier").setAttribute("aria-pressed", String(session.earlier));
  drawSubmit(session);
}

/** Whether digits choose what continues, instead of rating. */
export const picks = (session) => session.item.protocol.phase === 1 && session.way.at(-1).wants === "choice" && session.stop?.kind === "candidate" && session.stop.step === session.way.at(-1).step;

function drawSubmit(session) {
  const { text, isReady, isOpen = isReady } = submitWords(session);
  const submit = find("submit");
  submit.disabled = !isOpen;
  submit.classList.toggle("button-main", isReady);
  submit.textContent = text;
}

/** What the wide button says: what Enter would do, or what is missing. */
function submitWords(session) {
  const { item, state } = session;
  if (session.earlier) return { text: word("pickEarlier", { n: session.stop.step + 1 }), isReady: true };
  if (picks(session)) return { text: word("pick"), isReady: valueAt(session, session.stop) === 1 };
  const panel = openPanel(session);
  const [lack] = protocol.missing(item, state);
  if (panel && !lackingIn(session, panel)) return { text: word(panel.coming ? "goOnWaiting" : "goOn"), isReady: false, isOpen: true };
  if (lack) return { text: word(`missing-${lackName(session, lack)}`), isReady: false };
  if (item.revision > 0) return { text: word("submitCorrection"), isReady: true };
  if (session.asked) return { text: word("submitAnyway"), isReady: true };
  const reason = protocol.finishReason(item, state);
  if (reason === "found_error") return { text: word("submitError", { n: protocol.errorAt(item, state) + 1 }), isReady: true };
  if (item.protocol.phase === 1) return { text: word("submitTree"), isReady: true };
  return { text: word(reason === "solution" ? "submitSolution" : "submitTargets"), isReady: true };
}

export const lackingIn = (session, panel) => protocol.missing(session.item, session.state).includes(panel.name);

function lackName(session, lack) {
  if (lack !== "ratings") return lack;
  if (session.item.protocol.phase === 1) return "candidates";
  return session.item.targets === null ? "steps" : "targets";
}

export function sending() {
  find("submit").disabled = true;
  find("submit").textContent = word("sending");
}

export function showItem() {
  find("stage").hidden = bar.hidden = false;
  find("waiting").hidden = true;
}

/** There is no item: say why. */
export function wait(what, more = "", action = null) {
  find("stage").hidden = bar.hidden = find("reopened").hidden = true;
  const waiting = find("waiting");
  waiting.querySelector(".waiting-what").textContent = what;
  waiting.querySelector(".waiting-more").textContent = more;
  offer(waiting.querySelector("button"), action);
  waiting.hidden = false;
}

export function today(count) {
  find("today").textContent = count;
}

/** One line above the bar, with at most two things to do about it; an empty text takes it away. */
export function notice(text, ...actions) {
  const box = find("notice");
  box.hidden = !text;
  if (box.querySelector("p").textContent !== text) box.querySelector("p").textContent = text;
  for (const [place, element] of [...box.querySelectorAll("button")].entries()) offer(element, actions[place]);
}

function offer(element, action) {
  element.hidden = !action;
  element.textContent = action?.label ?? "";
  element.onclick = action?.act ?? null;
}

export function saved(state, waiting) {
  const mark = find("saved");
  mark.dataset.state = state;
  const text = mark.dataset[state].replace("{n}", waiting);
  if (mark.textContent !== text) mark.textContent = text;
}

/** Whether a comment, or a report of the reference answer, goes with the item. */
export function noted(act, is) {
  button(act).setAttribute("aria-pressed", String(is));
}
