// The page's dialogs. Native ones: Escape closes, the focus stays inside and comes back.

const dialogOf = (name) => document.getElementById(`dialog-${name}`);

export function showSheet(name) {
  const dialog = dialogOf(name);
  if (!dialog.open) dialog.showModal();
}

/** Open a dialog and wait for it. Resolves to what `answer(form)` makes of it when it was sent, else to null. `digits(n)`
 * is called when a digit is pressed outside a text field. */
function ask(name, { answer, digits, opened = () => {} }) {
  const dialog = dialogOf(name);
  const form = dialog.querySelector("form");
  const pressed = (event) => {
    if (!dialog.open || event.target.matches("textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
    const digit = Number(event.key);
    if (digit > 0 && digits(digit, form)) event.preventDefault();
    else if (event.key === "Enter" && event.target.matches("[type=radio]")) {
      event.preventDefault();
      const send = form.querySelector("[value=send]");
      if (!send.disabled) form.requestSubmit(send);
    }
  };
  const over = new AbortController();
  const { signal } = over;
  dialog.addEventListener("keydown", pressed, { signal });
  dialog.showModal();
  opened(form);
  return new Promise((resolve) => {
    const end = (result) => {
      over.abort();
      resolve(result);
    };
    // "close" comes a moment after the dialog has closed, and the next key may come before it.
    form.addEventListener("submit", ({ submitter }) => end(submitter.value ? answer(form, submitter.value) : null), { signal });
    dialog.addEventListener("close", () => dialog.open || end(null), { signal });
  });
}

/** Ask why. Resolves to a sentence, or null when the labeler thinks better of it. */
export function askReason(name) {
  const reason = (form) => [form.elements.reason.value, form.elements.more.value.trim()].filter(Boolean).join(": ");
  return ask(name, {
    answer: reason,
    opened: (form) => {
      form.reset();
      const refresh = () => { form.querySelector("[value=send]").disabled = !reason(form); };
      form.oninput = refresh;
      refresh();
      form.elements.reason[0].focus();
    },
    digits: (digit, form) => {
      const choice = form.elements.reason[digit - 1];
      if (!choice) return false;
      choice.checked = true;
      choice.focus();
      form.oninput();
      return true;
    },
  });
}

/** Ask for a text. Resolves to it (blank: take it away), or to null. */
export function askText(name, text) {
  return ask(name, {
    answer: (form) => form.elements.more.value.trim(),
    opened: (form) => {
      form.elements.more.value = text;
      form.elements.more.focus();
    },
    digits: () => false,
  });
}

/** Ask which of the dialog's buttons. Resolves to the value of the one that was pressed, or to null. */
export function askWhich(name) {
  const buttons = (form) => [...form.querySelectorAll("[data-choice]")];
  return ask(name, {
    answer: (form, value) => value,
    opened: (form) => buttons(form)[0].focus(),
    digits: (digit, form) => {
      const choice = buttons(form)[digit - 1];
      if (choice) form.requestSubmit(choice);
      return Boolean(choice);
    },
  });
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
}

/** The key that opens a sheet closes it, too. */
export function closeByOwnKey(keymap) {
  addEventListener("keydown", (event) => {
    const sheet = ["guideline", "keys"].map(dialogOf).find((dialog) => dialog.open);
    if (!sheet || event.target.closest("input, textarea, select")) return;
    if (sheet.id !== `dialog-${keymap.actOf(event)}`) return;
    sheet.close();
    event.preventDefault();
    event.stopImmediatePropagation();
  }, { capture: true });
}
