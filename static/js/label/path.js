// Phase 2 on the page: the ready solution's steps, built once; then only rows that change are touched.

import { mark, marks, paint, stepLabel } from "./marks.js";
import { Panels } from "./panels.js";
import * as protocol from "./protocol.js";
import { clone, word } from "./words.js";
import { typesetLater } from "../mathtext.js";
import { forget } from "../text/later.js";

export class Path {
  #rows;
  #list;
  #panels;
  #drawn = [];

  /** @param acts what a press on the page means: see main.js */
  constructor(session, acts) {
    this.#list = clone("steps-template");
    const path = protocol.pathOf(session.item);
    this.#rows = path.map((completion) => row(completion, acts));
    // First what is to be judged now, then what comes; what has been read before can wait.
    const texts = path.map(({ text }, step) => [textOf(this.#rows[step]), text, { box: this.#rows[step] }]);
    typesetLater([...texts.slice(session.step), ...texts.slice(0, session.step)]);
    this.#list.replaceChildren(...this.#rows);
    this.#panels = new Panels(acts);
    this.element = this.#list;
  }

  refresh(session) {
    const { item, state } = session;
    const path = protocol.pathOf(item);
    const error = protocol.errorAt(item, state);
    const last = session.step;
    const asked = new Set(protocol.asked(item));
    const at = session.stop?.kind === "step" ? session.stop.step : -1;
    this.#list.classList.toggle("is-picking", session.earlier);
    this.#rows.forEach((element, step) => {
      const isContext = !asked.has(step) && step !== error;
      const rating = state.ratings[path[step].id];
      const flagged = rating?.flagged || (step === at && session.unsure);
      const place = error >= 0 && step > error ? "after-error" : isContext ? "context" : step > last ? "to-come" : "open";
      this.#draw(element, step, { place, value: rating?.value ?? null, flagged: Boolean(flagged), isCurrent: step === at });
    });
    this.#panels.refresh(session, this.#rows[error]);
  }

  #draw(element, step, { place, value, flagged, isCurrent }) {
    const drawn = `${place} ${value} ${flagged} ${isCurrent}`;
    if (this.#drawn[step] === drawn) return;
    this.#drawn[step] = drawn;
    element.classList.toggle("is-current", isCurrent);
    element.classList.toggle("is-rated", value !== null);
    for (const name of ["to-come", "after-error", "context"]) element.classList.toggle(`is-${name}`, place === name);
    element.querySelector(".unsure-mark").hidden = !flagged;
    element.querySelector(".unfold").hidden = place !== "context";
    paint(element.querySelector(".rates"), value, place === "open");
    mark(element, isCurrent);
  }

  /** The element where the next key falls. */
  place(session) {
    const { stop } = session;
    if (stop?.kind === "step") return this.#rows[stop.step];
    return this.#panels.place(stop) ?? this.#rows[session.step];
  }

  /** Targeted: show the context in full, or folded again. */
  unfoldAll() {
    const folded = this.#rows.filter((element) => element.matches(".is-context:not(.is-unfolded)"));
    const unfold = folded.length > 0;
    for (const element of this.#rows) unfoldRow(element, unfold);
    return unfold;
  }

  focusField() {
    return this.#panels.focusField();
  }

  /** The item is done with: nobody will read what has not been rendered yet. */
  leave() {
    for (const element of this.#rows) forget(textOf(element));
  }
}

const textOf = (element) => element.querySelector(".step-text");

function row(completion, acts) {
  const element = clone("step-template");
  const id = `step:${completion.step}`;
  element.prepend(marks(stepLabel(completion.step), (value) => acts.rate(id, value)));
  element.querySelector(".step-number").textContent = completion.step + 1;
  const unfold = element.querySelector(".unfold");
  unfold.setAttribute("aria-label", word("unfoldStep", { n: completion.step + 1 }));
  element.addEventListener("click", (event) => {
    if (event.target.closest(".rates, summary, a") || !getSelection().isCollapsed) return;
    const isFolding = element.matches(".is-context") && !element.closest(".is-picking");
    if (isFolding) unfoldRow(element, !element.matches(".is-unfolded"));
    else acts.go(id);
    if (event.detail > 0) unfold.blur();
  });
  return element;
}

function unfoldRow(element, unfold) {
  element.classList.toggle("is-unfolded", unfold);
  element.querySelector(".unfold").setAttribute("aria-expanded", String(unfold));
}
