// Shows what changed as it changes: the page is fetched again when its
// repository says that something happened. Without it, reloading does the same.
(() => {
  const source = document.querySelector("[data-events]");
  if (!source || !window.EventSource) return;
  let due = null;
  const refresh = async () => {
    due = null;
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const main = document.getElementById("main");
    const focus = document.activeElement && document.activeElement.tagName === "BUTTON";
    if (!focus) main.replaceChildren(...fresh.getElementById("main").childNodes);
  };
  const events = new EventSource(source.dataset.events);
  for (const type of ["phase", "step_start", "step_done", "summary"]) {
    events.addEventListener(type, () => { due = due || setTimeout(refresh, 500); });
  }
})();
