// The labeling page: acts of the labeler change the item at once; the outbox carries them to the server.

import { call, uuid } from "./api.js";
import { Clock } from "./clock.js";
import { Desk } from "./desk.js";
import { askReason, askText, askWhich, closeByOwnKey, showSheet } from "./dialogs.js";
import { dropAll, keep, kept } from "./drafts.js";
import { Keymap, listen, showLabels } from "./keys.js";
import { mountKeySheet } from "./keysheet.js";
import { NullOutbox, Outbox } from "./outbox.js";
import * as protocol from "./protocol.js";
import { awaited, isWaiting, openPanel, placeOf, valueAt } from "./session.js";
import * as speech from "./speech.js";
import { SampleSupply, ServerSupply } from "./supply.js";
import { Tabs } from "./tabs.js";
import * as view from "./view.js";
import { announce, find, useRatingWords, word } from "./words.js";

const LOOK_FOR_CANDIDATES = 1500;
const KEEP_LEASE = 4 * 60 * 1000;
const VALUES = { bad: -1, neutral: 0, good: 1 };
const CHOICES = ["bad", "neutral", "good", "fourth"];

const state = JSON.parse(find("label-state").textContent);
const keymap = new Keymap(state.keys);
const clock = new Clock({ idle: state.idle_ms });
const tabs = new Tabs(state.dry ? `${state.person}:dry` : state.person);
const outbox = state.dry ? new NullOutbox() : new Outbox(state.person);
const tutorial = state.dry === "tutorial" ? new (await import("./tutorial.js")).Tutorial(state.items) : null;
const supply = state.dry ? new SampleSupply(state.items) : new ServerSupply(state.campaign);
const desk = new Desk(supply, { rate, go, progress, ownCritique, choose, write, askAgain }, pendingActs);
const unsent = new Set(); // client ids of the acts that the server has not answered to
const sent = []; // entries of acts that it has taken since the page was loaded

/** What an item that was fetched a moment ago may lack: acts that wait, and those that arrived meanwhile. */
async function pendingActs(assignment) {
  const entries = await outbox.entries();
  const acts = [...sent, ...entries].filter((entry) => entry.kind === "act" && entry.assignment === assignment);
  return acts.map((entry) => entry.act);
}

// --- Acts on the item ------------------------------------------------------------------------------------------------

/** Keep one act. Returns false where it does not fit. */
function commit(fields) {
  const { session } = desk;
  if (!session || desk.isEnding) return false;
  const act = { client_id: uuid(), ...clock.take(), ...fields };
  if (session.add(act)) return false;
  const { assignment } = session.item;
  outbox.add({ kind: "act", assignment, act });
  tabs.say("acts", { assignment, acts: [act] });
  if (!state.dry) unsent.add(act.client_id);
  session.synced = unsent.size === 0;
  session.rest();
  tutorial?.onAct(session.state, act);
  return true;
}

function draw(spoken = "") {
  desk.surface.refresh();
  view.drawBar(desk.session);
  find("differs").hidden = !desk.session.asked;
  desk.surface.bringIntoView();
  if (spoken) announce(spoken);
  waitForCandidates();
}

function rate(id, value) {
  const { session } = desk;
  const stop = session?.stops.find((one) => one.id === id);
  if (!stop || desk.isEnding) return false;
  if (session.earlier) return value === -1 ? pickEarlier(stop) : false;
  const isHere = session.stop.id === id;
  const { completion, critique } = stop;
  if (!completion && !critique) return false;
  const flagged = completion ? protocol.flaggedOf(session.state, completion) || (isHere && session.unsure) : false;
  const fields = completion ? { kind: "rate", completion: completion.id, value, flagged } : { kind: "critique", critique: critique.id, value };
  const isNew = valueAt(session, stop) !== value || (isHere && session.unsure);
  if (isNew ? !commit(fields) : session.rest()) return false;
  return draw(speech.afterAct(session, stop, value));
}

function rateHere(value) {
  const { session } = desk;
  const { stop } = session;
  const choice = CHOICES.findIndex((act) => VALUES[act] === value);
  if (stop?.kind === "progress") return progress(choice);
  if (view.picks(session)) return chooseNth(choice);
  return stop ? rate(stop.id, value) : false;
}

