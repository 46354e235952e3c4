// One item in front of the labeler: the acts so far and the place where the next key falls. No DOM, no network.
//
// A place ("stop") is what one key can answer: {id, kind: "step" | "progress" | "critique" | "own" | "alternative" |
// "candidate" | "written" | "write" | "coming" | "end", step, completion, critique}.

import * as protocol from "./protocol.js";

const FOLLOW_UPS = ["progress", "critiques", "alternatives"];

export class Session {
  #error = -1;
  cursor = "";
  passed = new Set(); // optional panels that were left behind
  earlier = false; // targeted: a step that is not asked for is being picked
  unsure = false; // waits for the rating of the current completion
  asked = false; // "the answer differs: end as a solution?" is on the page
  synced = true; // the server has answered to all acts

  constructor(payload, pending = []) {
    this.item = payload;
    this.acts = [...payload.acts];
    this.#error = this.#errorNow();
    // What was optional and unanswered when it was submitted was left behind then.
    if (payload.revision > 0 && this.#error >= 0) this.passed = new Set(FOLLOW_UPS);
    this.take(pending);
    this.rest();
  }

  #errorNow() {
    return this.item.protocol.phase === 2 ? protocol.errorAt(this.item, this.state) : -1;
  }

  get state() {
    return (this.folded ??= protocol.fold(this.item, this.acts));
  }

  get step() {
    return protocol.currentStep(this.item, this.state);
  }

  get way() {
    return (this.walked ??= protocol.walk(this.item, this.state));
  }

  get stops() {
    return this.item.protocol.phase === 1 ? treeStops(this) : pathStops(this);
  }

  get stop() {
    const { stops } = this;
    return stops.find(({ id }) => id === this.cursor) ?? stops.at(-1);
  }

  /** One act of this labeler here. Returns the code of a refusal, or null. */
  add(act) {
    const code = protocol.refusal(this.item, this.state, act, this.acts);
    if (code) return code;
    const folded = act.kind === "undo" ? undefined : protocol.apply(this.item, this.state, act);
    this.acts.push(act);
    this.#changed(folded);
    return null;
  }

  /** Acts that came about elsewhere: in another tab, or before a reload (`earlier`: before all that are here). Returns
   * whether any was news. */
  take(acts, earlier = []) {
    const before = this.acts.length;
    const known = new Map([...earlier, ...this.acts, ...acts].map((act) => [act.client_id, act]));
    this.acts = [...known.values()];
    if (this.acts.length > before) this.#changed();
    return this.acts.length > before;
  }

  /** Completions, critiques and what is still on its way, as the server has them now. A cursor that was on what is next
   * stays on what is next. */
  grow({ completions = this.item.completions, critiques = this.item.critiques, waiting = this.item.waiting }) {
    const isAtRest = ["", "coming", this.next].includes(this.cursor);
    this.item = { ...this.item, completions, critiques, waiting };
    this.#changed();
    if (isAtRest) this.rest();
  }

  #changed(folded) {
    this.folded = folded;
    this.walked = undefined;
    this.asked = this.earlier = this.unsure = false;
    const error = this.#errorNow();
    if (error !== this.#error) this.passed.clear(); // the follow-ups are about another step, or about none
    this.#error = error;
  }

  /** The place that is to be answered next. */
  get next() {
    return this.item.protocol.phase === 1 ? nextInTree(this) : nextOnPath(this);
  }

  rest() {
    this.cursor = this.next;
  }

  /** Move by one place. Returns whether there was one. */
  move(by) {
    const { stops } = this;
    const at = stops.findIndex(({ id }) => id === this.stop?.id);
    const to = stops[Math.min(Math.max(at + by, 0), stops.length - 1)];
    this.unsure = this.asked = false;
    this.cursor = to?.id ?? "";
    return to !== stops[at];
  }

  go(id) {
    if (!this.stops.some((stop) => stop.id === id)) return false;
    this.unsure = this.asked = false;
    this.cursor = id;
    return true;
  }

  /** The act that an undo takes back, or undefined. */
  get last() {
    return protocol.standing(this.acts).at(-1);
  }
}

/** The place that an act was about. */
export function placeOf(session, act) {
  if (act.kind === "critique") return `critique:${act.critique}`;
  if (act.kind === "own_critique") return "own";
  if (act.kind === "progress") return "progress";
  if (act.kind === "write") return "write";
  const completion = protocol.completionOf(session.item, act.completion);
  if (session.item.protocol.phase === 1) return `candidate:${act.completion}`;
  return completion.index === 0 ? `step:${completion.step}` : `alternative:${completion.id}`;
}

export function valueAt({ state }, stop) {
  if (stop?.completion) return protocol.valueOf(state, stop.completion);
  if (stop?.critique) return state.critiques[stop.critique.id] ?? null;
  return null;
}

// --- Phase 2 -----------------------------------------------------------------------------------------------------------

const stepStop = (completion) => ({ id: `step:${completion.step}`, kind: "step", step: completion.step, completion });

/** The follow-ups of the first − of a whole solution, in order; those without content are not among them. `done` ones let
 * the next one open. */
