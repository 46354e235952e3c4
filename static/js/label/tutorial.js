// The tutorial: sample items on the real page, in dry mode (`state.dry === "tutorial"`, a NullOutbox, no server). It says
// what each answer meant and what follows from it, in its own box (label/_tutorial.html), which it puts on top of the
// bottom bar. The samples and all that is said about them come from the server (annotator/tutorial.py). "Skip the tutorial"
// and, at the end, "Start labeling" are the box's own form: the server remembers and shows the first real item.
//
//   const tutorial = new Tutorial(state.items, keymap);
//   tutorial.mount()                           show the box with the opening words of the sample
//   tutorial.item                              the payload to put on the page
//   tutorial.onAct(state, act)                 after each act; `state` is the fold that it led to
//   tutorial.onSubmit(body)                    instead of what a submit leads to: says how it ended, offers to go on.
//                                              Give up, bad problem and skip count, too; body.finish_reason
//   tutorial.addEventListener("item", …)       the next sample: put tutorial.item on the page

import { typeset } from "../mathtext.js";
import { Keymap } from "./keys.js";

export class Tutorial extends EventTarget {
  #items;
  #keymap;
  #at = 0;
  #box = document.getElementById("coach");

  constructor(items, keymap = new Keymap()) {
    super();
    this.#items = items;
    this.#keymap = keymap;
    this.#part("next").addEventListener("click", () => {
      this.#at += 1;
      this.dispatchEvent(new Event("item"));
    });
  }

  get item() {
    return this.#items[this.#at];
  }

  mount() {
    const { count } = this.#box.dataset;
    this.#part("count").textContent = count.replace("{n}", this.#at + 1).replace("{m}", this.#items.length);
    this.#part("name").textContent = this.item.title;
    this.#part("next").hidden = true;
    this.#say(this.item.intro);
    document.getElementById("bar").before(this.#box);
    this.#box.hidden = false;
  }

  onAct(_, act) {
    const text = about(this.item, act);
    if (text) this.#say(text);
  }

  onSubmit({ finish_reason: reason }) {
    const { ends } = this.item;
    this.#say(ends[reason] ?? ends[""]);
    const button = this.#part(this.#at + 1 < this.#items.length ? "next" : "start");
    button.hidden = false;
    button.focus({ preventScroll: true });
  }

  #say(text) {
    typeset(this.#part("text"), text.replace(/\[\[(\w+)\]\]/g, (_, act) => this.#keymap.labelOf(act)));
    this.#box.scrollTop = 0;
  }

  #part(name) {
    return this.#box.querySelector(`.coach-${name}`);
  }
}

/** What there is to say about an act, or undefined. */
function about(item, act) {
  const hint = item.hints.find(({ completion, critique }) =>
    act.kind === "rate" ? completion === act.completion : act.kind === "critique" && critique === act.critique,
  );
  if (act.kind === "rate" && act.flagged && hint?.text_flagged) return hint.text_flagged;
  return hint?.text_by_value[act.value] ?? item.says[act.kind];
}
