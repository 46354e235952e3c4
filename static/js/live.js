// Parts of a page that move by themselves: the server renders a fragment, this swaps it in when it has changed.
// <div data-live="URL" [data-live-pick="SELECTOR"]> around an element with data-live-seconds; 0 ends the polling.

const SLOWEST = 60;

for (const region of document.querySelectorAll("[data-live]")) follow(region);

function follow(region) {
  let failures = 0;
  let last = null;
  const seconds = () => Number(region.querySelector("[data-live-seconds]")?.dataset.liveSeconds ?? 0);
  const schedule = () => {
    if (seconds() > 0) setTimeout(tick, 1000 * Math.min(seconds() * 2 ** failures, SLOWEST));
  };

  async function tick() {
    if (document.hidden) {
      document.addEventListener("visibilitychange", tick, { once: true });
      return;
    }
    try {
      const response = await fetch(region.dataset.live, { headers: { Accept: "text/html" } });
      if (response.redirected && new URL(response.url).pathname !== new URL(region.dataset.live, location.href).pathname) return;
      if (!response.ok) throw new Error(response.statusText);
      const text = await response.text();
      failures = 0;
      if (text !== last) swap(region, text);
      last = text;
    } catch {
      failures += 1;
    }
    schedule();
  }
  schedule();
}

function swap(region, text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const pick = region.dataset.livePick;
  const parts = pick ? [fresh.querySelector(pick)] : [...fresh.body.childNodes];
  const focused = region.contains(document.activeElement) ? document.activeElement.id : "";
  region.replaceChildren(...parts.filter(Boolean));
  if (focused) document.getElementById(focused)?.focus();
}
