// Which item is in front of the labeler, which one lies ready behind it, and what the page says when there is none.

import { Failed, LoggedOut, Refused } from "./api.js";
import { Session } from "./session.js";
import { Surface } from "./surface.js";
import * as view from "./view.js";
import { announce, word } from "./words.js";

const LOOK_AGAIN = 10_000;

/** Events: "begin" (an item has come to the front), "logged-out", "guideline" (it must be acknowledged first). */
export class Desk extends EventTarget {
  surface = null;
  isEnding = false; // the item is on its way out: nothing about it can change any more
  #ahead = null;
  #preparing = Promise.resolve();
  #supply;
  #acts;
  #pending;
  #timer = 0;

  /** @param pending (assignment) => the acts of it that have not reached the server yet */
  constructor(supply, acts, pending) {
    super();
    this.#supply = supply;
    this.#acts = acts;
    this.#pending = pending;
  }

  get session() {
    return this.surface?.session ?? null;
  }

  get hasAhead() {
    return this.#ahead !== null;
  }

  /** Put an item on the page. */
  async begin(payload) {
    this.#show(await this.#build(payload));
    this.prepare();
  }

  async #build(payload) {
    return new Surface(new Session(payload, await this.#pending(payload.assignment)), this.#acts);
  }

  #show(surface) {
    clearTimeout(this.#timer);
    this.surface?.leave();
    this.surface = surface;
    this.isEnding = false;
    view.showItem();
    surface.activate();
    this.dispatchEvent(new Event("begin"));
  }

  /** The item in front is done with: the one behind it comes to the front at once, where there is one. The next one is
   * prepared when the server knows of the end; before, it would not give another. */
  moveOn() {
    this.isEnding = true;
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead) this.#show(ahead);
    else view.sending();
  }

  /** Claim and build the item after this one, unless that has been done. Without it the page works as well, only not as
   * fast. */
  prepare() {
    const prepare = () => this.#prepare();
    return (this.#preparing = this.#preparing.then(prepare, prepare));
  }

  async #prepare() {
    if (!this.surface || this.isEnding || this.#ahead) return;
    const { item } = await this.#supply.next(true).catch(() => ({ item: null }));
    const isNews = item && item.assignment !== this.session?.item.assignment;
    if (isNews && !this.#ahead && !this.isEnding) this.#ahead = await this.#build(item);
    else if (isNews && this.isEnding) this.fetch();
  }

  /** Whatever is mine now, from the server. */
  async fetch() {
    clearTimeout(this.#timer);
    if (document.hidden && !this.surface) {
      document.addEventListener("visibilitychange", () => this.fetch(), { once: true });
      return;
    }
    try {
      const { item, empty } = await this.#supply.next();
      if (item) await this.begin(item);
      else this.nothing(empty);
    } catch (error) {
      if (error instanceof LoggedOut) this.dispatchEvent(new Event("logged-out"));
      else if (error instanceof Refused) this.nothing({ message: error.message, until: null });
      else view.wait(word(error instanceof Failed ? "failed" : "offline"));
      this.#lookAgain();
    }
  }

  nothing(empty) {
    this.surface?.leave();
    this.surface = null;
    this.isEnding = false;
    const until = empty.until ? word("until", { time: new Date(empty.until).toLocaleTimeString([], { timeStyle: "short" }) }) : "";
    if (empty.code === "samples_done") return view.wait(empty.message, "", { label: word("again"), act: () => location.reload() });
    if (empty.code === "guideline") {
      view.wait(empty.message, "", { label: word("readGuideline"), act: () => this.dispatchEvent(new Event("guideline")) });
      this.dispatchEvent(new Event("guideline"));
      return undefined;
    }
    view.wait(empty.message, `${until} ${word("checking")}`.trim());
    announce(empty.message);
    return this.#lookAgain();
  }

  #lookAgain() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.fetch(), LOOK_AGAIN);
  }

  /** The item in front as the server has it now; with what this page has not delivered yet on top. */
  async reread() {
    const { assignment } = this.session.item;
    const payload = await this.#supply.item(assignment);
    if (this.session?.item.assignment !== assignment || this.isEnding) return;
    if (["active", "done"].includes(payload.state)) await this.begin(payload);
    else await this.fetch();
  }

  /** Completions, critiques and waiting of the item in front, as they are now. Returns whether anything has come. */
  async look() {
    const { item } = this.session;
    const payload = await this.#supply.item(item.assignment);
    if (this.session?.item.assignment !== item.assignment) return false;
    const size = ({ completions, critiques, waiting }) => JSON.stringify([completions.length, critiques.length, waiting]);
    if (size(payload) === size(this.session.item)) return false;
    this.session.grow(payload);
    return true;
  }
}
