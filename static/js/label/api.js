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

/** Read anew each time: logging in again, in another tab, changes it. */
function csrfToken() {
  return /(?:^|;\s*)csrftoken=([^;]*)/.exec(document.cookie)?.[1] ?? "";
}
