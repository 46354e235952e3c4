// One key an act, no modifiers. A key is known by the letter it types, or, on keyboards that type other letters, by
// where it is. Digits go by place first: some keyboards need Shift for them.

const BY_KEY = {
  1: "bad", 2: "neutral", 3: "good", u: "unsure", z: "undo", g: "guideline", "?": "keys",
  arrowup: "up", w: "up", arrowdown: "down", s: "down", enter: "submit", " ": "submit",
};
const BY_CODE = {
  Digit1: "bad", Digit2: "neutral", Digit3: "good", Numpad1: "bad", Numpad2: "neutral", Numpad3: "good",
  KeyU: "unsure", KeyZ: "undo", KeyG: "guideline", KeyW: "up", KeyS: "down",
};

/** The act that a key press asks for, or undefined: while typing, with a modifier held, or where the key is the
 * focused control's own. */
export function actOf(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return undefined;
  const target = event.target;
  if (target.closest?.("input, textarea, select, dialog[open], [contenteditable]")) return undefined;
  const key = event.key.toLowerCase();
  if ((key === "enter" || key === " ") && target.closest?.("button, a, summary")) return undefined;
  if (event.code.startsWith("Digit") && !event.shiftKey) return BY_CODE[event.code];
  const typesLatin = /^[a-z]$/.test(key);
  return BY_KEY[key] ?? (typesLatin ? undefined : BY_CODE[event.code]);
}

/** Call `perform(act)` for keys, and for clicks on elements with data-act. */
export function listen(perform) {
  addEventListener("keydown", (event) => {
    const act = actOf(event);
    if (act && perform(act) !== false) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (!button) return;
    // A mouse leaves no focus behind, nor for a dialog to give back, so that Enter and Space go on to mean "submit".
    if (event.detail > 0) button.blur();
    perform(button.dataset.act);
  });
}
