// What a labeler has said about one item is a fold over their acts: no DOM, no network, no clock. The server folds the same
// acts with the same rules (annotator/protocol.py), and a test compares the two.
//
// State: {ratings: {completion: {value, flagged}}, choices: {step: completion}, written: {step: client id},
//         texts: {client id: text}, progress, critiques: {critique: value}, own_critique}

const MOST_ALTERNATIVES = 7;
const isRating = (value) => value === null || value === -1 || value === 0 || value === 1;

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
  if (act.kind === "rate") {
    const next = { ...state, ratings: { ...state.ratings } };
    if (act.value === null) delete next.ratings[act.completion];
    else next.ratings[act.completion] = { value: act.value, flagged: Boolean(act.flagged) };
    return item.protocol.phase === 1 ? pruneTree(item, withoutOwnStep(item, state, next, act)) : prunePath(item, next, act);
  }
  if (act.kind === "choose") {
    const { step } = walk(item, state).find(({ shown }) => shown.some((one) => one.id === act.completion));
    return pruneTree(item, { ...state, choices: { ...state.choices, [step]: act.completion } });
  }
  if (act.kind === "write") return write(item, state, act);
  if (act.kind === "progress") return { ...state, progress: act.value };
  if (act.kind === "own_critique") return { ...state, own_critique: stripped(act.text) };
  const critiques = { ...state.critiques };
  if (act.value === null) delete critiques[act.critique];
  else critiques[act.critique] = act.value;
  return { ...state, critiques };
}

// --- Phase 2: a ready path ---------------------------------------------------------------------------------------------

/** The step of the first −, or -1. */
export const errorAt = (item, state) => pathOf(item).findIndex((completion) => valueOf(state, completion) === -1);

/** The steps that are asked for, by their places on the path. */
export const asked = (item) => indexOf(item).asked;

const isUnrated = (item, state) => (step) => valueOf(state, pathOf(item)[step]) === null;

/** The step to judge now: the error, else the first unrated of those asked for, else the last of them. */
export function currentStep(item, state) {
  const error = errorAt(item, state);
  return error >= 0 ? error : (asked(item).find(isUnrated(item, state)) ?? asked(item).at(-1));
}

export const alternativesOf = (item, step) => candidatesOf(item, pathOf(item)[step].parent).slice(1, 1 + MOST_ALTERNATIVES);

export const critiquesOf = (item, step) => item.critiques.filter((critique) => critique.completion === pathOf(item)[step].id);

/** A − and an unrated step cut what follows. Follow-ups belong to one error, and go when another step is the first. */
function prunePath(item, state, act) {
  if (completionOf(item, act.completion) !== pathOf(item)[completionOf(item, act.completion).step]) return state;
  const path = pathOf(item);
  const unrated = asked(item).find(isUnrated(item, state)) ?? path.length;
  const error = errorAt(item, state);
  const end = error < 0 ? unrated : Math.min(error, unrated);
  const isError = error === end && item.targets === null;
  const kept = [...path.slice(0, end + 1), ...(isError ? alternativesOf(item, error) : [])];
  const ratings = ratingsOf(state, kept);
  if (!isError) return { ...nothingSaid(), ratings };
  const offered = new Set(critiquesOf(item, error).map(({ id }) => String(id)));
  return Object.keys(state.critiques).every((id) => offered.has(id)) ? { ...state, ratings } : { ...nothingSaid(), ratings };
}

const ratingsOf = (state, completions) =>
  Object.fromEntries(completions.filter(({ id }) => state.ratings[id]).map(({ id }) => [id, state.ratings[id]]));

// --- Phase 1: a tree that grows ----------------------------------------------------------------------------------------

export const candidatesOf = (item, parent) => indexOf(item).byParent.get(parent) ?? [];

/** The labeler's way from the root: one entry a step, {step, parent, shown, wants, completion, written}. `wants` is "ratings",
 * "choice" or "own_step" on the last entry while it is open; `completion` or `written` (a client id) is what continues. */
export function walk(item, state) {
  const steps = [];
  let parent = null;
  for (let step = 0; ; step += 1) {
    const shown = shownAt(item, state, parent, step);
    const entry = { step, parent, shown, ...continuation(item, state, shown, step) };
    steps.push(entry);
    if (entry.wants) return steps;
    if (isFinal(entry.completion ? entry.completion.text : state.texts[entry.written])) return steps;
    parent = entry.completion ? entry.completion.id : entry.written;
  }
}

