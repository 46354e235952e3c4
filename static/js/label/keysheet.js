// The sheet of keys: each act with its keys, which can be changed here. One dialog, #dialog-keys (label/_keys.html).
//
//   mountKeySheet(keymap, save)      save(own) stores {act: [name, ...]} for the person; what it throws is shown as "not saved"
//
// The page's own listeners leave alone what is typed in a field, so a key is asked for in a field.

import { namesOf, signOf } from "./keys.js";

const dialog = document.getElementById("dialog-keys");
const words = dialog.querySelector("[data-conflict]").dataset;
const status = dialog.querySelector(".keys-status");

export function mountKeySheet(keymap, save) {
  const rows = [...dialog.querySelectorAll("[data-keys-of]")].map((row) => mountRow(row, keymap, change));
  const draw = () => rows.forEach((row) => row.draw());

  async function change(own) {
    keymap.replace(own);
    try {
      await save(own);
      say("");
    } catch {
      say(words.unsaved);
    }
  }

  dialog.querySelector("[data-reset]").addEventListener("click", () => change({}));
  dialog.addEventListener("close", () => say(""));
  keymap.addEventListener("change", draw);
  draw();
}

function mountRow(row, keymap, change) {
  const act = row.dataset.keysOf;
  const title = row.querySelector(".keys-act").textContent;
  const caps = row.querySelector(".keys-caps");
  const tools = document.getElementById("keys-tools").content.cloneNode(true);
  const field = tools.querySelector("input");
  const buttons = [...tools.querySelectorAll("button")];
  let kept = []; // keys that the new one joins

  const show = (listening) => {
    field.hidden = !listening;
    for (const button of buttons) button.hidden = listening;
  };
  for (const button of buttons) {
    button.setAttribute("aria-label", `${button.textContent}: ${title}`);
    button.addEventListener("click", () => {
      kept = button.dataset.tool === "add" ? keymap.of(act) : [];
      say("");
      show(true);
      field.focus();
    });
  }
  field.setAttribute("aria-label", `${field.placeholder}: ${title}`);
  field.addEventListener("blur", () => show(false));
  field.addEventListener("keydown", (event) => {
    if (event.key === "Tab" || ["Shift", "CapsLock", "AltGraph"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key !== "Escape" && !take(event)) return;
    show(false);
    buttons[0].focus();
  });
  row.append(tools);

  /** Whether the key that was pressed is now the act's. */
  function take(event) {
    const names = event.ctrlKey || event.altKey || event.metaKey ? [] : namesOf(event);
    const name = names.at(-1); // the Latin letter, where a keyboard types others: it is there on every layout
    const other = names.map((one) => keymap.conflict(one, act)).find(Boolean);
    if (!name) say(words.unusable);
    else if (other) say(words.conflict.replace("{key}", signOf(name)).replace("{act}", titleOf(other)));
    else change(keymap.with(act, [...kept.filter((one) => one !== name), name]));
    return Boolean(name && !other);
  }

  return {
    draw() {
      caps.replaceChildren(...keymap.of(act).flatMap((name) => [cap(signOf(name)), " "]));
      buttons[1].disabled = keymap.of(act).length >= 4;
    },
  };
}

const titleOf = (act) => dialog.querySelector(`[data-keys-of="${act}"] .keys-act`).textContent;

function cap(text) {
  const box = document.createElement("kbd");
  box.textContent = text;
  return box;
}

function say(text) {
  status.textContent = text;
}
