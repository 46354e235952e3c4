// Calls of the JSON API, with the cookies of the page's own login.

const PATIENCE = 20_000;
// Codes that mean "nobody is logged in here", as opposed to "this person may not".
const NOBODY = new Set(["not_authenticated", "authentication_failed", "permission_denied"]);

/** The server answered, and will answer the same again. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export class LoggedOut extends Error {}

/** The answer's JSON (null without a body). Throws `Refused`, `LoggedOut`, or another error where a retry may help. */
export async function call(method, path, body) {
  const response = await fetch(`/api/v1/${path}`, {
    method,
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrfToken() },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
  });
  if (response.ok) return response.status === 204 ? null : response.json();
  if (response.status >= 500 || response.status === 429 || response.status === 408) throw new Error(response.statusText);
  const { error } = await response.json().catch(() => ({ error: {} }));
  if (response.status === 401 || (response.status === 403 && NOBODY.has(error?.code ?? "not_authenticated"))) throw new LoggedOut();
  throw new Refused(response.status, error?.code ?? "", error?.message ?? response.statusText);
}

/** A random UUID, also where a plain-HTTP page in a local network has no `randomUUID`. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}

/** Read anew each time: logging in again, in another tab, changes it. */
function csrfToken() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}
