// What the tabs of one person tell each other. Each thing said arrives in the other tabs, never in the one that said
// it, as an event named by its kind:
//   acts       {assignment, acts}        rated in another tab: fold them in
//   submitted  {assignment}              ended in another tab: this tab moves on
//   keys       {act: [name, ...]}        own keys changed
// `detail` is anything that can be cloned. A browser without BroadcastChannel has tabs that do not talk; nothing breaks.

export class Tabs extends EventTarget {
  #channel = null;

  /** @param person whose tabs; a suffix keeps apart what several modules say (`${person}:outbox`) */
  constructor(person) {
    super();
    if (!globalThis.BroadcastChannel) return;
    this.#channel = new BroadcastChannel(`stepmark:${person}`);
    this.#channel.onmessage = ({ data: { kind, detail } }) => this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  say(kind, detail = null) {
    this.#channel?.postMessage({ kind, detail });
  }

  close() {
    this.#channel?.close();
  }
}
