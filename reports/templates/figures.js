// Draws the figures when they come into view, in the colours of the page's theme; switches menus.
(() => {
  "use strict";
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
    result.hoverlabel = { bgcolor: colour("--surface"), bordercolor: colour("--line"), font: { color: colour("--ink") } };
    result.annotations = layout.annotations?.map((label) => ({ ...label, bgcolor: colour("--surface"), borderpad: 1, opacity: 0.85 }));
    if (coarse.matches) result.dragmode = false; // a finger scrolls the page
    const lines = { gridcolor: colour("--grid"), linecolor: colour("--line"), tickcolor: colour("--line") };
    for (const key of Object.keys(layout).filter((name) => /^[xy]axis\d*$/.test(name))) {
      result[key] = { ...layout[key], ...lines };
    }
    if (layout.ternary) {
      const sides = ["aaxis", "baxis", "caxis"].map((key) => [key, { ...layout.ternary[key], ...lines }]);
      result.ternary = { ...layout.ternary, bgcolor: "rgba(0,0,0,0)", ...Object.fromEntries(sides) };
    }
    return result;
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
    layout.uirevision = "kept"; // what a reader zoomed into stays; another measure has other heights
    if (layout.yaxis) layout.yaxis.uirevision = section.querySelector("select")?.value ?? "kept";
    if (hidden) layout.annotations = layout.annotations?.filter((label) => label.name !== "baseline");
    if (hidden && layout.yaxis?.range && section.querySelector("select")) delete layout.yaxis.range;
    const config = {
      displaylogo: false,
      showSendToCloud: false, // nothing leaves the page
      plotlyServerURL: "",
      responsive: true,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: el.id },
    };
    el.dataset.drawn = "yes";
    return Plotly.react(el, structuredClone(data), layout, config);
  };

  const redraw = (within) => charts.filter((el) => el.dataset.drawn && within.contains(el)).forEach(draw);
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "500px" },
  );
  Store.ready.then(() => charts.forEach((el) => seen.observe(el)));
  dark.addEventListener("change", () => redraw(document));
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((el) => (el.open = true));
    Store.ready.then(() => charts.filter((el) => !el.dataset.drawn).forEach(draw));
  });
  for (const control of document.querySelectorAll(".controls select, .controls input")) {
    control.addEventListener("change", () => redraw(control.closest("section")));
  }
})();
