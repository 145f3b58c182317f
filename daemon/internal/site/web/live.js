// Shows what changed as it changes. Without it, reloading does the same.
(() => {
  document.documentElement.classList.add("js");
  if (!window.EventSource) return;
  const main = document.getElementById("main");
  const charts = () => window.continuo && window.continuo.charts();

  // refresh takes the page's content anew. Charts stay, and whoever is about to
  // press a button or to write keeps it: then it is tried again.
  let due = null;
  const soon = (after) => { due = due || setTimeout(() => { due = null; refresh(); }, after); };
  const busy = () => document.activeElement && ["BUTTON", "INPUT"].includes(document.activeElement.tagName);
  const refresh = async () => {
    if (busy()) return soon(2000);
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) return;
    if (busy()) return soon(2000);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    for (const old of main.querySelectorAll("[data-charts]")) {
      const place = [...fresh.querySelectorAll("[data-charts]")].find((e) => e.dataset.charts === old.dataset.charts);
      if (place) place.replaceWith(old);
    }
    const at = [...main.querySelectorAll(".scroll")].map((e) => e.scrollLeft);
    main.replaceChildren(...fresh.childNodes);
    [...main.querySelectorAll(".scroll")].forEach((e, i) => { e.scrollLeft = at[i] || 0; });
    charts();
  };

  const watched = document.querySelector("[data-events]");
  if (watched) {
    const events = new EventSource(watched.dataset.events);
    // "open": what happened between the page and the connection, the first or a later one, is told by no event.
    for (const type of ["open", "phase", "step_start", "step_done", "summary"]) {
      events.addEventListener(type, () => soon(500));
    }
  }

  // follow shows the log of a run as it grows.
  const keep = 2000;
  const follow = () => {
    const head = main.querySelector("[data-follow]");
    if (!head) return;
    const log = document.getElementById("lines");
    const events = new EventSource(head.dataset.follow);
    let first = true, drawn = 0;
    events.addEventListener("open", () => { first = true; });
    events.addEventListener("log", (e) => {
      const { lines, dropped } = JSON.parse(e.data);
      const end = log.scrollTop + log.clientHeight >= log.scrollHeight - 24;
      if (first) log.textContent = "";
      first = false;
      if (dropped > 0) lines.unshift(`… ${dropped} lines are not shown`);
      log.append(lines.join("\n") + "\n");
      if (log.childNodes.length > 8) {
        const all = log.textContent.split("\n");
        log.textContent = all.slice(Math.max(0, all.length - keep)).join("\n");
      }
      if (end) log.scrollTop = log.scrollHeight;
    });
    events.addEventListener("progress", (e) => {
      const p = JSON.parse(e.data);
      const bar = document.getElementById("bar"), step = document.getElementById("step");
      bar.hidden = false;
      if (p.of) { bar.max = 100; bar.value = p.percent; }
      step.textContent = `step ${p.step}` + (p.of ? ` of ${p.of}` : "") + Object.entries(p.values || {}).map(([k, v]) => `, ${k} ${+v.toPrecision(4)}`).join("");
      if (Date.now() - drawn > 1000) { drawn = Date.now(); charts(); }
    });
    events.addEventListener("end", () => {
      events.close();
      setTimeout(async () => { await refresh(); follow(); }, 1500);
    });
    log.scrollTop = log.scrollHeight;
  };
  follow();
})();
