// Active time: while the page is visible and focused, from act to act. Thinking without touching anything is work, so a
// pause counts up to a long limit.

const IDLE = 10 * 60 * 1000;

export class Clock {
  #since = null;
  #total = 0;
  #taken = 0;
  #started = performance.now();

  constructor() {
    for (const name of ["keydown", "pointerdown", "pointermove", "wheel", "scroll", "touchmove"]) {
      addEventListener(name, () => this.#mark(), { passive: true, capture: true });
    }
    for (const name of ["focus", "blur", "pagehide"]) addEventListener(name, () => this.#mark());
    document.addEventListener("visibilitychange", () => this.#mark());
    this.#mark();
  }

  #mark() {
    const now = performance.now();
    if (this.#since !== null) this.#total += Math.min(now - this.#since, IDLE);
    this.#since = !document.hidden && document.hasFocus() ? now : null;
  }

  /** Begin a new item. */
  restart() {
    this.#mark();
    this.#total = this.#taken = 0;
    this.#started = performance.now();
  }

  /** Active milliseconds since the last call. */
  take() {
    this.#mark();
    const share = this.#total - this.#taken;
    this.#taken = this.#total;
    return Math.round(share);
  }

  get active() {
    this.#mark();
    return Math.round(this.#total);
  }

  get wall() {
    return Math.round(performance.now() - this.#started);
  }
}
