// One item as the page shows it: the problem, and under it what is to be rated. Several stand side by side, so that the next
// item is laid out before it is asked for: all but one are out of sight, of reach and of the reader's hearing.

import { Path } from "./path.js";
import { Tree } from "./tree.js";
import { clone, find, word } from "./words.js";
import { attach, typeset } from "../mathtext.js";

const NAMED = "[data-id]";

export class Surface {
  #named;

  constructor(session, acts) {
    this.session = session;
    this.element = clone("surface-template");
    this.element.inert = true;
    this.element.classList.add("is-ahead");
    this.body = session.item.protocol.phase === 1 ? new Tree(session, acts) : new Path(session, acts);
    this.element.append(this.body.element);
    this.#named = [...this.element.querySelectorAll(NAMED)];
    find("stage").append(this.element);
    this.#problem(session.item.problem);
    // What gets the focus must not stand behind the problem, which stays at the top, or the bar.
    this.body.element.addEventListener("focusin", ({ target }) => target.matches(":focus-visible") && this.#bring(target, 1));
    this.refresh();
  }

  get #box() {
    return this.element.querySelector(".label-problem");
  }

  #problem({ text, reference_answer: answer, attachments }) {
    const box = this.#box;
    typeset(box.querySelector(".problem-text"), text);
    box.querySelector(".reference").hidden = answer === null;
    if (answer !== null) typeset(box.querySelector(".reference-answer"), answer, { answer: true });
    attach?.(box.querySelector(".attachments"), attachments ?? []);
    const fold = box.querySelector(".fold-problem");
    fold.addEventListener("click", () => this.#fold(!box.classList.contains("is-folded")));
  }

  #fold(folded) {
    this.#box.classList.toggle("is-folded", folded);
    const button = this.#box.querySelector(".fold-problem");
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = word(folded ? "unfold" : "fold");
  }

  /** Bring it to the front. Ids are only those of the item in front. */
  activate() {
    for (const element of this.#named) element.id = element.dataset.id;
    this.element.inert = false;
    this.element.classList.remove("is-ahead");
    this.#fold(matchMedia("(max-width: 640px)").matches && this.#box.querySelector(".problem-text").scrollHeight > 120);
    scrollTo({ top: 0, behavior: "instant" });
  }

  leave() {
    this.body.leave?.();
    this.element.remove();
  }

  refresh() {
    this.body.refresh(this.session);
  }

  reported(is) {
    this.#box.querySelector(".reported").hidden = !is;
  }

  /** Keep what the next key is for at a comfortable height, between the problem and the bottom bar. */
  bringIntoView() {
    const place = this.body.place(this.session);
    if (place?.isConnected) this.#bring(place);
  }

  /** Scroll, unless the place stands within the upper `share` of the room between problem and bar. */
  #bring(place, share = 0.7) {
    const box = place.getBoundingClientRect();
    const top = Math.max(this.#box.getBoundingClientRect().bottom, 0); // on low windows the problem scrolls away
    const room = find("bar").parentElement.getBoundingClientRect().top - top; // with what stands on the bar: the tutorial, a correction
    if (box.top < top + 8 || box.bottom > top + share * room) {
      const above = Math.max(Math.min(0.28 * room, room - box.height - 16), 12);
      scrollBy({ top: box.top - top - above, behavior: "instant" });
    }
  }
}
