// Writes on their way to the server: in order, one at a time, kept in localStorage until they are acknowledged, so that
// a reload, a closed tab or a dead network loses nothing. Client-made ids make a repeat harmless. Tabs share the outbox;
// a lock lets one of them send.

import { call, LoggedOut, Refused } from "./api.js";

const SLOWEST = 30_000;

/** The server does not know this work under the present login. */
class Stranger extends Error {}

export class Outbox extends EventTarget {
  #prefix;
  #memory = new Map(); // only what the storage would not take
  #last = 0;
  #delay = 0;
  #timer = 0;
  #pumping = false;
  state = "saved"; // saved, saving, offline, login, stranger

  constructor(person) {
    super();
    this.#prefix = `stepmark:${person}:`;
    addEventListener("online", () => this.pump());
    addEventListener("focus", () => this.pump());
    addEventListener("storage", (event) => event.key?.startsWith(this.#prefix) && this.#tell());
  }

  /** Keep a write and send it. @param entry {kind, assignment, method, path, body} */
  add(entry) {
    this.#last = Math.max(Date.now(), this.#last + 1, ...this.#keys().map((key) => Number(key.slice(this.#prefix.length)) + 1));
    const key = this.#prefix + String(this.#last).padStart(15, "0");
    try {
      localStorage.setItem(key, JSON.stringify(entry));
    } catch {
      this.#memory.set(key, entry);
      this.dispatchEvent(new Event("full"));
    }
    this.#tell("saving");
    this.pump();
  }

  /** What waits, oldest first. */
  entries() {
    return this.#keys().map((key) => this.#read(key)).filter(Boolean);
  }

  has(test) {
    return this.entries().some(test);
  }

  get size() {
    return this.#keys().length;
  }

  /** Whether closing the page would lose something. */
  get fragile() {
    return this.#memory.size > 0;
  }

  async pump() {
    if (this.#pumping) return;
    clearTimeout(this.#timer);
    this.#pumping = true;
    try {
      await (navigator.locks?.request(`${this.#prefix}send`, () => this.#drain()) ?? this.#drain());
      this.#delay = 0;
      this.#tell("saved");
    } catch (error) {
      this.#delay = Math.min(this.#delay * 2 || 1000, SLOWEST);
      this.#timer = setTimeout(() => this.pump(), this.#delay * (0.75 + Math.random() / 2));
      this.#tell(error instanceof LoggedOut ? "login" : error instanceof Stranger ? "stranger" : "offline");
    } finally {
      this.#pumping = false;
    }
    if (this.#delay === 0 && this.size) this.pump();
  }

  async #drain() {
    for (let key = this.#keys()[0]; key; key = this.#keys()[0]) {
      const entry = this.#read(key);
      if (entry) await this.#deliver(entry);
      this.#memory.delete(key);
      delete storage()[key];
      if (entry) this.dispatchEvent(new CustomEvent("delivered", { detail: entry }));
    }
  }

  /** Send one entry. A refusal ends it, too: repeating it would be refused again. */
  async #deliver(entry) {
    try {
      entry.answer = await call(entry.method, entry.path, entry.body);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 404) throw new Stranger();
      entry.refusal = error;
    }
  }

  #keys() {
    const stored = Object.keys(storage()).filter((key) => key.startsWith(this.#prefix));
    return [...stored, ...this.#memory.keys()].sort();
  }

  #read(key) {
    try {
      return this.#memory.get(key) ?? JSON.parse(storage()[key] ?? null);
    } catch {
      return null;
    }
  }

  #tell(state = this.state) {
    this.state = state === "saved" && this.size ? "saving" : state;
    this.dispatchEvent(new Event("change"));
  }
}

/** localStorage, or nothing where the browser has closed it. */
function storage() {
  try {
    return localStorage;
  } catch {
    return {};
  }
}
