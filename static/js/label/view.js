// The item on the page. Built once for a solution, then only attributes change.

import { errorAt, finishReason, lastOpen } from "./item.js";
import { typeset } from "../mathtext.js";

const find = (id) => document.getElementById(id);
const words = find("words").dataset;

export const word = (name, values = {}) =>
  Object.entries(values).reduce((text, [key, value]) => text.replace(`{${key}}`, value), words[name] ?? "");
export const ratingWord = (value) => words[`word-${value}`];

let rows = [];

/** Put a solution on the page. `rated(step, value)` is called when a rating button is pressed, `chosen(step)` when a step
 * is clicked. */
export function show(payload, { rated, chosen }) {
  typeset(find("problem-text"), payload.problem.text);
  const answer = payload.problem.reference_answer;
  find("reference").hidden = answer === null;
  if (answer !== null) typeset(find("reference-answer"), answer, { answer: true });
  rows = payload.steps.map((step, index) => row(step, index, { rated, chosen }));
  find("steps").replaceChildren(...rows);
  for (const id of ["problem", "steps", "bar"]) find(id).hidden = false;
  find("waiting").hidden = true;
  fold(matchMedia("(max-width: 640px)").matches && find("problem-text").scrollHeight > 120);
  scrollTo({ top: 0 });
}

function row(step, index, { rated, chosen }) {
  const item = find("step-template").content.firstElementChild.cloneNode(true);
  item.querySelector(".step-rates").setAttribute("aria-label", word("step", { n: index + 1 }));
  item.querySelector(".step-number").textContent = index + 1;
  typeset(item.querySelector(".step-text"), step.text);
  item.addEventListener("click", (event) => {
    const button = event.target.closest(".rate");
    if (!button) {
      if (getSelection().isCollapsed && !event.target.closest("summary, a")) chosen(index);
      return;
    }
    rated(index, Number(button.dataset.value));
    if (event.detail > 0) button.blur();
  });
  return item;
}

/** Bring the page in line with the item. */
export function refresh(item) {
  const error = errorAt(item);
  const open = lastOpen(item);
  rows.forEach((row, step) => {
    const { value, flagged } = item.ratings[step];
    row.classList.toggle("is-current", step === item.focus);
    row.classList.toggle("is-rated", value !== null);
    row.classList.toggle("is-to-come", step > open && error < 0);
    row.classList.toggle("is-after-error", error >= 0 && step > error);
    row.querySelector(".step-unsure").hidden = !flagged;
    if (step === item.focus) row.setAttribute("aria-current", "step");
    else row.removeAttribute("aria-current");
    for (const button of row.querySelectorAll(".rate")) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.value) === value && value !== null));
      button.disabled = step > open;
    }
  });
  const current = item.ratings[item.focus];
  for (const [name, value] of [["bad", -1], ["neutral", 0], ["good", 1]]) {
    find("bar").querySelector(`[data-act=${name}]`).setAttribute("aria-pressed", String(current.value === value));
  }
  find("bar").querySelector("[data-act=unsure]").setAttribute("aria-pressed", String(current.flagged));
  find("bar").querySelector("[data-act=undo]").disabled = item.past.length === 0;
  const reason = finishReason(item);
  const submit = find("submit");
  submit.disabled = reason === null;
  submit.classList.toggle("button-main", reason !== null);
  submit.textContent =
    reason === null ? submit.dataset.missing : reason === "solution" ? submit.dataset.done : `${submit.dataset.error} ${error + 1}`;
}

/** Keep the current step at a comfortable height, between the problem and the bottom bar. */
export function bringIntoView(item) {
  const box = rows[item.focus].getBoundingClientRect();
  const top = find("problem").getBoundingClientRect().bottom;
  const bottom = find("bar").getBoundingClientRect().top;
  const room = bottom - top;
  if (box.top < top + 8 || box.bottom > top + 0.7 * room) scrollBy({ top: box.top - top - 0.28 * room, behavior: "instant" });
}

/** There is no item: say why. */
export function wait(what, more = "") {
  for (const id of ["problem", "steps", "bar"]) find(id).hidden = true;
  const waiting = find("waiting");
  waiting.querySelector(".waiting-what").textContent = what;
  waiting.querySelector(".waiting-more").textContent = more;
  waiting.hidden = false;
}

export function sending() {
  const submit = find("submit");
  submit.disabled = true;
  submit.textContent = submit.dataset.sending;
}

export function announce(text) {
  find("announce").textContent = text;
}

export function today(count) {
  find("today").textContent = count;
}

/** One line above the problem, with at most one thing to do about it; an empty text takes it away. */
export function notice(text, { label = "", act = null } = {}) {
  const box = find("notice");
  const button = box.querySelector("button");
  box.hidden = !text;
  box.querySelector("p").textContent = text;
  button.hidden = !label;
  button.textContent = label;
  button.onclick = act;
}

export function saved(state, waiting) {
  const mark = find("saved");
  mark.dataset.state = state;
  const text = mark.dataset[state].replace("{n}", waiting);
  if (mark.textContent !== text) mark.textContent = text;
}

function fold(folded) {
  find("problem").classList.toggle("is-folded", folded);
  find("fold").setAttribute("aria-expanded", String(!folded));
  find("fold").textContent = folded ? word("unfold") : word("fold");
}
find("fold").addEventListener("click", () => fold(!find("problem").classList.contains("is-folded")));