function unsure() {
  const { session } = desk;
  const { completion, id } = session.stop ?? {};
  if (!completion || session.earlier) return false;
  const value = protocol.valueOf(session.state, completion);
  const flagged = !(session.unsure || protocol.flaggedOf(session.state, completion));
  if (value === null) session.unsure = flagged;
  else if (commit({ kind: "rate", completion: completion.id, value, flagged })) session.go(id);
  return draw(word(flagged ? "unsure" : "sure"));
}

function progress(value) {
  return commit({ kind: "progress", value }) ? draw(`${word(`progress-${value}`)}. ${speech.whatIsNext(desk.session)}`) : false;
}

function ownCritique(text) {
  return commit({ kind: "own_critique", text }) ? draw(speech.whatIsNext(desk.session)) : false;
}

function choose(completion) {
  return commit({ kind: "choose", completion }) ? draw(speech.whatIsNext(desk.session)) : false;
}

function chooseNth(place) {
  const { session } = desk;
  const good = session.way.at(-1).shown.filter((one) => protocol.valueOf(session.state, one) === 1);
  return good[place] ? choose(good[place].id) : false;
}

function write(text) {
  if (awaited(desk.session) === "coming") {
    announce(word("candidates-coming"));
    return false;
  }
  return commit({ kind: "write", text }) ? draw(speech.whatIsNext(desk.session)) : false;
}

/** What the fourth choice means where there are but three ratings: a text of one's own, or all of the context. */
function fourth() {
  const { session, surface } = desk;
  if (session.stop?.kind === "progress") return progress(3);
  if (view.picks(session)) return chooseNth(3);
  if (session.item.protocol.phase === 2 && session.item.targets !== null) return announce(word(surface.body.unfoldAll() ? "unfolded" : "folded"));
  return surface.body.focusField();
}

function undo() {
  const { session } = desk;
  const { last } = session;
  if (!last || !commit({ kind: "undo", undoes: last.client_id })) return false;
  for (const panel of ["progress", "critiques", "alternatives"]) session.passed.delete(panel);
  session.rest();
  session.go(placeOf(session, last));
  return draw(word("undone"));
}

function move(by) {
  desk.session.move(by);
  draw(speech.here(desk.session));
}

function go(id) {
  const { session } = desk;
  if (desk.isEnding || !session?.go(id)) return;
  if (session.earlier) pickEarlier(session.stop);
  else draw(speech.here(session));
}

/** Targeted: a step that is not asked for, or one that has been judged, is wrong already. */
function earlier() {
  const { session } = desk;
  if (session.earlier) session.earlier = false;
  else if (session.item.targets === null || session.item.protocol.phase === 1 || session.step === 0) return false;
  else session.earlier = true;
  session.rest();
  if (session.earlier) session.go(`step:${session.step - 1}`);
  return draw(word(session.earlier ? "askEarlier" : "current", { what: speech.here(session) }));
}

function pickEarlier(stop) {
  return commit({ kind: "rate", completion: stop.completion.id, value: -1, flagged: false }) ? draw(speech.afterAct(desk.session, stop, -1)) : false;
}

// --- The end of an item ------------------------------------------------------------------------------------------------

/** Enter: go past a panel, choose, write, or submit; whatever is next. */
function proceed() {
  const { session, surface } = desk;
  const { stop } = session;
  if (session.earlier) return pickEarlier(stop);
  if (stop?.kind === "write") return surface.body.focusField();
  if (view.picks(session)) return valueAt(session, stop) === 1 ? choose(stop.completion.id) : false;
  const panel = openPanel(session);
  if (panel) return goPast(panel);
  const reason = protocol.finishReason(session.item, session.state);
  if (reason === null) return false;
  if (reason === "solution" && session.item.problem.answer_differs && !session.asked) {
    session.asked = true;
    return draw(word("answerDiffers"));
  }
  return submit(reason);
}

function goPast(panel) {
  const { session, surface } = desk;
  if (view.lackingIn(session, panel)) return session.stop?.kind === "own" ? surface.body.focusField() : false;
  session.passed.add(panel.name);
  session.rest();
  return draw(speech.whatIsNext(session));
}

function submit(reason, words = "") {
  const { item } = desk.session;
  const body = {
    client_id: uuid(),
    finish_reason: reason,
    reason: words,
    comment: kept(`${item.assignment}:comment`),
    answer_report: kept(`${item.assignment}:report`),
    wall_ms: item.wall_ms + clock.wall,
    active_ms: item.active_ms + clock.active,
  };
  outbox.add({ kind: "submit", assignment: item.assignment, body });
  end(item, body);
}

