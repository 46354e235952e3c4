// The labeling page, phase 2: acts of the labeler change the item at once; the outbox carries them to the server.

import { call, LoggedOut, Refused, uuid } from "./api.js";
import { Clock } from "./clock.js";
import { askReason, showSheet } from "./dialogs.js";
import * as items from "./item.js";
import { listen } from "./keys.js";
import { Outbox } from "./outbox.js";
import * as view from "./view.js";

const LOOK_AGAIN = 10_000;
const KEEP_LEASE = 4 * 60 * 1000;
const VALUES = { bad: -1, neutral: 0, good: 1 };

const state = JSON.parse(document.getElementById("label-state").textContent);
const outbox = new Outbox(state.person);
const clock = new Clock();
let item = null;
let before = 0; // active milliseconds that the server already knows of
let ending = false;
let resumed = false;
let lookAgain = 0;
let askedToLogIn = false;

// --- Acts ------------------------------------------------------------------------------------------------------------

function change(next, spoken = "") {
  if (!item || ending || next === item) return;
  const previous = item;
  item = next;
  for (const write of items.writes(previous, item)) {
    outbox.add({
      kind: "rate",
      assignment: item.assignment,
      completion: write.completion,
      method: "PUT",
      path: `assignments/${item.assignment}/ratings/${write.completion}/`,
      body: { client_id: uuid(), value: write.value, flagged: write.flagged, active_ms: clock.take() },
    });
  }
  view.refresh(item);
  view.bringIntoView(item);
  if (spoken) view.announce(spoken);
}

function rate(step, value) {
  const next = items.rate(item, step, value);
  const said = view.word("rated", { n: step + 1, word: view.ratingWord(value) });
  const reason = items.finishReason(next);
  const then = reason === null ? view.word("current", { n: next.focus + 1 }) : view.word(reason === "solution" ? "complete" : "error");
  change(next, `${said} ${then}`);
}

function undo() {
  change(items.undo(item), view.word("undone"));
}

function unsure() {
  const next = items.toggleUnsure(item, item.focus);
  change(next, view.word(next.ratings[item.focus].flagged ? "unsure" : "sure"));
}

function move(by) {
  item = items.moveFocus(item, by);
  view.refresh(item);
  view.bringIntoView(item);
  const { value } = item.ratings[item.focus];
  const step = view.word("step", { n: item.focus + 1 });
  view.announce(value === null ? step : `${step}: ${view.ratingWord(value)}`);
}

function submit(reason = items.finishReason(item), words = "") {
  if (!reason || ending) return;
  outbox.add({
    kind: "submit",
    assignment: item.assignment,
    method: "POST",
    path: `assignments/${item.assignment}/submit/`,
    body: {
      client_id: uuid(),
      finish_reason: reason,
      reason: words,
      comment: "",
      wall_ms: resumed ? 0 : clock.wall,
      active_ms: before + clock.active,
      ratings: [],
    },
  });
  end();
}

function skip() {
  outbox.add({ kind: "skip", assignment: item.assignment, method: "POST", path: `assignments/${item.assignment}/skip/` });
  end();
}

/** The item is on its way out: nothing about it can change any more. */
function end() {
  ending = true;
  view.sending();
  if (outbox.state === "offline") view.wait(view.word("offline"));
}

async function endWithReason(name) {
  const words = await askReason(name);
  if (words) submit(name, words);
}

function perform(act) {
  if (act === "guideline" || act === "keys") return showSheet(act);
  if (!item || ending) return false;
  if (act in VALUES) return rate(item.focus, VALUES[act]);
  if (act === "submit") return items.finishReason(item) ? submit() : false;
  if (act === "give_up" || act === "bad_problem") return endWithReason(act);
  return { undo, unsure, skip, up: () => move(-1), down: () => move(1) }[act]?.();
}

// --- Items -----------------------------------------------------------------------------------------------------------

function begin(payload) {
  clearTimeout(lookAgain);
  ending = false;
  resumed = payload.active_ms > 0 || payload.steps.some((step) => step.value !== null);
  before = payload.active_ms;
  const pending = outbox.entries().filter((entry) => entry.kind === "rate" && entry.assignment === payload.assignment);
  item = items.replay(items.open(payload), pending.map((entry) => ({ completion: entry.completion, ...entry.body })));
  clock.restart();
  view.notice("");
  view.show(payload, {
    rated: (step, value) => item && !ending && rate(step, value),
    chosen: (step) => item && !ending && move(step - item.focus),
  });
  view.refresh(item);
  view.bringIntoView(item);
  view.announce(view.word("new", { n: payload.steps.length }));
}

function nothing(empty) {
  item = null;
  ending = false;
  const until = empty.until ? view.word("until", { time: new Date(empty.until).toLocaleTimeString([], { timeStyle: "short" }) }) : "";
  view.wait(empty.message, `${until} ${view.word("checking")}`.trim());
  clearTimeout(lookAgain);
  lookAgain = setTimeout(fetchNext, LOOK_AGAIN);
}

async function fetchNext() {
  clearTimeout(lookAgain);
  if (document.hidden && !item) {
    document.addEventListener("visibilitychange", fetchNext, { once: true });
    return;
  }
  try {
    const { item: payload, empty } = await call("POST", `campaigns/${state.campaign}/next/`);
    view.notice("");
    if (payload) begin(payload);
    else nothing(empty);
  } catch (error) {
    if (error instanceof LoggedOut) askToLogIn();
    else if (error instanceof Refused) nothing({ message: error.message, until: null });
    else view.wait(view.word("offline"));
    lookAgain = setTimeout(fetchNext, LOOK_AGAIN);
  }
}

async function keepLease() {
  if (!item || ending || document.hidden) return;
  try {
    await call("POST", `assignments/${item.assignment}/lease/`);
  } catch (error) {
    if (error instanceof Refused && error.code === "not_active") view.notice(view.word("lease"));
  }
}

// --- The outbox and the page -------------------------------------------------------------------------------------------

function askToLogIn() {
  askedToLogIn = true;
  view.notice(view.word("login"), { label: view.word("loginLink"), act: () => open("/accounts/login/?next=/", "_blank", "noopener") });
}

function askForOther() {
  askedToLogIn = true;
  view.notice(view.word("stranger"));
}

outbox.addEventListener("change", () => {
  view.saved(outbox.state, outbox.size);
  if (outbox.state === "login") askToLogIn();
  else if (outbox.state === "stranger") askForOther();
  else if (outbox.state === "offline" && ending) view.wait(view.word("offline"));
  else if (outbox.state === "saved" && askedToLogIn) {
    askedToLogIn = false;
    view.notice("");
  }
});
outbox.addEventListener("full", () => view.notice(view.word("full")));
outbox.addEventListener("delivered", ({ detail: entry }) => {
  if (entry.refusal) {
    view.notice(`${view.word("refused")} ${entry.refusal.message}`, { label: view.word("reload"), act: () => location.reload() });
  }
  if (entry.kind === "rate") return;
  if (entry.kind === "submit" && entry.answer) view.today((state.today += 1));
  if (!item || entry.assignment === item.assignment) {
    if (entry.refusal && entry.kind === "submit") setTimeout(fetchNext, 4000);
    else fetchNext();
  }
});
addEventListener("beforeunload", (event) => {
  if (outbox.fragile) event.preventDefault();
});
listen(perform);
setInterval(keepLease, KEEP_LEASE);

const ends = (entry) => entry.kind !== "rate" && entry.assignment === state.item?.assignment;
if (outbox.has(ends)) view.wait(view.word("fetching"));
else if (state.item) begin(state.item);
else nothing(state.empty);
outbox.pump();
