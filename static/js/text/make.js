// Elements with text in them, and the few words that rendering adds.

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

const ENGLISH = {
  answer: "Answer", blank: "blank", figure: "Figure (source)", all: "Show all: {n} more characters, as plain text",
  larger: "Show larger: {name}", close: "Close", refused: "{name}: not an image of this campaign",
};

/** A word in the page's language: includes/text_head.html brings them. */
export function word(name, values = {}) {
  const text = document.getElementById("text-words")?.dataset[name] ?? ENGLISH[name];
  return Object.entries(values).reduce((filled, [key, value]) => filled.replace(`{${key}}`, () => value), text);
}
