// What a labeler has said about one item is a fold over their acts: no DOM, no network, no clock. The server folds the same
// acts with the same rules (annotator/protocol.py), and a test compares the two.
//
// State: {ratings: {completion: {value, flagged}}, choices: {step: completion}, written: {step: client id},
//         texts: {client id: text}, progress, critiques: {critique: value}, own_critique}

const RATINGS = new Set([-1, 0, 1]);
const MOST_ALTERNATIVES = 7;

export const nothingSaid = () => ({
  ratings: {}, choices: {}, written: {}, texts: {}, progress: null, critiques: {}, own_critique: "",
});

/** The acts that still hold: an undo takes back the act that it names, and neither of them counts. */
export function standing(acts) {
  const kept = [];
  for (const act of acts) {
    if (act.kind !== "undo") kept.push(act);
    else if (kept.at(-1)?.client_id === act.undoes) kept.pop();
  }
  return kept;
}

export const fold = (item, acts) => standing(acts).reduce((state, act) => apply(item, state, act), nothingSaid());

/** The state after one more act, which is no undo. The act is taken as it is: `refusal` says whether it may be. */
export function apply(item, state, act) {
  const next = { ...state };
  if (act.kind === "rate") {
    next.ratings = { ...state.ratings };
    if (act.value === null) delete next.ratings[act.completion];
    else next.ratings[act.completion] = { value: act.value, flagged: Boolean(act.flagged) };
  } else if (act.kind === "choose") {
    next.choices = { ...state.choices, [indexOf(item).byId.get(act.completion)?.step]: act.completion };
  } else if (act.kind === "write") {
    next.written = { ...state.written, [walk(item, state).at(-1).step]: act.client_id };
    next.texts = { ...state.texts, [act.client_id]: act.text };
  } else if (act.kind === "progress") {
    next.progress = act.value;
  } else if (act.kind === "critique") {
    next.critiques = { ...state.critiques };
    if (act.value === null) delete next.critiques[act.critique];
    else next.critiques[act.critique] = act.value;
  } else if (act.kind === "own_critique") {
    next.own_critique = act.text.trim() ? act.text : "";
  }
  return item.protocol.phase === 1 ? pruneTree(item, next) : prunePath(item, next, errorAt(item, state));
}

// --- Phase 2: a ready path ---------------------------------------------------------------------------------------------

/** The step of the first −, or -1. */
export const errorAt = (item, state) => pathOf(item).findIndex((completion) => valueOf(state, completion) === -1);

/** The steps that are asked for, by their places on the path. */
export const asked = (item) => indexOf(item).asked;

/** The step to judge now: the error, else the first unrated of those asked for, else the last of them. */
export function currentStep(item, state) {
  const error = errorAt(item, state);
  if (error >= 0) return error;
  return asked(item).find((step) => valueOf(state, pathOf(item)[step]) === null) ?? asked(item).at(-1);
}

export function alternativesOf(item, step) {
  const own = pathOf(item)[step];
  return candidatesOf(item, own.parent).filter((one) => one.index > 0).slice(0, MOST_ALTERNATIVES);
}

export const critiquesOf = (item, step) => item.critiques.filter((critique) => critique.completion === pathOf(item)[step].id);

/** Follow-ups belong to one error: they go with it, also when the first − moves. */
function prunePath(item, state, errorBefore) {
  const ratings = {};
  let error = -1;
  const isAsked = new Set(asked(item));
  for (const [step, completion] of pathOf(item).entries()) {
    const rating = state.ratings[completion.id];
    if (rating) ratings[completion.id] = rating;
    if (rating?.value === -1) error = step;
    if (error >= 0 || (!rating && isAsked.has(step))) break;
  }
  // A step that is not asked for may lie behind the first unrated target only as nothing.
  if (error < 0 || error !== errorBefore) {
    return { ...state, ratings, progress: null, critiques: {}, own_critique: "" };
  }
  for (const { id } of alternativesOf(item, error)) if (state.ratings[id]) ratings[id] = state.ratings[id];
  return { ...state, ratings };
}

// --- Phase 1: a tree that grows ----------------------------------------------------------------------------------------

export function candidatesOf(item, parent) {
  return indexOf(item).byParent.get(parent) ?? [];
}

