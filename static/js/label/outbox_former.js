// What a former version left in localStorage, one key an entry, in the form that the outbox takes now.

/** @returns [{entry, forget}], oldest first: call `forget` when the entry is safe elsewhere */
export function formerEntries(person) {
  try {
    const pattern = new RegExp(`^stepmark:${person}:\\d+$`);
    const keys = Object.keys(localStorage).filter((key) => pattern.test(key)).sort();
    return keys.map((key) => ({ entry: converted(JSON.parse(localStorage[key])), forget: () => localStorage.removeItem(key) }));
  } catch {
    return [];
  }
}

function converted({ kind, assignment, completion, body }) {
  if (kind === "rate") {
    const { client_id, value, flagged, active_ms } = body;
    return { kind: "act", assignment, act: { client_id, kind, completion, value, flagged, active_ms, wall_ms: active_ms } };
  }
  if (kind === "skip") return { kind: "return", assignment, body: { how: "skip" } };
  const { ratings, ...rest } = body;
  return { kind, assignment, body: rest };
}
