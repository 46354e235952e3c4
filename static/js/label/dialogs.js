// The page's dialogs. Native ones: Escape closes, the focus stays inside and comes back.

export function showSheet(name) {
  const dialog = document.getElementById(`dialog-${name}`);
  if (!dialog.open) dialog.showModal();
}

/** Ask why. Resolves to a sentence, or null when the labeler thinks better of it. */
export function askReason(name) {
  const dialog = document.getElementById(`dialog-${name}`);
  const form = dialog.querySelector("form");
  const send = form.querySelector("[value=send]");
  form.reset();
  const reason = () => [form.elements.reason.value, form.elements.more.value.trim()].filter(Boolean).join(": ");
  const refresh = () => { send.disabled = !reason(); };
  const digits = (event) => {
    if (event.target === form.elements.more || event.ctrlKey || event.altKey || event.metaKey) return;
    const choice = form.elements.reason[Number(event.key) - 1];
    if (choice) {
      choice.checked = true;
      choice.focus();
      refresh();
    } else if (event.key === "Enter" && event.target.matches("[type=radio]")) {
      event.preventDefault();
      if (!send.disabled) form.requestSubmit(send);
    }
  };
  refresh();
  form.addEventListener("input", refresh);
  dialog.addEventListener("keydown", digits);
  dialog.returnValue = "";
  dialog.showModal();
  form.elements.reason[0].focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      form.removeEventListener("input", refresh);
      dialog.removeEventListener("keydown", digits);
      resolve(dialog.returnValue === "send" ? reason() : null);
    }, { once: true });
  });
}

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
}
addEventListener("keydown", (event) => {
  const sheet = document.querySelector("#dialog-guideline[open], #dialog-keys[open]");
  const own = { "dialog-guideline": "g", "dialog-keys": "?" };
  if (sheet && event.key.toLowerCase() === own[sheet.id]) {
    sheet.close();
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}, { capture: true });