export function panels(session) {
  const { item, state, passed } = session;
  const error = item.protocol.phase === 2 && item.targets === null ? protocol.errorAt(item, state) : -1;
  if (error < 0) return [];
  const lacks = protocol.missing(item, state);
  const own = protocol.pathOf(item)[error];
  const found = [];
  const add = (name, stops, answered, coming, missing) => {
    const required = item.protocol[name] === "required";
    if (item.protocol[name] === "off" || (!stops.length && !coming)) return;
    const done = answered || (passed.has(name) && !missing.some((lack) => lacks.includes(lack)));
    found.push({ name, stops, answered, coming, required, done, open: found.every((panel) => panel.done) });
  };
  add("progress", [{ id: "progress", kind: "progress" }], state.progress !== null, false, ["progress"]);

  const critiques = protocol.critiquesOf(item, error);
  const values = critiques.map(({ id }) => state.critiques[id] ?? null);
  const rated = values.length > 0 && !values.includes(null);
  const critiqueStops = critiques.map((critique) => ({ id: `critique:${critique.id}`, kind: "critique", critique }));
  if (critiques.length) critiqueStops.push({ id: "own", kind: "own" });
  const explained = rated && (values.includes(1) || state.own_critique !== "");
  const critiquesCome = isComing(item, "critiques", own.id) || isComing(item, "critiques", own.parent);
  add("critiques", critiqueStops, explained, !critiques.length && critiquesCome, ["critiques"]);

  const alternatives = protocol.alternativesOf(item, error);
  const alternativeStops = alternatives.map((completion) => ({ id: `alternative:${completion.id}`, kind: "alternative", completion }));
  const all = alternatives.length > 0 && alternatives.every((one) => protocol.valueOf(state, one) !== null);
  add("alternatives", alternativeStops, all, !alternatives.length && isComing(item, "steps", own.parent), ["alternatives"]);
  return found;
}

export const openPanel = (session) => panels(session).find((panel) => panel.open && !panel.done);

function pathStops(session) {
  const { item, state } = session;
  const path = protocol.pathOf(item);
  if (session.earlier) return path.slice(0, session.step).map(stepStop);
  const asked = new Set(protocol.asked(item));
  const error = protocol.errorAt(item, state);
  const found = path.slice(0, session.step + 1).filter(({ step }) => asked.has(step) || step === error).map(stepStop);
  const follow = panels(session);
  for (const panel of follow) if (panel.open) found.push(...(panel.stops.length ? panel.stops : [{ id: "coming", kind: "coming" }]));
  if (follow.length && follow.every((panel) => panel.done)) found.push({ id: "end", kind: "end" });
  return found;
}

function nextOnPath(session) {
  const follow = panels(session);
  const panel = openPanel(session);
  if (!panel) return follow.length ? "end" : `step:${session.step}`;
  if (!panel.stops.length) return "coming";
  return (panel.stops.find((stop) => stop.kind === "own" || stop.kind === "progress" || valueAt(session, stop) === null) ?? panel.stops.at(-1)).id;
}

// --- Phase 1 -----------------------------------------------------------------------------------------------------------

/** "coming", "failed" or "" for what the walk waits for at its end. */
export function awaited(session) {
  const { item, synced } = session;
  const last = session.way.at(-1);
  if (last.wants !== "own_step" || last.shown.length) return "";
  const entry = waitingFor(item, "steps", last.parent);
  return entry?.state ?? (synced || item.protocol.source === "imported" ? "" : "coming");
}

function treeStops(session) {
  const found = [];
  const step = stepOf(session);
  for (const entry of session.way) {
    const all = entry.wants || entry.step === step;
    for (const completion of all ? entry.shown : [entry.completion].filter(Boolean)) {
      found.push({ id: `candidate:${completion.id}`, kind: "candidate", step: entry.step, completion });
    }
    if (entry.written) found.push({ id: `written:${entry.step}`, kind: "written", step: entry.step });
  }
  const { wants } = session.way.at(-1);
  if (!wants) found.push({ id: "end", kind: "end" });
  else if (wants === "own_step") found.push(awaited(session) === "coming" ? { id: "coming", kind: "coming" } : { id: "write", kind: "write" });
  return found;
}

/** The step whose candidates are all open: that of the cursor. */
export function stepOf({ way, cursor }) {
  const [kind, id] = cursor.split(":");
  if (kind === "written") return Number(id);
  return way.find((entry) => entry.shown.some((one) => kind === "candidate" && one.id === Number(id)))?.step ?? way.at(-1).step;
}

function nextInTree(session) {
  const last = session.way.at(-1);
  if (!last.wants) return "end";
  if (last.wants === "own_step") return awaited(session) === "coming" ? "coming" : "write";
  const good = last.wants === "choice" ? 1 : null;
  return `candidate:${last.shown.find((one) => protocol.valueOf(session.state, one) === good).id}`;
}

// --- What is on its way ------------------------------------------------------------------------------------------------

const waitingFor = (item, kind, parent) => item.waiting.find((entry) => entry.kind === kind && entry.parent === parent);
const isComing = (item, kind, parent) => waitingFor(item, kind, parent)?.state === "coming";

/** Whether the page should look for what a worker is preparing for the place where the labeler is. */
export function isWaiting(session) {
  if (session.item.protocol.phase === 1) return awaited(session) === "coming";
  return panels(session).some((panel) => panel.open && panel.coming);
}