async function skip() {
  const { item } = desk.session;
  const how = await askWhich("skip");
  if (!how || desk.session?.item !== item || desk.isEnding) return;
  outbox.add({ kind: "return", assignment: item.assignment, body: { how, client_id: uuid() } });
  end(item, { finish_reason: "" });
}

function end(item, body) {
  tabs.say("submitted", { assignment: item.assignment });
  dropAll(item.assignment);
  if (tutorial) {
    desk.isEnding = true;
    tutorial.onSubmit(body);
  } else desk.moveOn();
}

async function endWithReason(name) {
  const { session } = desk;
  const words = await askReason(name);
  if (words && desk.session === session && !desk.isEnding) submit(name, words);
}

async function comment() {
  const name = `${desk.session.item.assignment}:comment`;
  const text = await askText("comment", kept(name));
  if (text !== null) keep(name, text);
  drawNotes();
}

async function reportAnswer() {
  const name = `${desk.session.item.assignment}:report`;
  if (desk.session.item.problem.reference_answer === null) return;
  if (kept(name)) keep(name, "");
  else keep(name, (await askReason("report_answer")) ?? "");
  drawNotes();
}

function drawNotes() {
  const { assignment } = desk.session.item;
  const isReported = kept(`${assignment}:report`) !== "";
  view.noted("comment", kept(`${assignment}:comment`) !== "");
  view.noted("report_answer", isReported);
  desk.surface.reported(isReported);
}

const ACTS = {
  fourth, unsure, undo, earlier, skip, comment,
  submit: proceed,
  up: () => move(-1),
  down: () => move(1),
  report_answer: reportAnswer,
  give_up: () => endWithReason("give_up"),
  bad_problem: () => endWithReason("bad_problem"),
};

function perform(act) {
  if (act === "guideline" || act === "keys") return showSheet(act);
  if (!desk.session || desk.isEnding) return false;
  return act in VALUES ? rateHere(VALUES[act]) : ACTS[act]?.();
}

// --- Items -----------------------------------------------------------------------------------------------------------

let looking = 0;

/** Look for candidates or critiques that a worker is preparing, as long as the labeler is where they are needed. */
function waitForCandidates() {
  clearTimeout(looking);
  if (state.dry || !desk.session || !isWaiting(desk.session)) return;
  looking = setTimeout(async () => {
    const isTyping = document.activeElement?.matches("textarea");
    const hasCome = !isTyping && desk.session && (await desk.look().catch(() => false));
    if (hasCome) draw(speech.whatIsNext(desk.session));
    else waitForCandidates();
  }, LOOK_FOR_CANDIDATES);
}

async function askAgain() {
  const { session } = desk;
  await supply.askAgain(session.item.assignment).catch(() => null);
  await desk.look().catch(() => false);
  if (desk.session === session) draw(speech.whatIsNext(session));
}

desk.addEventListener("begin", () => {
  const { session } = desk;
  const { item } = session;
  unsent.clear();
  clock.restart();
  view.notice("");
  find("reopened").hidden = item.revision === 0;
  find("bar").classList.toggle("has-reference", item.problem.reference_answer !== null);
  draw(word(item.protocol.phase === 1 ? "newTree" : "new", { n: protocol.asked(item).length }));
  drawNotes();
  tutorial?.mount();
});
desk.addEventListener("logged-out", askToLogIn);
desk.addEventListener("guideline", () => (find("dialog-diff") ? showSheet("diff") : location.reload()));
find("dialog-diff")?.addEventListener("close", async ({ target }) => {
  if (target.returnValue !== "read") return;
  await supply.acknowledge(state.guideline.version).catch(() => null);
  desk.fetch();
});
find("leave-as-is").addEventListener("click", () => desk.fetch());
tutorial?.addEventListener("item", () => desk.begin(tutorial.item));
tutorial?.addEventListener("done", () => location.assign(state.after ?? "../"));

async function keepLease() {
  if (!desk.session || desk.isEnding || document.hidden || state.dry) return;
  await supply.renew(desk.session.item.assignment).catch((error) => {
    if (["not_active", "returned"].includes(error.code)) view.notice(word("lease"));
  });
}

// --- The outbox, the other tabs, the clock -----------------------------------------------------------------------------

let askedToLogIn = false;

function askToLogIn() {
  askedToLogIn = true;
  view.notice(word("login"), { label: word("loginLink"), act: () => open("/accounts/login/?next=/", "_blank", "noopener") });
}

