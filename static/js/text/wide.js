// What is wider than its column scrolls by itself, so that the page never does; and can then be scrolled by keys.

const known = new WeakMap(); // element -> the width that its content was last fitted to
const sizes = new ResizeObserver((entries) => {
  const changed = entries.filter(({ target, contentRect }) => known.get(target) !== contentRect.width);
  if (changed.length) requestAnimationFrame(() => changed.forEach(({ target }) => contain(target)));
});

/** Keep an element's wide content inside it, now and whenever its width changes. */
export function watchWidth(element) {
  known.delete(element);
  sizes.unobserve(element);
  sizes.observe(element);
  element.addEventListener("contentvisibilityautostatechange", shown);
}

const shown = ({ target, skipped }) => {
  if (!skipped) requestAnimationFrame(() => contain(target));
};

function contain(element) {
  // What is far from the viewport has no layout; to ask for a width would make one.
  if (!element.firstElementChild?.checkVisibility({ contentVisibilityAuto: true })) return;
  const room = element.clientWidth || element.getBoundingClientRect().width;
  known.set(element, room);
  const formulas = [...element.querySelectorAll(".math:not(.math-display)")];
  const wide = formulas.map((span) => Math.max(0, ...[...span.querySelectorAll(".katex-base")].map((base) => base.offsetWidth)) > room);
  formulas.forEach((span, index) => span.classList.toggle("math-wide", wide[index]));
  const boxes = [...element.querySelectorAll(".math-wide, .katex-display, .text-table, pre")];
  const scrolls = boxes.map((box) => box.scrollWidth > box.clientWidth);
  boxes.forEach((box, index) => (scrolls[index] ? box.setAttribute("tabindex", "0") : box.removeAttribute("tabindex")));
}
