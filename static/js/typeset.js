// Typeset the text that the server left in elements marked data-math.
import { typesetLater } from "./mathtext.js";

typesetLater(
  [...document.querySelectorAll("[data-math]")].map((element) => [
    element,
    element.textContent,
    { answer: element.dataset.math === "answer", inline: element.dataset.math === "inline" },
  ]),
);
