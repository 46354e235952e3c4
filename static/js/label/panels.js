// What is asked after the first −, in place under it, one after another: progress, critiques, alternative next steps.

import { card, mark, paintCard } from "./marks.js";
import * as protocol from "./protocol.js";
import { panels, valueAt } from "./session.js";
import { field } from "./field.js";
import { clone, word } from "./words.js";
import { make } from "../mathtext.js";

export class Panels {
  #acts;
  #box = null;
  #step = -1;
  #places = new Map(); // stop id -> element
  #sections = new Map(); // panel name -> section
  #own = null;

  constructor(acts) {
    this.#acts = acts;
  }

  /** Bring the panels in line, under the row of the error; without an error they go. */
  refresh(session, errorRow) {
    const found = panels(session);
    if (!errorRow || !found.length) {
      this.#box?.remove();
      this.#box = null;
      return;
    }
    const stops = new Set(found.flatMap((panel) => panel.stops.map(({ id }) => id)));
    const isAnother = this.#step !== session.step || [...this.#places.keys()].some((id) => !stops.has(id));
    if (isAnother || !this.#box) this.#start(errorRow, session.step);
    this.#fill(found, session);
    const at = session.stop?.id;
    for (const panel of found) {
      const section = this.#sections.get(panel.name);
      section.hidden = !panel.open;
      section.classList.toggle("is-active", panel.open && !panel.done);
      section.querySelector(".panel-coming").hidden = !panel.coming;
      for (const stop of panel.stops) this.#paint(session, stop, stop.id === at);
    }
  }

  #start(errorRow, step) {
    this.#box?.remove();
    this.#box = clone("panels-template");
    this.#step = step;
    this.#places.clear();
    this.#sections.clear();
    errorRow.after(this.#box);
  }

  /** What comes late is put beside what is there: somebody may be writing in it. */
  #fill(found, session) {
    const sections = this.#box.firstElementChild;
    for (const [name, section] of this.#sections) {
      if (found.some((panel) => panel.name === name)) continue;
      section.remove();
      this.#sections.delete(name);
    }
    for (const [order, panel] of found.entries()) {
      if (!this.#sections.has(panel.name)) {
        sections.insertBefore(this.#section(panel), sections.children[order] ?? null);
      }
      const body = this.#sections.get(panel.name).querySelector(".panel-body");
      for (const [place, stop] of panel.stops.entries()) {
        if (!this.#places.has(stop.id)) body.insertBefore(this.#element(stop, place, session), body.children[place] ?? null);
      }
    }
  }

  #section(panel) {
    const section = clone("panel-template");
    section.querySelector("h3").textContent = word(`ask-${panel.name}`);
    section.classList.toggle("is-required", panel.required);
    section.querySelector(".panel-how").textContent = word(panel.required ? "required" : "optional");
    this.#sections.set(panel.name, section);
    return section;
  }

  #element(stop, place, session) {
    const acts = { rated: (value) => this.#acts.rate(stop.id, value), chosen: () => this.#acts.go(stop.id) };
    let element;
    if (stop.kind === "progress") element = this.#scale();
    else if (stop.kind === "own") element = this.#own = this.#ownCritique(session);
    else if (stop.kind === "critique") element = card(stop.critique.text, word("critique", { n: place + 1 }), acts);
    else element = card(stop.completion.text, word("alternative", { n: place + 1 }), acts);
    this.#places.set(stop.id, element);
    return element;
  }

  #scale() {
    const group = make("div", "scale");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", word("ask-progress"));
    for (let value = 0; value < 4; value += 1) {
      const button = clone("scale-template");
      button.dataset.value = value;
      button.querySelector("kbd").textContent = value + 1;
      button.querySelector("span").textContent = word(`progress-${value}`);
      button.addEventListener("click", (event) => {
        this.#acts.progress(value);
        if (event.detail > 0) button.blur();
      });
      group.append(button);
    }
    return group;
  }

  #ownCritique(session) {
    return field({
      label: word("ownCritique"),
      save: word("saveCritique"),
      draft: `${session.item.assignment}:critique`,
      saved: (text) => this.#acts.ownCritique(text),
      onLeaving: true,
    });
  }

  #paint(session, stop, isCurrent) {
    const element = this.#places.get(stop.id);
    if (stop.kind === "progress") {
      for (const button of element.children) {
        button.setAttribute("aria-pressed", String(Number(button.dataset.value) === session.state.progress));
      }
    } else if (stop.kind === "own") {
      element.show(session.state.own_critique);
    } else {
      const flagged = stop.completion ? protocol.flaggedOf(session.state, stop.completion) || (isCurrent && session.unsure) : false;
      return paintCard(element, { value: valueAt(session, stop), flagged, isCurrent });
    }
    element.classList.toggle("is-current", isCurrent);
    return mark(element, isCurrent);
  }

  place(stop) {
    if (stop?.kind === "end" || stop?.kind === "coming") return this.#box;
    return this.#places.get(stop?.id);
  }

  focusField() {
    if (!this.#own?.isConnected || !this.#own.checkVisibility()) return false;
    this.#own.start();
    return true;
  }
}
