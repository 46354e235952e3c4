// The page's words, which stand translated in the template; those of the three ratings are the campaign's.

export const find = (id) => document.getElementById(id);

const words = find("words").dataset;
const ratings = new Map([-1, 0, 1].map((value) => [value, words[`word-${value}`]]));

const camel = (name) => name.replace(/-([a-z])/g, (_, letter) => letter.toUpperCase());

/** A word or sentence, its {gaps} filled. */
export const word = (name, values = {}) =>
  Object.entries(values).reduce((text, [key, value]) => text.replaceAll(`{${key}}`, value), words[camel(name)] ?? "");
export const ratingWord = (value) => ratings.get(value);

/** Put the campaign's words for the ratings in place of the usual ones. @param given {"1": {word, meaning, example}, …} */
export function useRatingWords(given) {
  for (const [value, { word: name, meaning }] of Object.entries(given ?? {})) {
    if (name) ratings.set(Number(value), name);
    for (const element of document.querySelectorAll(`[data-rating-word="${value}"]`)) {
      if (name) element.textContent = name;
      if (meaning) element.closest("button")?.setAttribute("title", meaning);
    }
  }
}

export function announce(text) {
  find("announce").textContent = text;
}

/** A copy of a template's first element. */
export const clone = (id) => find(id).content.firstElementChild.cloneNode(true);
