// Draws the numbers that a page names in data-charts, with uPlot. Without it the
// tables of the page have them.
(() => {
  const most = 12; // of a group that are shown at once: the worst come first
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = (v) => v == null ? "–" : Math.abs(v) >= 1e5 || (v !== 0 && Math.abs(v) < 1e-3) ? v.toExponential(1) : String(+v.toPrecision(4));
  const element = (kind, cls, text) => {
    const e = document.createElement(kind);
    if (cls) e.className = cls;
    if (text) e.textContent = text;
    return e;
  };

  // name says what an x is.
  const named = (chart, x) => {
    const time = chart.times && chart.times[chart.x.indexOf(x)];
    return time ? new Date(time * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short", hour12: false }) : chart.x_kind + " " + number(x);
  };

  const plot = (chart) => {
    const figure = element("figure", "chart" + (chart.bad ? " bad" : ""));
    const caption = element("figcaption");
    const readout = element("span", "readout");
    caption.append(element("strong", "", chart.title), readout, element("span", "dim note", chart.note || ""));
    const box = element("div", "plot");
    figure.append(caption, box);
    const say = (i) => {
      if (!chart.x.length) return;
      const at = i == null ? chart.x.length - 1 : i;
      readout.textContent = chart.series.filter((s) => !s.bound).map((s) => number(s.values[at])).join(", ") + (i == null ? "" : " · " + named(chart, chart.x[at]));
    };
    const bound = chart.series.find((s) => s.bound);
    const last = chart.series.find((s) => !s.bound);
    figure.setAttribute("role", "img");
    figure.setAttribute("aria-label", `${chart.title}: ${chart.x.length} points, last ${last ? number(last.values.at(-1)) : "none"}` + (bound ? `, ${bound.name} ${number(bound.values.at(-1))}` : ""));
    let drawn = null;
    const draw = () => {
      if (drawn) drawn.destroy();
      drawn = null;
      if (!box.clientWidth) return; // in what is folded away
      const dim = colour("--dim"), line = colour("--line");
      const first = chart.x[0], end = chart.x.at(-1);
      const axis = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      const x = { ...axis, space: 70, size: 26 };
      const scale = { time: false };
      x.incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 1e5, 1e6, 1e7, 1e8, 1e9];
      if (chart.x_kind !== "step") scale.range = () => [first - 0.5, end + 0.5];
      x.values = (u, list) => list.map((v) => v < first || v > end ? "" : (chart.x_kind === "version" ? "v" : "") + v);
      const y = { ...axis, size: 52, space: 32, values: (u, list) => list.map((v) => v == null ? "" : number(v)) };
      if (chart.log) y.splits = () => [1e-6, 1e-4, 1e-2, 1];
      const few = chart.x.length <= 40;
      const options = {
        width: Math.max(box.clientWidth, 120), height: 150,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        scales: { x: scale, y: chart.log ? { distr: 3, range: [1e-6, 1.5] } : { range: (u, low, high) => low !== high ? uPlot.rangeNum(low, high, 0.1, true) : low === 0 ? [0, 1] : [low - Math.abs(low) / 10, low + Math.abs(low) / 10] } },
        axes: [x, y],
        series: [{}, ...chart.series.map((s) => s.bound
          ? { stroke: colour("--wait"), width: 1.5, dash: [6, 4], points: { show: chart.x.length === 1, size: 6 } }
          : { stroke: colour(chart.bad ? "--bad" : "--link"), width: 2, points: { show: few, size: 6, fill: colour("--card") } })],
        hooks: { setCursor: [(u) => say(u.cursor.idx)] },
      };
      drawn = new uPlot(options, [chart.x, ...chart.series.map((s) => s.values)], box);
    };
    new ResizeObserver(() => { if (drawn && box.clientWidth > 0 && drawn.width !== box.clientWidth) drawn.setSize({ width: box.clientWidth, height: 150 }); }).observe(box);
    say(null);
    return { figure, draw, bad: chart.bad };
  };

  const load = async (holder) => {
    if (!window.uPlot) return;
    const answer = await fetch(holder.dataset.charts, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const text = await answer.text();
    if (holder.drawnFrom === text) return;
    holder.drawnFrom = text;
    const doc = JSON.parse(text);
    const plots = doc.charts.map(plot);
    const content = [];
    for (const group of new Set(doc.charts.map((c) => c.group || ""))) {
      if (group) content.push(element("h3", "group", group));
      const own = plots.filter((p, i) => (doc.charts[i].group || "") === group);
      const shown = own.slice(0, own.length <= most + 1 ? own.length : most);
      content.push(...shown.map((p) => p.figure));
      const rest = own.filter((p) => !shown.includes(p));
      if (rest.length) {
        const more = element("details", "more"), inner = element("div", "charts");
        more.append(element("summary", "", `${rest.length} more` + (rest.some((p) => p.bad) ? "" : ", all within their bounds")), inner);
        inner.append(...rest.map((p) => p.figure));
        more.addEventListener("toggle", () => { if (more.open) rest.forEach((p) => p.draw()); });
        content.push(more);
      }
    }
    if (doc.note || !plots.length) content.push(element("p", "dim", doc.note || "There are no numbers yet."));
    const open = [...holder.querySelectorAll("details")].map((e) => e.open);
    holder.replaceChildren(...content);
    holder.querySelectorAll("details").forEach((e, i) => { e.open = open[i] || false; });
    holder.redraw = () => plots.forEach((p) => p.draw());
    holder.redraw();
    holder.dataset.drawn = plots.length;
  };

  const all = () => document.querySelectorAll("[data-charts]");
  window.continuo = { charts: () => Promise.all([...all()].map(load)) };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all().forEach((h) => h.redraw && h.redraw()));
  window.continuo.charts();
})();
