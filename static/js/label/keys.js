// One key an act, no modifiers; every act can have other keys. A key has a name: the character that it types ("u", "?"),
// "1" for a digit wherever it is (the number row is asked by place: some keyboards need Shift there), or the name of what
// types nothing ("ArrowUp", "Enter", "Space"). On keyboards that type other letters than Latin ones, a key answers to the
// letter it types and to the Latin letter of its place.
//
//   const keymap = new Keymap(state.keys);        own keys {act: [name, ...]} over the defaults
//   listen(perform, keymap)                       perform(act) for keys and for clicks on [data-act]; false: not used
//   keymap.labelOf("unsure")                      "U", for the page; showLabels(keymap) fills every <kbd data-key="unsure">
//   keymap.addEventListener("change", …)          somebody has given an act another key

export const DEFAULTS = {
  bad: ["1"], // the first choice, where there are choices
  neutral: ["2"],
  good: ["3"],
  fourth: ["4"],
  unsure: ["u"],
  undo: ["z"],
  submit: ["Enter", "Space"], // submit, or go past a panel that may be left out
  up: ["ArrowUp", "w"],
  down: ["ArrowDown", "s"],
  earlier: ["e"], // targeted labeling: an earlier step is wrong
  comment: ["c"],
  report_answer: ["a"],
  bad_problem: ["b"],
  give_up: ["x"],
  skip: ["n"],
  guideline: ["g"],
  keys: ["?"],
};
const SIGNS = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Backspace: "⌫" };
const HELD = new Set(["up", "down"]); // acts that a held key repeats
const OWN = new Set(["Enter", "Space", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"]); // a focused control's own keys
const RESERVED = /^(Tab|Escape|F\d+|Shift|Control|Alt|AltGraph|Meta|OS|CapsLock|NumLock|ScrollLock|ContextMenu|Dead|Process|Unidentified|Compose|Page(Up|Down)|Home|End)$/;
const TYPING = "input:not([type=radio], [type=checkbox]), textarea, select, [contenteditable]:not([contenteditable=false])";
const CONTROLS = "button, a[href], summary, input, [role=button]";

/** The names of a pressed key, the one that counts first in front; none where it cannot mean an act. */
export function namesOf({ key, code = "", shiftKey = false }) {
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(code)?.[1];
  if (digit && !shiftKey) return [digit];
  if (key === " ") return shiftKey ? [] : ["Space"];
  const typed = [...key].length === 1 ? key.toLowerCase() : null;
  if (shiftKey && (typed === null || typed.toUpperCase() !== typed)) return []; // Shift only where a sign needs it: ?
  const place = /^Key([A-Z])$/.exec(code)?.[1].toLowerCase();
  if (typed === null) return place ? [place] : RESERVED.test(key) ? [] : [key]; // an input method types no letter
  return place && typed > "\x7f" ? [typed, place] : [typed];
}

export class Keymap extends EventTarget {
  #own;

  /** @param own {act: [name, ...]}; acts that are unknown here are left alone, acts without a key keep the default */
  constructor(own = {}) {
    super();
    this.#own = own;
  }

  /** Names of the act's keys. */
  of(act) {
    return this.#own[act]?.length ? this.#own[act] : DEFAULTS[act];
  }

  /** The act of a key event, or undefined. Own keys win over defaults. */
  actOf(event) {
    for (const name of namesOf(event)) {
      const acts = Object.keys(DEFAULTS).filter((act) => this.of(act).includes(name));
      if (acts.length) return acts.find((act) => this.#own[act]?.length) ?? acts[0];
    }
    return undefined;
  }

  labelOf(act) {
    return signOf(this.of(act)[0]);
  }

  /** The act that already has this key, other than `act`; or undefined. */
  conflict(name, act) {
    return Object.keys(DEFAULTS).find((other) => other !== act && this.of(other).includes(name));
  }

  /** Own keys with other ones for an act; those that are the default are left out. */
  with(act, names) {
    const own = { ...this.#own, [act]: names };
    if (String(names) === String(DEFAULTS[act])) delete own[act];
    return own;
  }

  /** All own keys at once; {} goes back to the defaults. */
  replace(own) {
    this.#own = own;
    this.dispatchEvent(new Event("change"));
  }
}

/** How a key is shown: "U", "↑", "Enter". */
export const signOf = (name) => SIGNS[name] ?? (name.length === 1 ? name.toUpperCase() : name);

/** Fill every <kbd data-key="act"> below `root`. */
export function showLabels(keymap, root = document) {
  for (const box of root.querySelectorAll("kbd[data-key]")) box.textContent = keymap.labelOf(box.dataset.key);
}

const dialogs = document.getElementsByTagName("dialog"); // kept by the browser: a long solution has 100,000 elements to search

/** The act that a key press asks for: none while typing, in a dialog, with a modifier, or where the key is the focused
 * control's own. */
export function actOf(event, keymap) {
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented) return undefined;
  if ([...dialogs].some((dialog) => dialog.matches(":modal"))) return undefined;
  // What stood in a dialog that has just closed keeps the focus until the next frame.
  const target = event.composedPath()[0];
  const isFocused = (selector) => target.closest?.(selector) && target.checkVisibility();
  if (isFocused(TYPING)) return undefined;
  if (OWN.has(namesOf(event)[0]) && isFocused(controlsOf(event))) return undefined;
  const act = keymap.actOf(event);
  return event.repeat && !HELD.has(act) ? undefined : act;
}

/** Arrows are the own keys of radio buttons alone. */
const controlsOf = (event) => (event.key.startsWith("Arrow") ? "input[type=radio]" : CONTROLS);

/** Call `perform(act)` for keys, and for clicks on elements with data-act. Returns a function that stops it. */
export function listen(perform, keymap) {
  const stop = new AbortController();
  const { signal } = stop;
  addEventListener("keydown", (event) => {
    const act = actOf(event, keymap);
    if (act && perform(act) !== false) event.preventDefault();
  }, { signal });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (!button) return;
    // A mouse leaves no focus behind, nor for a dialog to give back, so that Enter and Space go on to mean "submit".
    if (event.detail > 0) button.blur();
    perform(button.dataset.act);
  }, { signal });
  return () => stop.abort();
}