outbox.addEventListener("change", () => {
  view.saved(outbox.state, outbox.size);
  if (outbox.state === "login") askToLogIn();
  else if (outbox.state === "stranger") {
    askedToLogIn = true;
    view.notice(word("stranger"));
  } else if (outbox.state === "offline" && desk.isEnding) view.wait(word("offline"));
  else if (outbox.state === "saved" && askedToLogIn) {
    askedToLogIn = false;
    view.notice("");
  }
});
outbox.addEventListener("full", () => view.notice(word("full")));
outbox.addEventListener("delivered", ({ detail: entry }) => {
  if (entry.kind === "act") return state.dry ? undefined : actDelivered(entry);
  if (entry.kind === "submit" && entry.answer && !state.dry) view.today((state.today += 1));
  if (tutorial) return undefined;
  const isFront = !desk.session || entry.assignment === desk.session.item.assignment;
  if (entry.refusal) refused(entry);
  if (isFront) return setTimeout(() => desk.fetch(), entry.refusal ? 4000 : 0);
  return desk.prepare();
});

function actDelivered(entry) {
  const { assignment, act, answer, refusal } = entry;
  unsent.delete(act.client_id);
  if (!refusal) sent.push(entry);
  const { session } = desk;
  if (session?.item.assignment !== assignment || desk.isEnding) return;
  if (refusal) {
    refused({ refusal });
    desk.reread().catch(() => null);
    return;
  }
  hear([act]);
  const before = session.synced;
  session.synced = unsent.size === 0;
  const waiting = answer?.waiting ?? session.item.waiting;
  if (session.synced && (before !== session.synced || JSON.stringify(waiting) !== JSON.stringify(session.item.waiting))) {
    if (session.item.protocol.phase === 2 && JSON.stringify(waiting) === JSON.stringify(session.item.waiting)) return;
    session.grow({ waiting });
    draw();
  }
}

function refused({ refusal }) {
  view.notice(`${word("refused")} ${refusal.message}`, { label: word("reload"), act: () => location.reload() });
}

/** Acts on the item in front that came about elsewhere. */
function hear(acts, earlier = []) {
  if (!desk.session.take(acts, earlier)) return;
  desk.session.rest();
  draw();
}

tabs.addEventListener("acts", ({ detail: { assignment, acts } }) => {
  if (desk.session?.item.assignment === assignment && !desk.isEnding) hear(acts);
});
tabs.addEventListener("submitted", ({ detail: { assignment } }) => {
  if (desk.session?.item.assignment === assignment && !desk.isEnding) desk.moveOn();
});
tabs.addEventListener("keys", ({ detail }) => keymap.replace(detail));
keymap.addEventListener("change", () => showLabels(keymap));

async function saveKeys(keys) {
  if (state.dry) return;
  tabs.say("keys", keys);
  await call("PUT", "me/keys/", { keys });
}

function askAboutTime() {
  const minutes = Math.max(1, Math.round(clock.gap / 60_000));
  const answer = (yes) => () => {
    clock.claim(yes);
    view.notice("");
  };
  view.notice(word("idle", { n: minutes }), { label: word("idleYes"), act: answer(true) }, { label: word("idleNo"), act: answer(false) });
}
clock.addEventListener("idle", askAboutTime);
clock.addEventListener("back", askAboutTime);

addEventListener("beforeunload", (event) => {
  if (outbox.fragile) event.preventDefault();
});

/** The item that came with the page is as old as the request for it: what the page before this one said may have arrived
 * since, and is then no longer in the outbox. */
async function catchUp() {
  const { session } = desk;
  const payload = await supply.item(session.item.assignment).catch(() => null);
  if (payload && desk.session === session && !desk.isEnding) hear([], payload.acts);
}

// --- Begin -----------------------------------------------------------------------------------------------------------

useRatingWords(state.words);
showLabels(keymap);
mountKeySheet(keymap, saveKeys);
listen(perform, keymap);
closeByOwnKey(keymap);
addEventListener("keydown", (event) => event.key === "Escape" && desk.session?.earlier && earlier());
setInterval(keepLease, KEEP_LEASE);

await outbox.ready;
const isOver = (entry) => entry.kind !== "act" && entry.assignment === state.item?.assignment;
if (tutorial) await desk.begin(tutorial.item);
else if (state.dry) await desk.fetch();
else if ((await outbox.entries()).some(isOver)) view.wait(word("fetching"));
else if (state.item) desk.begin(state.item).then(catchUp);
else desk.nothing(state.empty);
outbox.pump();
