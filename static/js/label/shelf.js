// What must survive the page, in IndexedDB: one store for all persons, numbered in the order of arrival across tabs.
// Reading a closed shelf finds nothing; putting something on it throws.

const STORE = "entries";
const PATIENCE = 5000; // some browsers neither open nor refuse

export class Shelf {
  #person;
  #database = null;

  constructor(person) {
    this.#person = person;
  }

  /** Store entries together or not at all; returns their numbers. Durable when it resolves. */
  put(entries) {
    return this.#within("readwrite", (store) => entries.map((entry) => store.add({ ...entry, person: this.#person })));
  }

  /** Everything of this person, oldest first, each with its number as `seq`. */
  async all() {
    const [entries] = await this.#within("readonly", (store) => [store.index("person").getAll(this.#person)]).catch(() => [[]]);
    return entries;
  }

  async count() {
    const [count] = await this.#within("readonly", (store) => [store.index("person").count(this.#person)]).catch(() => [0]);
    return count;
  }

  async remove(keys) {
    if (keys.length) await this.#within("readwrite", (store) => keys.map((key) => store.delete(key))).catch(() => {});
  }

  /** The results of the requests that `work(store)` makes, once their transaction is complete. */
  async #within(mode, work) {
    this.#database ??= open();
    const database = await this.#database;
    database.onclose = () => { this.#database = null; }; // somebody has cleared the site's data
    const transaction = database.transaction(STORE, mode, { durability: "strict" });
    const requests = work(transaction.objectStore(STORE));
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(requests.map((request) => request.result));
      transaction.onabort = () => reject(transaction.error);
    });
  }
}

function open() {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("IndexedDB does not answer")), PATIENCE);
    const request = indexedDB.open("stepmark", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore(STORE, { keyPath: "seq", autoIncrement: true }).createIndex("person", "person");
    };
    request.onsuccess = () => {
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
    request.onerror = () => reject(request.error);
  });
}
