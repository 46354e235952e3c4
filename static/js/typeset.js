// Typeset the mathematics that the server left as text in elements marked data-math.
import { typeset } from "./mathtext.js";

for (const element of document.querySelectorAll("[data-math]")) {
  typeset(element, element.textContent, {
    answer: element.dataset.math === "answer",
    inline: element.dataset.math === "inline",
  });
}
