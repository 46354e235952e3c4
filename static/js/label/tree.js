// Phase 1 on the page: the chosen steps as a column; at its end the candidates, or a step of the labeler's own.

import { field } from "./field.js";
import { card, paintCard, stepLabel } from "./marks.js";
import * as protocol from "./protocol.js";
import { awaited, stepOf } from "./session.js";
import { clone, word } from "./words.js";
import { typeset } from "../mathtext.js";

export class Tree {
  #acts;
  #turns = []; // {parent, element, cards, own}
  #cards = new Map(); // completion id -> card
  #write;
  #await;

  constructor(session, acts) {
    this.#acts = acts;
    this.element = clone("steps-template");
    this.element.classList.add("tree");
    this.#write = clone("write-template");
    this.field = field({
      label: word("ownStep"),
      save: word("saveStep"),
      draft: `${session.item.assignment}:step`,
      saved: (text) => acts.write(text),
    });
    this.#write.querySelector(".write-form").append(this.field);
    this.#await = this.#write.querySelector(".awaited");
    this.#await.querySelector("[data-again]").addEventListener("click", () => acts.askAgain());
  }

  refresh(session) {
    const { way } = session;
    const open = stepOf(session);
    const kept = way.findIndex((entry, place) => this.#turns[place]?.parent !== entry.parent);
    for (const turn of kept < 0 ? this.#turns.splice(way.length) : this.#turns.splice(kept)) turn.element.remove();
    way.forEach((entry, place) => {
      this.#turns[place] ??= this.#turn(entry);
      this.#draw(session, entry, this.#turns[place], entry.step === open);
    });
    this.#drawWrite(session);
  }

  #turn({ step, parent }) {
    const element = clone("turn-template");
    element.querySelector(".step-number").textContent = step + 1;
    element.querySelector(".cards").setAttribute("aria-label", stepLabel(step));
    this.element.append(element);
    return { parent, element, cards: element.querySelector(".cards"), own: element.querySelector(".own-step"), drawn: "" };
  }

  #draw(session, entry, turn, isOpen) {
    const { state, stop } = session;
    const isEnd = Boolean(entry.wants);
    turn.element.classList.toggle("is-end", isEnd);
    turn.element.classList.toggle("is-open", isOpen || isEnd);
    turn.element.classList.toggle("is-grid", session.item.protocol.always_grid);
    const cards = entry.shown.map((completion, place) => this.#card(entry, completion, place));
    const drawn = entry.shown.map(({ id }) => id).join();
    if (turn.drawn !== drawn) turn.cards.replaceChildren(...cards);
    turn.drawn = drawn;
    let number = 0;
    entry.shown.forEach((completion, place) => {
      const value = protocol.valueOf(state, completion);
      const isCurrent = stop?.id === `candidate:${completion.id}`;
      const flagged = protocol.flaggedOf(state, completion) || (isCurrent && session.unsure);
      const isChosen = entry.completion === completion;
      const mayContinue = entry.wants === "choice" && value === 1;
      paintCard(cards[place], { value, flagged, isCurrent });
      cards[place].hidden = !isOpen && !isEnd && !isChosen;
      cards[place].classList.toggle("is-chosen", isChosen);
      const pick = cards[place].querySelector(".pick");
      pick.hidden = !mayContinue;
      if (mayContinue) pick.querySelector("kbd").textContent = (number += 1);
    });
    turn.own.hidden = !entry.written;
    if (entry.written) this.#drawOwn(turn, state.texts[entry.written], stop?.id === `written:${entry.step}`);
  }

  #drawOwn(turn, text, isCurrent) {
    turn.own.classList.toggle("is-current", isCurrent);
    if (turn.own.dataset.text === text) return;
    turn.own.dataset.text = text;
    typeset(turn.own.querySelector(".card-text"), text);
  }

  #card(entry, completion, place) {
    let element = this.#cards.get(completion.id);
    if (element) return element;
    const id = `candidate:${completion.id}`;
    element = card(completion.text, word("candidate", { n: place + 1, step: entry.step + 1 }), {
      rated: (value) => this.#acts.rate(id, value),
      chosen: () => this.#acts.go(id),
    });
    element.querySelector(".pick").addEventListener("click", (event) => {
      event.stopPropagation();
      this.#acts.choose(completion.id);
    });
    this.#cards.set(completion.id, element);
    return element;
  }

  /** The place for an own step, at the end of the way; while candidates are coming, or have failed to, it says so. */
  #drawWrite(session) {
    const last = session.way.at(-1);
    const state = awaited(session);
    const wanted = last.wants === "own_step";
    this.#write.hidden = !wanted;
    if (!wanted) return;
    const body = this.#turns.at(-1).element.querySelector(".tree-body");
    if (this.#write.parentElement !== body) body.append(this.#write); // moving it would take the caret out of the field
    this.#await.hidden = !state;
    this.#await.dataset.state = state;
    this.#await.querySelector(".awaited-what").textContent = state ? word(`candidates-${state}`) : "";
    this.#await.querySelector("[data-again]").hidden = state !== "failed";
    this.#write.querySelector(".write-form").hidden = state === "coming" && !this.#write.contains(document.activeElement);
    this.#write.querySelector(".write-why").textContent = word(last.shown.length ? "noneGood" : "noneOffered");
    this.#write.classList.toggle("is-current", session.stop?.id === "write");
    this.field.show("");
  }

  place(session) {
    const { stop } = session;
    if (stop?.kind === "write" || stop?.kind === "coming") return this.#write;
    if (stop?.kind === "candidate") return this.#cards.get(stop.completion.id);
    return this.#turns[stop?.step ?? this.#turns.length - 1]?.element;
  }

  focusField() {
    if (!this.#write.isConnected || this.#write.hidden || this.#write.querySelector(".write-form").hidden) return false;
    this.field.start();
    return true;
  }
}
