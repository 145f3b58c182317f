// Draws the numbers that a page names in data-charts, with uPlot. Without it the
// tables of the page have them.
(() => {
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
    if (chart.x_kind === "time") return new Date(x * 1000).toLocaleString();
    return chart.x_kind + " " + number(x);
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
      const dim = colour("--dim"), line = colour("--line");
      const axis = { stroke: dim, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
      const x = { ...axis, space: 70, size: 26 };
      if (chart.x_kind !== "time") {
        x.incrs = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 1e5, 1e6, 1e7, 1e8, 1e9];
        x.values = (u, list) => list.map((v) => (chart.x_kind === "version" ? "v" : "") + v);
      }
      const few = chart.x.length <= 40;
      const options = {
        width: Math.max(box.clientWidth, 120), height: 150,
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        scales: { x: { time: chart.x_kind === "time" }, y: chart.log ? { distr: 3 } : {} },
        axes: [x, { ...axis, size: 52, space: 32, values: (u, list) => list.map((v) => v == null ? "" : number(v)) }],
        series: [{}, ...chart.series.map((s) => s.bound
          ? { stroke: colour("--wait"), width: 1.5, dash: [6, 4], points: { show: false } }
          : { stroke: colour(chart.bad ? "--bad" : "--link"), width: 2, points: { show: few, size: 6, fill: colour("--card") } })],
        hooks: { setCursor: [(u) => say(u.cursor.idx)] },
      };
      drawn = new uPlot(options, [chart.x, ...chart.series.map((s) => s.values)], box);
    };
    new ResizeObserver(() => { if (drawn && box.clientWidth > 0 && drawn.width !== box.clientWidth) drawn.setSize({ width: box.clientWidth, height: 150 }); }).observe(box);
    say(null);
    return { figure, draw };
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
    const note = doc.note ? [element("p", "dim", doc.note)] : plots.length ? [] : [element("p", "dim", "There are no numbers yet.")];
    holder.replaceChildren(...plots.map((p) => p.figure), ...note);
    holder.redraw = () => plots.forEach((p) => p.draw());
    holder.redraw();
    holder.dataset.drawn = plots.length;
  };

  const all = () => document.querySelectorAll("[data-charts]");
  window.continuo = { charts: () => Promise.all([...all()].map(load)) };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => all().forEach((h) => h.redraw && h.redraw()));
  window.continuo.charts();
})();
