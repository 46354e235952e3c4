// The three shapes beside everything that can be rated.

import { clone, ratingWord, word } from "./words.js";
import { typeset } from "../mathtext.js";

/** A group of three buttons. `rated(value)` is called when one is pressed. */
export function marks(label, rated) {
  const group = clone("rates-template");
  group.setAttribute("aria-label", label);
  for (const button of group.children) button.querySelector(".visually-hidden").textContent = ratingWord(Number(button.dataset.value));
  group.addEventListener("click", (event) => {
    const button = event.target.closest(".rate");
    if (!button) return;
    rated(Number(button.dataset.value));
    // A mouse leaves no focus behind, so that Enter goes on to mean "submit".
    if (event.detail > 0) button.blur();
  });
  return group;
}

export function paint(group, value, isOpen = true) {
  for (const button of group.children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.value) === value && value !== null));
    button.disabled = !isOpen;
  }
}

/** A text with its shapes: a critique, an alternative next step, or a candidate. */
export function card(text, label, { rated, chosen }) {
  const element = clone("card-template");
  element.prepend(marks(label, rated));
  typeset(element.querySelector(".card-text"), text);
  element.addEventListener("click", (event) => {
    if (!event.target.closest("button, summary, a") && getSelection().isCollapsed) chosen();
  });
  return element;
}

export function paintCard(element, { value, flagged = false, isCurrent = false, isOpen = true }) {
  const drawn = `${value} ${flagged} ${isCurrent} ${isOpen}`;
  if (element.dataset.drawn === drawn) return;
  element.dataset.drawn = drawn;
  paint(element.querySelector(".rates"), value, isOpen);
  element.classList.toggle("is-current", isCurrent);
  element.classList.toggle("is-rated", value !== null);
  element.querySelector(".unsure-mark").hidden = !flagged;
  mark(element, isCurrent);
}

/** Say, to those who listen, where the next key falls. */
export function mark(element, isCurrent) {
  if (isCurrent) element.setAttribute("aria-current", "step");
  else element.removeAttribute("aria-current");
}

export const stepLabel = (step) => word("step", { n: step + 1 });
