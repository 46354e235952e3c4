// Active and wall time of the item on the page. Time is active while the page is visible and the machine awake: thinking
// without touching anything is work, up to the idle limit after the last key, click or movement. Then counting stops,
// "idle" is fired, and one quiet question lets the labeler claim the time.
//
//   const clock = new Clock({ idle: state.idle_ms });
//   clock.restart()          a new item: all at zero
//   clock.take()             {active_ms, wall_ms} since the last take, integers; taking answers an open question with yes
//   clock.active, clock.wall milliseconds of this item
//   clock.gap                milliseconds of the open question ("You have been reading for … without a key. Count it?"), or 0
//   clock.claim(yes)         counts the gap, or drops it whole
// Events: "idle" (ask), "back" (the labeler has touched something since: `gap` is final).
//
// performance.now() never goes back. A sleeping machine either stops it or lets it jump: a jump between two beats of a
// visible page is no work. Hidden pages, whose timers are slowed down, do not count at all.

const BEAT = 5000;
const ASLEEP = 30_000;
const INPUT = ["keydown", "pointerdown", "pointermove", "wheel", "touchmove"];

export class Clock extends EventTarget {
  #idle;
  #now;
  #marked; // up to here time has been dealt with
  #visible = !document.hidden;
  #still = 0; // active ms since the last input, counted up to the idle limit
  #over = 0; // ms beyond it, not counted
  #question = null; // {counted, over} of a stretch that has ended and is not claimed
  #active = 0;
  #taken = { active: 0, wall: 0 };
  #started;

  constructor({ idle = 600_000, now = () => performance.now() } = {}) {
    super();
    this.#idle = idle;
    this.#now = now;
    this.#marked = this.#started = now();
    for (const name of INPUT) addEventListener(name, (event) => this.#touched(event), { passive: true, capture: true });
    document.addEventListener("visibilitychange", () => this.#turned());
    setInterval(() => this.#mark(), BEAT);
  }

  restart() {
    this.#marked = this.#started = this.#now();
    this.#still = this.#over = this.#active = 0;
    this.#question = null;
    this.#taken = { active: 0, wall: 0 };
  }

  take() {
    this.#mark();
    this.claim(true);
    const { active, wall } = this.#taken;
    this.#taken = { active: this.active, wall: this.wall };
    return { active_ms: this.#taken.active - active, wall_ms: this.#taken.wall - wall };
  }

  get active() {
    this.#mark();
    return Math.floor(this.#active);
  }

  get wall() {
    return Math.floor(this.#now() - this.#started);
  }

  get gap() {
    this.#mark();
    const asked = this.#question ?? { counted: 0, over: 0 };
    const still = this.#over > 0 ? this.#still + this.#over : 0;
    return Math.floor(asked.counted + asked.over + still);
  }

  claim(yes) {
    this.#mark();
    this.#close();
    if (!this.#question) return;
    const { counted, over } = this.#question;
    this.#active = yes ? this.#active + over : Math.max(this.#active - counted, this.#taken.active);
    this.#question = null;
  }

  /** Deal with the time up to now. */
  #mark() {
    const now = this.#now();
    const passed = now - this.#marked;
    this.#marked = now;
    if (!this.#visible || passed > ASLEEP) return;
    const counts = Math.min(passed, this.#idle - this.#still);
    const wasIdle = this.#over > 0;
    this.#still += counts;
    this.#active += counts;
    this.#over += passed - counts;
    if (this.#over > 0 && !wasIdle) this.dispatchEvent(new Event("idle"));
  }

  #touched(event) {
    if (event.type === "pointermove" && !event.movementX && !event.movementY) return; // the page moved, not the hand
    this.#mark();
    this.#wake();
  }

  #wake() {
    const wasIdle = this.#over > 0;
    this.#close();
    if (wasIdle) this.dispatchEvent(new Event("back"));
  }

  /** End the stretch without input; one beyond the limit becomes, or lengthens, the open question. */
  #close() {
    if (this.#over > 0) {
      const { counted, over } = this.#question ?? { counted: 0, over: 0 };
      this.#question = { counted: counted + this.#still, over: over + this.#over };
    }
    this.#still = this.#over = 0;
  }

  #turned() {
    this.#mark();
    this.#visible = !document.hidden;
    if (this.#visible) this.#wake();
  }
}