/** The first candidate; the others once it is rated 0 or −, or one of them has been rated. Candidates that come after a step
 * has been written change nothing any more. */
function shownAt(item, state, parent, step) {
  const candidates = candidatesOf(item, parent).slice(0, item.protocol.candidates);
  const rated = candidates.filter((one) => valueOf(state, one) !== null);
  if (state.written[step] && !rated.length) return [];
  const opened = rated.some((one) => one !== candidates[0] || valueOf(state, one) !== 1);
  return item.protocol.always_grid || opened ? candidates : candidates.slice(0, 1);
}

function continuation(item, state, shown, step) {
  if (shown.some((one) => valueOf(state, one) === null)) return { wants: "ratings" };
  const good = goodOf(state, shown);
  if (!good.length) return state.written[step] ? { written: state.written[step] } : { wants: "own_step" };
  const chosen = good.find((one) => one.id === state.choices[step]);
  if (chosen) return { completion: chosen };
  if (good.length > 1 && item.protocol.continue_by === "labeler") return { wants: "choice" };
  return { completion: good.reduce((a, b) => (b.draw < a.draw || (b.draw === a.draw && b.id < a.id) ? b : a)) };
}

const goodOf = (state, shown) => shown.filter((one) => valueOf(state, one) === 1);

// Lines end, and blanks are blank, as they are for Python: a \ufeff that JavaScript trims is a character there.
const LINE_END = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;
const BLANK = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

function stripped(text) {
  let [start, end] = [0, text.length];
  while (start < end && BLANK.test(text[start])) start += 1;
  while (end > start && BLANK.test(text[end - 1])) end -= 1;
  return text.slice(start, end);
}

export const isFinal = (text) => text.split(LINE_END).some((line) => stripped(line) === "# Answer");

/** A blank text takes the deepest own step back. */
function write(item, state, act) {
  if (stripped(act.text)) {
    const { step } = walk(item, state).at(-1);
    return { ...state, written: { ...state.written, [step]: act.client_id }, texts: { ...state.texts, [act.client_id]: act.text } };
  }
  return pruneTree(item, without(state, Math.max(...Object.keys(state.written).map(Number))));
}

function without(state, step) {
  const written = { ...state.written };
  delete written[step];
  return { ...state, written };
}

/** A rating may leave the own step of its place without need: then that goes. */
function withoutOwnStep(item, before, after, act) {
  const entry = walk(item, before).find(({ shown }) => shown.some((one) => one.id === act.completion));
  if (!entry || !after.written[entry.step]) return after;
  const bare = without(after, entry.step);
  return walk(item, bare)[entry.step]?.wants === "own_step" ? after : bare;
}

function pruneTree(item, state) {
  const way = walk(item, state);
  const shown = way.flatMap((entry) => entry.shown);
  const shownIds = new Set(shown.map(({ id }) => id));
  const several = way.filter((entry) => goodOf(state, entry.shown).length > 1).map(({ step }) => String(step));
  const written = way.filter((entry) => entry.written).map((entry) => [entry.step, entry.written]);
  return {
    ...nothingSaid(),
    ratings: ratingsOf(state, shown),
    choices: Object.fromEntries(Object.entries(state.choices).filter(([step, id]) => several.includes(step) && shownIds.has(id))),
    written: Object.fromEntries(written),
    texts: Object.fromEntries(written.map(([, id]) => [id, state.texts[id]])),
  };
}

// --- Whether an act may be, and what is missing ------------------------------------------------------------------------

/** The code under which the server would refuse this act, or null. `acts` are those before it. */
export function refusal(item, state, act, acts = []) {
  if (act.kind === "undo") return standing(acts).at(-1)?.client_id === act.undoes ? null : "not_last";
  const inTree = item.protocol.phase === 1;
  if (act.kind === "rate") {
    if (!isRating(act.value)) return "bad_rating";
    return inTree ? refusalOfCandidate(item, state, act) : refusalOnPath(item, state, act);
  }
  if (act.kind === "choose") return inTree ? refusalOfChoice(item, state, act) : "not_needed";
  if (act.kind === "write") return inTree ? refusalOfOwnStep(item, state, act) : "not_needed";
  return ["progress", "critique", "own_critique"].includes(act.kind) ? refusalOfFollowUp(item, state, act) : "unknown_act";
}

