// Where items come from: the server, or a list of samples that the page brought with it (preview, tutorial).

import { call } from "./api.js";
import { word } from "./words.js";

export class ServerSupply {
  constructor(campaign) {
    this.campaign = campaign;
  }

  /** {item, empty}. `ahead` asks for the one after the present. */
  next = (ahead = false) => call("POST", `campaigns/${this.campaign}/next/`, { ahead });
  item = (assignment) => call("GET", `assignments/${assignment}/`);
  renew = (assignment) => call("POST", `assignments/${assignment}/lease/`);
  askAgain = (assignment) => call("POST", `assignments/${assignment}/candidates/`, {});
  acknowledge = (version) => call("POST", `campaigns/${this.campaign}/guideline/`, { version });
}

/** Samples in order; nothing is kept and nothing leaves the page. */
export class SampleSupply {
  #items;
  #taken = 0;

  constructor(items) {
    this.#items = items;
  }

  async next() {
    const item = this.#items[this.#taken] ?? null;
    if (item) this.#taken += 1;
    return { item, empty: item ? null : { code: "samples_done", message: word("samplesDone"), until: null } };
  }

  item = async (assignment) => this.#items.find((item) => item.assignment === assignment);
  renew = async () => null;
  askAgain = async () => null;
  acknowledge = async () => null;
}
