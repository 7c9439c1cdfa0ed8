// Draws the figures when they come into view, in the colours of the page's theme; switches menus.
const Figures = (() => {
  "use strict";
  const WIDE = 480; // px, from which on ticks aren't turned
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");
  const charts = [...document.querySelectorAll(".chart")];
  const specs = new Map();
  const specOf = (el) => {
    if (!specs.has(el)) specs.set(el, Store.whole(Store.figures[el.id]));
    return specs.get(el);
  };

  const themed = (layout) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const result = { ...layout, font: { ...layout.font, color: colour("--muted") }, autosize: true };
    result.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--accent") };
    result.hoverlabel = { bgcolor: colour("--surface"), bordercolor: colour("--line"), font: { color: colour("--ink") } };
    result.annotations = layout.annotations?.map((label) => ({ ...label, bgcolor: colour("--surface"), borderpad: 1, opacity: 0.85 }));
    if (coarse.matches) result.dragmode = false; // a finger scrolls the page
    const lines = { gridcolor: colour("--grid"), linecolor: colour("--line"), tickcolor: colour("--line"), ticklabeloverflow: "allow" }; // else each is measured
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      result[key] = { ...layout[key], ...lines };
    }
    if (layout.ternary) {
      const sides = ["aaxis", "baxis", "caxis"].map((key) => [key, { ...layout.ternary[key], ...lines }]);
      result.ternary = { ...layout.ternary, bgcolor: "rgba(0,0,0,0)", ...Object.fromEntries(sides) };
    }
    return result;
  };

  const react = (el, data, layout) =>
    Plotly.react(el, structuredClone(data), layout, {
      displaylogo: false,
      showSendToCloud: false, // nothing leaves the page
      plotlyServerURL: "",
      responsive: true,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: el.id || "figure" },
    });

  // A point's trial is its customdata; a trace of one trial names it in its meta, one of another study than its figure's that study.
  const studyOf = (el, trace) => trace.meta?.study ?? Store.studyOf(el);
  const choose = (el, { data, customdata }) => {
    const [study, trial] = [studyOf(el, data), data.meta?.trial ?? customdata];
    if (study in Store.studies && Number.isInteger(trial)) Store.select(study, trial);
  };
  // The traces with the selected trial's points larger than all others, and its lines in front.
  const marked = (el, data) => {
    if (!Store.selected) return data;
    const { trial } = Store.selected;
    const ink = getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
    const front = [];
    const shown = data.map((trace) => {
      if (studyOf(el, trace) !== Store.selected.study) return trace;
      if (trace.meta?.trial !== undefined) {
        if (trace.meta.trial !== trial) return { ...trace, opacity: 0.3 * (trace.opacity ?? 1) };
        front.push({ ...trace, line: { ...trace.line, width: 3.5 }, showlegend: false });
        return trace;
      }
      const own = trace.customdata?.flatMap((each, i) => (each === trial ? [i] : []));
      if (!own?.length) return trace;
      if (trace.stackgroup || trace.meta === "ring") return trace;
      if (trace.mode === "lines" || trace.meta?.crowd) {
        const parted = own.flatMap((i, k) => (k && own[k - 1] !== i - 1 ? [null, i] : [i])); // what isn't joined stays so
        const only = (key) => (Array.isArray(trace[key]) ? parted.map((i) => (i === null ? null : trace[key][i])) : trace[key]);
        const mode = trace.meta?.crowd ? "markers" : "lines";
        const mark = { line: { color: ink, width: 3.5 }, marker: { color: ink, size: 2 * trace.meta?.crowd || 6 }, mode, opacity: 1, showlegend: false };
        front.push({ ...trace, x: only("x"), y: only("y"), text: only("text"), customdata: only("customdata"), ...mark });
        return trace;
      }
      const size = 1.7 * (trace.marker?.size ?? 6);
      const point = trace.type === "bar" ? { opacity: 1 } : { size, color: ink, opacity: 1 };
      return { ...trace, selectedpoints: own, selected: { marker: point }, unselected: { marker: { opacity: 0.35 } } };
    });
    return [...shown, ...front];
  };

  // Its own size as a box that can be scaled: paper is narrower than a screen (reading.css).
  const fitted = (el) => {
    const { width, height } = el._fullLayout;
    el.style.setProperty("--shape", `${width} / ${height}`);
    el.querySelectorAll(".svg-container > .main-svg").forEach((svg) => svg.setAttribute("viewBox", `0 0 ${width} ${height}`));
  };
  const draw = (el) => {
    const spec = specOf(el);
    const section = el.closest("section");
    const choice = spec.choices[section.querySelector("select")?.value] ?? { data: [], layout: {} };
    const hidden = section.querySelector("[data-toggles=baselines]")?.checked === false;
    const data = spec.data.map((trace, i) => {
      const merged = { ...trace, ...choice.data[i] };
      return hidden && trace.meta === "baseline" ? { ...merged, visible: false } : merged;
    });
    const layout = themed(structuredClone({ ...spec.layout, ...choice.layout }));
    if (el.closest(".hero")) layout.height = Math.max(layout.height, el.clientHeight); // as high as what stands beside it
    layout.uirevision = "kept"; // what a reader zoomed into stays; another measure has other heights
    if (layout.yaxis) layout.yaxis.uirevision = section.querySelector("select")?.value ?? "kept";
    if (hidden) layout.annotations = layout.annotations?.filter((label) => label.name !== "baseline");
    const held = data.some((trace) => trace.meta === "baseline" && trace.y.some((value) => value !== null)); // in the range, too
    if (hidden && held && layout.yaxis?.range && section.querySelector("select")) delete layout.yaxis.range;
    el.dataset.drawn = "yes";
    const isNew = !el.on;
    const isParallel = el.id.endsWith("-parallel");
    if (isParallel) Object.assign(layout, { dragmode: false, shapes: [...layout.shapes, ...Brush.shapes(el)] });
    const { traces, shapes } = Crowds.thinned(el, isParallel ? Brush.faded(el, data) : data);
    if (shapes.length) layout.shapes = [...(layout.shapes ?? []), ...shapes];
    const roomy = isNew && el.clientWidth > WIDE ? Object.values(layout).filter((axis) => axis?.automargin && !axis.ticktext?.some((text) => text.length > 5)) : [];
    roomy.forEach((axis) => (axis.automargin = false)); // its room was reckoned (charts.py): a measure takes as long as the figure
    const shown = react(el, marked(el, traces), layout);
    roomy.forEach((axis) => (axis.automargin = true)); // whoever zooms gets other ticks
    if (!isNew) return shown;
    fitted(el);
    el.on("plotly_afterplot", () => fitted(el));
    if (isParallel) Brush.begin(el);
    el.on("plotly_click", ({ points }) => Brush.isDragged || choose(el, points[0]));
    if (shapes.length) el.on("plotly_relayout", () => draw(el)); // its squares stay squares
    return shown;
  };

  const redraw = (within) => charts.filter((el) => el.dataset.drawn && within.contains(el)).forEach(draw);
  // One a frame: between two of them the page is shown, and hears its reader. A page that isn't seen has no frames.
  const waiting = [];
  const soon = (act) => (document.hidden ? setTimeout(act) : requestAnimationFrame(() => setTimeout(act)));
  const drawNext = () => {
    const el = waiting.shift();
    if (waiting.length) soon(drawNext);
    if (!el.dataset.drawn) draw(el); // a page that is printed has drawn them all meanwhile
    open();
  };
  const open = () => document.documentElement.classList.remove("opening");
  const seen = new IntersectionObserver(
    (entries) => {
      const isIdle = !waiting.length;
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        seen.unobserve(entry.target);
        waiting.push(entry.target);
      }
      if (isIdle && waiting.length) drawNext();
    },
    { rootMargin: "500px" },
  );
  Store.ready.then(() => {
    charts.forEach((el) => seen.observe(el));
    setTimeout(open, 1000); // no figure may be in sight
  });
  dark.addEventListener("change", () => redraw(document));
  // What is in sight shows the selected trial at once, the rest when it comes into sight.
  const stale = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      stale.unobserve(entry.target);
      draw(entry.target);
    }
  });
  document.addEventListener("trial", () => charts.filter((el) => el.dataset.drawn).forEach((el) => stale.observe(el)));
  document.addEventListener("brush", ({ detail }) => draw(detail));
  addEventListener("beforeprint", () => {
    open();
    document.querySelectorAll("details:not(.origin details, .reading)").forEach((el) => (el.open = true));
    document.documentElement.classList.toggle("paper", dark.matches); // paper is light
    Store.ready.then(() => charts.filter((el) => dark.matches || !el.dataset.drawn).forEach(draw));
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("paper");
    if (dark.matches) redraw(document);
  });
  addEventListener("resize", (event) => matchMedia("print").matches && event.stopImmediatePropagation(), true); // it is scaled
  for (const control of document.querySelectorAll(".controls select, .controls input")) {
    control.addEventListener("change", () => redraw(control.closest("section")));
  }
  return { plot: (el, data, layout) => react(el, data, themed(structuredClone(layout))) };
})();
