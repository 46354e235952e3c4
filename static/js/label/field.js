// A text of the labeler's own, with a live preview. What is typed is kept in the browser until it is said.

import { drop, keep, kept } from "./drafts.js";
import { clone } from "./words.js";
import { typeset } from "../mathtext.js";

/** An element with `start()`, which puts the caret into it, and `show(text)`, which shows what has been said. Enter says it;
 * leaving it leaves a draft, or says it where `onLeaving` is set. What `saved(text)` does not take (false) stays a draft, too. */
export function field({ label, save, draft, saved, preview = true, onLeaving = false }) {
  const element = clone("field-template");
  const area = element.querySelector("textarea");
  const button = element.querySelector("button");
  const seen = element.querySelector(".field-preview");
  element.querySelector(".field-label").textContent = label;
  area.setAttribute("aria-label", label);
  button.querySelector("span").textContent = save;
  let said = "";
  let frame = 0;

  const refresh = () => {
    const text = area.value;
    button.disabled = text.trim() === said.trim();
    seen.hidden = !preview || !text.trim();
    if (!seen.hidden) typeset(seen, text);
  };
  const say = () => {
    if (button.disabled) return;
    const before = said;
    said = area.value;
    drop(draft);
    area.blur();
    if (saved(said) === false) {
      keep(draft, said);
      said = before;
    }
    refresh();
  };
  area.addEventListener("input", () => {
    keep(draft, area.value);
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(refresh);
  });
  area.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") area.blur();
    else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      refresh();
      say();
    } else return;
    event.stopPropagation();
  });
  if (onLeaving) area.addEventListener("blur", say);
  button.addEventListener("click", say);

  element.start = () => area.focus({ preventScroll: true });
  element.show = (text) => {
    if (text === said && element.dataset.shown) return;
    said = text;
    element.dataset.shown = "yes";
    area.value = text || kept(draft);
    refresh();
  };
  return element;
}
