// Writes on their way to the server: kept in IndexedDB until they are acknowledged, so that a reload, a closed tab or a
// dead network loses nothing; sent in order and, as far as the server is concerned, once, because client-made ids make a
// repeat harmless. The tabs of a person share the outbox; a lock lets one of them send.
//
//   const outbox = new Outbox(state.person);
//   await outbox.ready;                                             what a former page left is known
//   outbox.add({ kind: "act", assignment, act });                   act: wire form, with client_id
//   outbox.add({ kind: "submit", assignment, body });               body: all of the submit but `acts`, which are folded in
//   outbox.add({ kind: "return", assignment, body: { how } });
//   await outbox.entries()                                          what waits, oldest first, other tabs' included
//   outbox.size, outbox.state, outbox.fragile                       at once, for the page's one quiet word
//   outbox.pump()                                                   try now (a "Try again" button)
//
// state: saved | saving | offline | login | stranger (404: this login does not know the work).
// Events: "change" (state or size); "delivered", once for each entry and in every tab, detail {...entry, answer} or
// {...entry, refusal: {status, code, message, details}}: a refused entry is gone, too; "full" (the storage is closed or
// full: entries live in memory, `fragile` is true until they are stored or sent).

import { call, Failed, LoggedOut, Refused } from "./api.js";
import { formerEntries } from "./outbox_former.js";
import { Shelf } from "./shelf.js";
import { Tabs } from "./tabs.js";

const BATCH = 200;
const SLOWEST = 30_000;
const KEEPALIVE_BYTES = 60_000;

/** The server does not know this work under the present login. */
class Stranger extends Error {}

/** One request for the oldest entry and those that can go with it: {path, body, entries}.
 * @param entries what waits, oldest first, at least one */
export function nextRequest(entries) {
  const [{ kind, assignment, body }] = entries;
  const path = (what) => `assignments/${assignment}/${what}/`;
  if (kind === "return") return { path: path("return"), body, entries: entries.slice(0, 1) };
  const others = entries.findIndex((entry) => entry.kind !== "act" || entry.assignment !== assignment);
  const run = entries.slice(0, Math.min(others < 0 ? entries.length : others, BATCH));
  const acts = run.map((entry) => entry.act);
  const end = entries[run.length];
  if (end?.kind === "submit" && end.assignment === assignment) {
    return { path: path("submit"), body: { ...end.body, acts }, entries: [...run, end] };
  }
  return { path: path("acts"), body: { acts }, entries: run };
}

export class Outbox extends EventTarget {
  #shelf;
  #tabs;
  #lock;
  #mine = []; // added by this tab and not acknowledged; those without a `seq` are not on the shelf
  #stored = 0; // entries on the shelf, of all tabs
  #writing = null;
  #pumping = false;
  #delay = 0;
  #timer = 0;
  fragile = false;
  state = "saved";
  message = ""; // the server's, for "stranger"

  constructor(person) {
    super();
    this.#lock = `stepmark:${person}:send`;
    this.#shelf = new Shelf(person);
    this.#tabs = new Tabs(`${person}:outbox`);
    this.#tabs.addEventListener("delivered", ({ detail }) => this.#heard(detail));
    this.#tabs.addEventListener("added", () => this.#count());
    for (const name of ["online", "focus", "pageshow"]) addEventListener(name, () => this.pump());
    addEventListener("pagehide", () => this.#flush());
    this.ready = this.#open(person);
  }

  async #open(person) {
    for (const { entry, forget } of formerEntries(person)) {
      await this.add(entry);
      if (entry.seq !== undefined) forget();
    }
    await this.#count();
    this.pump();
  }

  get size() {
    return this.#stored + this.#unstored.length;
  }

  /** What waits, oldest first. */
  async entries() {
    const stored = await this.#shelf.all();
    this.#stored = stored.length;
    return [...stored, ...this.#unstored];
  }

  /** Keep an entry and send it. Resolves when closing the tab cannot lose it any more (look at `fragile`). */
  add(entry) {
    this.#mine.push(entry);
    this.#tell();
    this.pump();
    return this.#store();
  }

  // --- Keeping -------------------------------------------------------------------------------------------------------

  get #unstored() {
    return this.#mine.filter((entry) => entry.seq === undefined);
  }