/** The labeler's way from the root: one entry a step, {step, parent, shown, wants, completion, written}. `wants` is "rate",
 * "choose" or "write" on the last entry while it is open; `completion` or `written` (a client id) is what continues. */
export function walk(item, state) {
  const steps = [];
  let parent = null;
  for (let step = 0; ; step += 1) {
    const entry = { step, parent, shown: shownAt(item, state, parent), ...continuation(item, state, parent, step) };
    steps.push(entry);
    if (entry.wants) return steps;
    const text = entry.completion ? entry.completion.text : state.texts[entry.written];
    if (isFinal(text)) return steps;
    parent = entry.completion ? entry.completion.id : entry.written;
  }
}

export function shownAt(item, state, parent) {
  const candidates = candidatesOf(item, parent).slice(0, item.protocol.candidates);
  const [first, ...others] = candidates;
  if (!first || item.protocol.always_grid) return candidates;
  const opened = [-1, 0].includes(valueOf(state, first)) || others.some((one) => valueOf(state, one) !== null);
  return opened ? candidates : [first];
}

function continuation(item, state, parent, step) {
  const shown = shownAt(item, state, parent);
  if (shown.some((one) => valueOf(state, one) === null)) return { wants: "rate" };
  const good = shown.filter((one) => valueOf(state, one) === 1);
  if (good.length === 1) return { completion: good[0] };
  if (good.length > 1) {
    const chosen = good.find((one) => one.id === state.choices[step]);
    if (chosen) return { completion: chosen };
    if (item.protocol.continue_by === "labeler") return { wants: "choose" };
    return { completion: good.reduce((lowest, one) => (one.draw < lowest.draw ? one : lowest)) };
  }
  return state.written[step] ? { written: state.written[step] } : { wants: "write" };
}

export const isFinal = (text) => text.split("\n").some((line) => line.trim() === "# Answer");

function pruneTree(item, state) {
  const ratings = {};
  const choices = {};
  const written = {};
  const texts = {};
  for (const entry of walk(item, state)) {
    for (const { id } of entry.shown) if (state.ratings[id]) ratings[id] = state.ratings[id];
    if (entry.completion && entry.completion.id === state.choices[entry.step]) {
      const several = entry.shown.filter((one) => valueOf(state, one) === 1).length > 1;
      if (several) choices[entry.step] = entry.completion.id;
    }
    if (entry.written) {
      written[entry.step] = entry.written;
      texts[entry.written] = state.texts[entry.written];
    }
  }
  return { ...state, ratings, choices, written, texts };
}

// --- Whether an act may be, and what is missing ------------------------------------------------------------------------

/** The code under which the server would refuse this act, or null. `acts` are those before it. */
export function refusal(item, state, act, acts = []) {
  if (act.kind === "undo") return standing(acts).at(-1)?.client_id === act.undoes ? null : "not_last";
  if (act.kind === "write" || act.kind === "own_critique") {
    if (typeof act.text !== "string" || (act.kind === "write" && !act.text.trim())) return "text_missing";
  }
  if (item.protocol.phase === 1) return refusalInTree(item, state, act);
  if (act.kind === "rate") return refusalOnPath(item, state, act);
  return refusalOfFollowUp(item, state, act);
}

function refusalOnPath(item, state, act) {
  const completion = indexOf(item).byId.get(act.completion);
  if (!completion) return "unknown_completion";
  if (act.value !== null && !RATINGS.has(act.value)) return "bad_rating";
  const { step } = completion;
  const error = errorAt(item, state);
  if (pathOf(item)[step]?.id !== completion.id) {
    if (item.protocol.alternatives === "off") return "follow_up_off";
    if (error < 0) return "no_error";
    return error === step && alternativesOf(item, step).includes(completion) ? null : "not_shown";
  }
  if (error >= 0 && step > error) return "after_first_error";
  const targets = asked(item);
  if (!targets.includes(step)) {
    if (act.value === 0 || act.value === 1) return "not_a_target";
    const current = targets.find((target) => valueOf(state, pathOf(item)[target]) === null) ?? targets.at(-1);
    return step < current ? null : "step_skipped";
  }
  return targets.some((target) => target < step && valueOf(state, pathOf(item)[target]) === null) ? "step_skipped" : null;
}

