// Images of a problem: from this campaign's own address only, small until they are asked for.

import { make, word } from "./make.js";

const PLACE = /^\/c\/[^/]+\/attachments\/[^?#]*$/;

/** Show `attachments` ([{url, name}]) in an element; without any it is hidden. */
export function attach(element, attachments) {
  element.hidden = !attachments.length;
  element.classList.add("attachments");
  element.replaceChildren(...attachments.map(thumbnail));
}

function thumbnail({ url, name }) {
  const address = own(url);
  if (!address) return make("span", "attachment-refused", word("refused", { name }));
  const button = make("button", "attachment");
  button.type = "button";
  button.title = word("larger", { name });
  button.append(image(address, name));
  button.addEventListener("click", () => enlarge(address, name));
  return button;
}

function own(url) {
  const address = URL.canParse(url, location.href) ? new URL(url, location.href) : null;
  return address?.origin === location.origin && PLACE.test(address.pathname) ? address.pathname : null;
}

function image(address, name) {
  const made = make("img");
  made.alt = name;
  made.decoding = "async";
  made.src = address;
  return made;
}

function enlarge(address, name) {
  const dialog = make("dialog", "attachment-dialog");
  dialog.setAttribute("aria-label", name);
  const head = make("form", "attachment-head");
  head.method = "dialog";
  head.append(make("span", "", name), make("button", "link", word("close")));
  dialog.append(head, image(address, name));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