  /** Put on the shelf what is not there, in order, one transaction at a time. What the shelf will not take stays. */
  #store() {
    this.#writing ??= this.#storeAll().finally(() => { this.#writing = null; });
    return this.#writing;
  }

  async #storeAll() {
    for (let batch = this.#unstored; batch.length; batch = this.#unstored) {
      let keys;
      try {
        keys = await this.#shelf.put(batch);
      } catch {
        this.#setFragile(true);
        return;
      }
      batch.forEach((entry, index) => { entry.seq = keys[index]; });
      this.#stored += batch.length;
      this.#setFragile(false);
      this.#tabs.say("added");
    }
  }

  async #remove(entries) {
    await this.#writing;
    this.#forget(entries);
    await this.#shelf.remove(entries.map((entry) => entry.seq).filter((seq) => seq !== undefined));
    this.#stored = await this.#shelf.count();
  }

  #forget(entries) {
    const numbers = new Set(entries.map((entry) => entry.seq));
    this.#mine = this.#mine.filter((entry) => !entries.includes(entry) && (entry.seq === undefined || !numbers.has(entry.seq)));
    if (!this.#unstored.length) this.#setFragile(false);
  }

  #setFragile(fragile) {
    const news = fragile && !this.fragile;
    this.fragile = fragile;
    if (news) this.dispatchEvent(new Event("full"));
  }

  async #count() {
    this.#stored = await this.#shelf.count();
    this.#tell();
  }

  // --- Sending -------------------------------------------------------------------------------------------------------

  async pump() {
    clearTimeout(this.#timer);
    if (this.#pumping) return;
    this.#pumping = true;
    let state = "saved";
    try {
      await (navigator.locks?.request(this.#lock, () => this.#drain()) ?? this.#drain());
      this.#delay = 0;
    } catch (error) {
      state = error instanceof LoggedOut ? "login" : error instanceof Stranger ? "stranger" : "offline";
      this.message = error.message;
      this.#delay = Math.min(this.#delay * 2 || 1000, SLOWEST);
      this.#timer = setTimeout(() => this.pump(), this.#delay * (0.75 + Math.random() / 2));
    }
    this.#pumping = false;
    this.#tell(state);
    if (state === "saved" && this.size) this.pump(); // added while the lock was given back
  }

  /** Send all that waits. Order matters within an assignment, so one that the server will not have now holds back its
   * own entries alone. Throws what held back the first. */
  async #drain() {
    const held = new Map();
    for (;;) {
      const waiting = (await this.entries()).filter((entry) => !held.has(entry.assignment));
      if (!waiting.length) break;
      try {
        await this.#deliver(nextRequest(waiting));
      } catch (error) {
        if (!(error instanceof Stranger || error instanceof Failed)) throw error;
        held.set(waiting[0].assignment, error);
      }
    }
    for (const error of held.values()) throw error;
  }

  /** Send one request. A refusal ends its entry, too: repeating it would be refused again. Of several entries, each is
   * then sent alone, so that only the bad one is refused. */
  async #deliver({ path, body, entries }) {
    let outcome;
    try {
      outcome = { answer: await call("POST", path, body) };
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 404 || error.status === 403) throw new Stranger(error.message);
      if (entries.length > 1) {
        for (const entry of entries) await this.#deliver(nextRequest([entry]));
        return;
      }
      const { status, code, message, details } = error;
      outcome = { refusal: { status, code, message, details } };
    }
    await this.#remove(entries);
    for (const entry of entries) {
      const detail = { ...entry, ...outcome };
      this.#tabs.say("delivered", detail);
      this.dispatchEvent(new CustomEvent("delivered", { detail }));
    }
    this.#tell();
  }

  /** Another tab has sent an entry: the way is open for what waits here as well. */
  async #heard(detail) {
    this.#forget([detail]);
    this.dispatchEvent(new CustomEvent("delivered", { detail }));
    await this.#count();
    if (this.state !== "saved") this.pump();
  }

  /** The page goes away: send again what this tab has not seen acknowledged, waiting for no answer. Nothing is sent past
   * older entries that the shelf holds from other pages. */
  #flush() {
    if (this.state !== "saving" || this.size !== this.#mine.length) return;
    const assignments = new Set(this.#mine.map((entry) => entry.assignment));
    for (const assignment of assignments) {
      const { path, body } = nextRequest(this.#mine.filter((entry) => entry.assignment === assignment));
      if (JSON.stringify(body).length < KEEPALIVE_BYTES / assignments.size) call("POST", path, body, { keepalive: true }).catch(() => {});
    }
  }

  #tell(state = this.state) {
    this.state = this.size === 0 ? "saved" : state === "saved" ? "saving" : state;
    this.dispatchEvent(new Event("change"));
  }
}

/** Accepts all, delivers at once, sends nothing: for the tutorial and a manager's preview. */
export class NullOutbox extends EventTarget {
  ready = Promise.resolve();
  size = 0;
  state = "saved";
  fragile = false;

  async add(entry) {
    await null;
    this.dispatchEvent(new CustomEvent("delivered", { detail: { ...entry, answer: ANSWERS[entry.kind](entry) } }));
  }

  async entries() {
    return [];
  }

  pump() {}
}

const ANSWERS = {
  act: () => ({ state: "draft", written: {}, waiting: [] }),
  submit: ({ body }) => ({ state: "submitted", finish_reason: body.finish_reason, revision: 1 }),
  return: () => null,
};