function refusalOfFollowUp(item, state, act) {
  const kinds = { progress: "progress", critique: "critiques", own_critique: "critiques" };
  if (!kinds[act.kind]) return "not_needed";
  if (act.kind === "progress" && act.value !== null && ![0, 1, 2, 3].includes(act.value)) return "bad_rating";
  if (act.kind === "critique") {
    if (!item.critiques.some((critique) => critique.id === act.critique)) return "unknown_completion";
    if (act.value !== null && !RATINGS.has(act.value)) return "bad_rating";
  }
  if (item.protocol[kinds[act.kind]] === "off") return "follow_up_off";
  const error = errorAt(item, state);
  if (error < 0) return "no_error";
  if (act.kind === "critique" && !critiquesOf(item, error).some((one) => one.id === act.critique)) return "not_shown";
  return null;
}

function refusalInTree(item, state, act) {
  const way = walk(item, state);
  if (act.kind === "write") return way.at(-1).wants === "write" ? null : "not_needed";
  if (act.kind !== "rate" && act.kind !== "choose") return "follow_up_off";
  if (!indexOf(item).byId.has(act.completion)) return "unknown_completion";
  if (act.kind === "rate" && act.value !== null && !RATINGS.has(act.value)) return "bad_rating";
  const entry = way.find(({ shown }) => shown.some((one) => one.id === act.completion));
  if (!entry) return "not_shown";
  if (act.kind === "rate") return null;
  const good = entry.shown.filter((one) => valueOf(state, one) === 1);
  if (!good.some((one) => one.id === act.completion)) return "not_a_choice";
  return good.length > 1 && entry.wants !== "rate" && item.protocol.continue_by === "labeler" ? null : "not_needed";
}

/** What has to be said before the item can be submitted, in order: "ratings", "choice", "step", "progress", "critiques",
 * "own_critique", "alternatives". */
export function missing(item, state) {
  const { protocol } = item;
  if (protocol.phase === 1) {
    const { wants } = walk(item, state).at(-1);
    return wants ? [{ rate: "ratings", choose: "choice", write: "step" }[wants]] : [];
  }
  const error = errorAt(item, state);
  if (error < 0) return asked(item).some((step) => valueOf(state, pathOf(item)[step]) === null) ? ["ratings"] : [];
  const lacks = [];
  const critiques = critiquesOf(item, error);
  if (protocol.progress === "required" && state.progress === null) lacks.push("progress");
  if (protocol.critiques === "required" && critiques.length) {
    const values = critiques.map(({ id }) => state.critiques[id] ?? null);
    if (values.includes(null)) lacks.push("critiques");
    else if (!values.includes(1) && !state.own_critique) lacks.push("own_critique");
  }
  if (protocol.alternatives === "required") {
    if (alternativesOf(item, error).some((one) => valueOf(state, one) === null)) lacks.push("alternatives");
  }
  return lacks;
}

/** "found_error", "solution", "" (targeted: all targets judged, none −), or null while something is missing. */
export function finishReason(item, state) {
  if (missing(item, state).length) return null;
  if (item.protocol.phase === 1) return "solution";
  if (errorAt(item, state) >= 0) return "found_error";
  return item.protocol.scope === "targeted" ? "" : "solution";
}

// --- Reading -----------------------------------------------------------------------------------------------------------

export const valueOf = (state, completion) => state.ratings[completion.id]?.value ?? null;
export const flaggedOf = (state, completion) => state.ratings[completion.id]?.flagged ?? false;
export const pathOf = (item) => indexOf(item).path;
export const completionOf = (item, id) => indexOf(item).byId.get(id);

const indexes = new WeakMap();

/** What is read again and again of an item's completions. An item that has grown is another object. */
function indexOf(item) {
  let index = indexes.get(item);
  if (!index) indexes.set(item, (index = makeIndex(item)));
  return index;
}

function makeIndex(item) {
  const byId = new Map();
  const byParent = new Map();
  for (const completion of item.completions.filter((one) => !one.own).sort((a, b) => a.index - b.index)) {
    byId.set(completion.id, completion);
    byParent.set(completion.parent, [...(byParent.get(completion.parent) ?? []), completion]);
  }
  const path = item.completions.filter((one) => !one.own && one.index === 0).sort((a, b) => a.step - b.step);
  const asked = item.protocol.scope === "targeted" && item.targets ? [...item.targets].sort((a, b) => a - b) : path.map((_, step) => step);
  return { byId, byParent, path, asked };
}
