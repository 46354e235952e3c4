// Words that are typed but not said yet (a comment, a report, a step being written), kept in this browser.

const PREFIX = "stepmark:draft:";

export function keep(name, text) {
  try {
    if (text) localStorage.setItem(PREFIX + name, text);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Without storage a draft lives as long as the page.
  }
}

export function kept(name) {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}

export const drop = (name) => keep(name, "");

/** Forget everything about an assignment. */
export function dropAll(assignment) {
  for (const name of ["critique", "step", "comment", "report"]) drop(`${assignment}:${name}`);
}
