// Rendering in idle time: the page answers a key between any two formulas, and what nears the viewport goes first.

const FIRST_MS = 24; // what one frame may cost, for what stands first
const SLICE_MS = 6;
const LETTERS_A_LINE = 70;

const jobs = new Map(); // element -> {steps, tell}; steps is a generator, one formula a step
const near = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => finish(target)),
  { rootMargin: "60% 0px" },
);
let asked = false;

/** Run the generators of [[element, generator], …] when there is time for them; the promise is kept when all have ended. */
export function whenIdle(work) {
  const until = performance.now() + FIRST_MS;
  const ends = work.map(([element, steps]) => {
    forget(element);
    return new Promise((tell) => {
      jobs.set(element, { steps, tell });
    });
  });
  for (const [element] of work) if (!advance(element, until)) break;
  for (const [element] of work) if (jobs.has(element)) near.observe(element);
  ask();
  return Promise.all(ends);
}

/** Whatever was still to be done for an element is no longer wanted. */
export function forget(element) {
  near.unobserve(element);
  jobs.get(element)?.tell();
  jobs.delete(element);
}

const finish = (element) => advance(element, Infinity);

function advance(element, until) {
  const job = jobs.get(element);
  while (job && performance.now() < until) {
    if (job.steps.next().done) {
      forget(element);
      return true;
    }
  }
  return !job;
}

function ask() {
  if (asked || !jobs.size) return;
  asked = true;
  const idle = globalThis.requestIdleCallback ?? ((slice) => setTimeout(slice, 30));
  idle(() => {
    asked = false;
    const until = performance.now() + SLICE_MS;
    for (const element of jobs.keys()) if (!advance(element, until)) break;
    ask();
  }, { timeout: 500 });
}

/** Outside the viewport an element is not laid out; until it has been, its height is guessed from its text. */
export function reserve(element, text) {
  const lines = text.split("\n").reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / LETTERS_A_LINE)), 0);
  element.classList.add("is-reserved");
  element.style.containIntrinsicBlockSize = `auto ${Math.min(lines, 400)}lh`;
}
