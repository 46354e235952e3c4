// Calls of the JSON API, with the cookies of the page's own login.

const PATIENCE = 20_000;
const ROOT = document.documentElement.dataset.api ?? document.querySelector("meta[name=api-root]")?.content ?? "/api/v1/";
// Codes that mean "nobody is logged in here", as opposed to "this person may not".
const NOBODY = new Set(["not_authenticated", "authentication_failed", "permission_denied"]);

/** The server answered, and will answer the same again: {status, code, message, details}. */
export class Refused extends Error {
  constructor(status, { code = "", message = "", details = null }) {
    super(message);
    this.status = status;
    this.code = code;
    this.details = details;
  }
}

export class LoggedOut extends Error {}

/** The server failed over this very request; another one may fare better. */
export class Failed extends Error {}

/** The answer's JSON (null without a body). Throws `Refused`, `LoggedOut`, `Failed`, or another error where nothing
 * that speaks for the API answered. With `keepalive` the request outlives the page (64 KiB at most). */
export async function call(method, path, body, { keepalive = false } = {}) {
  let response = await send(method, path, body, keepalive);
  let error = await errorOf(response);
  if (response.status === 403 && error?.code === "permission_denied") {
    await renewToken();
    response = await send(method, path, body, keepalive);
    error = await errorOf(response);
  }
  if (response.ok) return answerOf(response);
  if (response.status === 429 || response.status === 408) throw new Error(response.statusText);
  if (response.status >= 500) throw new Failed(response.statusText);
  if (response.status === 401 || (response.status === 403 && NOBODY.has(error?.code))) throw new LoggedOut();
  if (response.status === 413) throw new Refused(413, { code: "too_large", message: response.statusText, ...error });
  if (!error) throw new Error(`${response.status} without the API's word`);
  throw new Refused(response.status, error);
}

const send = (method, path, body, keepalive) =>
  fetch(ROOT + path, {
    method,
    headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrfToken() },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE),
    keepalive,
  });

/** A page in place of JSON is no acknowledgement: the login page after a redirect, or a hotel's network. */
function answerOf(response) {
  if (response.status === 204) return null;
  if (response.headers.get("Content-Type")?.includes("json")) return response.json();
  throw response.redirected ? new LoggedOut() : new Error("not the API's answer");
}

const errorOf = (response) => (response.ok ? null : response.json().then(({ error }) => error ?? null, () => null));

/** Read anew each time: logging in again, in another tab, changes it. */
function csrfToken() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}

/** Every page that labels sets the cookie. */
const renewToken = () => fetch(location.href, { signal: AbortSignal.timeout(PATIENCE) });

/** A random UUID, also where a plain-HTTP page in a local network has no `randomUUID`. */
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, "$1-$2-$3-$4-$5");
}