function refusalOnPath(item, state, act) {
  const path = pathOf(item);
  const step = path.findIndex(({ id }) => id === act.completion);
  if (step < 0) return refusalOfAlternative(item, state, act);
  const error = errorAt(item, state);
  const targets = asked(item);
  const isAsked = targets.includes(step);
  if (!isAsked) {
    const current = targets.find(isUnrated(item, state)) ?? targets.at(-1);
    if (act.value === 0 || act.value === 1 || step > current) return "not_a_target";
  }
  if (act.value === null) return null;
  if (error >= 0 && error < step) return "after_first_error";
  return isAsked && targets.some((target) => target < step && isUnrated(item, state)(target)) ? "step_skipped" : null;
}

function refusalOfAlternative(item, state, act) {
  const step = completionOf(item, act.completion)?.step;
  const isOffered = pathOf(item)[step] && alternativesOf(item, step).some(({ id }) => id === act.completion);
  if (!isOffered) return "unknown_completion";
  if (item.protocol.alternatives === "off" || item.targets !== null) return "follow_up_off";
  return errorAt(item, state) === step ? null : "no_error";
}

function refusalOfFollowUp(item, state, act) {
  const how = act.kind === "progress" ? item.protocol.progress : item.protocol.critiques;
  if (how === "off" || item.protocol.phase !== 2 || item.targets !== null) return "follow_up_off";
  const error = errorAt(item, state);
  if (error < 0) return "no_error";
  if (act.kind === "own_critique") return null;
  if (act.kind === "progress") return [0, 1, 2, 3, null].includes(act.value) ? null : "bad_rating";
  if (!isRating(act.value)) return "bad_rating";
  return critiquesOf(item, error).some(({ id }) => id === act.critique) ? null : "unknown_critique";
}

function refusalOfCandidate(item, state, act) {
  if (walk(item, state).some(({ shown }) => shown.some((one) => one.id === act.completion))) return null;
  return completionOf(item, act.completion) ? "not_shown" : "unknown_completion";
}

function refusalOfChoice(item, state, act) {
  if (item.protocol.continue_by !== "labeler") return "not_needed";
  const entry = walk(item, state).find(({ shown }) => goodOf(state, shown).some((one) => one.id === act.completion));
  return entry && entry.wants !== "ratings" && goodOf(state, entry.shown).length > 1 ? null : "not_a_choice";
}

function refusalOfOwnStep(item, state, act) {
  if (!stripped(act.text)) return Object.keys(state.written).length ? null : "text_missing";
  return walk(item, state).at(-1).wants === "own_step" ? null : "not_needed";
}

/** What has to be said before the item can be submitted, in order: "ratings", "choice", "own_step", "progress", "critiques",
 * "alternatives". */
export function missing(item, state) {
  if (item.protocol.phase === 1) return [walk(item, state).at(-1).wants].filter(Boolean);
  const error = errorAt(item, state);
  if (error < 0) return asked(item).some(isUnrated(item, state)) ? ["ratings"] : [];
  return item.targets === null ? missingFollowUps(item, state, error) : [];
}

function missingFollowUps(item, state, error) {
  const { protocol } = item;
  const offered = critiquesOf(item, error).map(({ id }) => state.critiques[id] ?? null);
  const isExplained = !offered.includes(null) && (offered.includes(1) || state.own_critique);
  const open = {
    progress: protocol.progress === "required" && state.progress === null,
    critiques: protocol.critiques === "required" && offered.length > 0 && !isExplained,
    alternatives: protocol.alternatives === "required" && alternativesOf(item, error).some((one) => valueOf(state, one) === null),
  };
  return Object.keys(open).filter((name) => open[name]);
}

/** "found_error", "solution", "" (targeted: all targets judged, none −), or null while something is missing. */
export function finishReason(item, state) {
  if (missing(item, state).length) return null;
  if (item.protocol.phase === 1) return "solution";
  if (errorAt(item, state) >= 0) return "found_error";
  return item.targets === null ? "solution" : "";
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
    const siblings = byParent.get(completion.parent);
    if (siblings) siblings.push(completion);
    else byParent.set(completion.parent, [completion]);
  }
  const path = [];
  for (let next = byParent.get(null)?.[0]; next; next = byParent.get(next.id)?.[0]) path.push(next);
  return { byId, byParent, path, asked: item.targets ?? path.map((_, step) => step) };
}
