// Figures for whoever doesn't point: arrow keys go from point to point, Enter picks one, and every figure is there as a table.
(() => {
  "use strict";
  const MOST_ROWS = 400;
  const written = (value) => (typeof value === "number" ? String(Number(value.toPrecision(4))) : (value ?? ""));
  const plain = (text) => new DOMParser().parseFromString(String(text ?? ""), "text/html").body.textContent;

  // A value as its axis tells it.
  const told = (axis, value) => {
    const at = axis?.tickvals ? axis.tickvals.indexOf(value) : -1;
    if (at >= 0 && axis.ticktext) return plain(axis.ticktext[at]);
    return axis?.title?.text?.endsWith(", log scale") && typeof value === "number" ? written(10 ** value) : written(value);
  };
  const title = (axis, other) => plain(axis?.title?.text) || other;

  // Every point of a figure: where it is drawn, and what is said of it.
  const points = (el) => {
    const layout = el._fullLayout;
    const found = [];
    el.data.forEach((trace, curve) => {
      if (trace.visible === false || !(trace.x ?? trace.a)) return;
      const [xaxis, yaxis] = [layout.xaxis, layout.yaxis];
      const name = plain(trace.name ?? (typeof trace.meta === "string" ? (trace.hovertemplate ?? "").split(":")[0] : trace.error_y ? "mean" : ""));
      const add = (number, cells, what) => found.push({ curve, number, what: plain(what ?? name), cells });
      if (trace.z) {
        trace.z.forEach((row, j) => row.forEach((z, i) => z !== null && add([j, i], { x: told(xaxis, trace.x[i]), y: told(yaxis, trace.y[j]), value: written(z) })));
        return;
      }
      (trace.a ?? trace.x).forEach((_, i) => {
        const text = Array.isArray(trace.text) ? trace.text[i] : undefined;
        if (trace.a) return add(i, { a: written(trace.a[i]), b: written(trace.b[i]), c: written(trace.c[i]) }, text);
        if (trace.x[i] === null || trace.y[i] === null || trace.y[i] === undefined) return;
        if (trace.yaxis === "y2") return add(i, { x: told(xaxis, trace.x[i]), y: "not finite" });
        const bars = trace.error_y?.array?.[i];
        const [up, down] = [bars, trace.error_y?.arrayminus?.[i] ?? bars];
        const interval = typeof up === "number" ? `${written(trace.y[i] - down)} to ${written(trace.y[i] + up)}` : "";
        add(i, { x: told(xaxis, trace.x[i]), y: told(yaxis, trace.y[i]), interval }, name === "mean" && text ? `mean, ${text}` : text);
      });
    });
    return found;
  };
  const headings = (el, keys) => {
    const { xaxis, yaxis, ternary } = el._fullLayout;
    const names = { x: title(xaxis, "x"), y: title(yaxis, "y"), interval: "interval", value: "value" };
    for (const key of ["a", "b", "c"]) names[key] = title(ternary?.[`${key}axis`], key);
    return keys.map((key) => names[key]);
  };

  const cell = (kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    return made;
  };
  const row = (kind, texts) => {
    const made = document.createElement("tr");
    made.append(...texts.map((text) => cell(kind, text)));
    return made;
  };
  const fill = (el, holder) => {
    const all = points(el);
    const shown = all.slice(0, MOST_ROWS);
    const keys = [...new Set(shown.flatMap(({ cells }) => Object.keys(cells).filter((key) => cells[key] !== "")))];
    const named = shown.some(({ what }) => what);
    const table = document.createElement("table");
    const [head, body] = [table.createTHead(), table.createTBody()];
    head.append(row("th", [...(named ? ["what"] : []), ...headings(el, keys)]));
    head.querySelectorAll("th").forEach((th) => (th.scope = "col"));
    body.append(...shown.map(({ what, cells }) => row("td", [...(named ? [what] : []), ...keys.map((key) => cells[key] ?? "")])));
    holder.replaceChildren(table);
    if (all.length > shown.length) holder.append(cell("p", `The first ${shown.length} of ${all.length} points; all are in the tables below.`));
  };

  const begin = (el) => {
    const figure = el.closest("figure");
    const label = el.getAttribute("aria-label");
    const say = document.createElement("p");
    say.className = "unseen";
    say.setAttribute("aria-live", "polite");
    el.after(say);
    el.tabIndex = 0;
    el.setAttribute("role", "group");
    el.setAttribute("aria-roledescription", "figure");
    el.setAttribute("aria-label", `${label}. Arrow keys go from point to point.`);
    let [at, isShown] = [null, false];

    const show = (point) => {
      [at, isShown] = [point, true];
      const { data } = el;
      const trace = data[point.curve];
      const subplot = trace.type === "scatterternary" ? "ternary" : `x${trace.yaxis ?? "y"}`;
      Plotly.Fx.hover(el, [{ curveNumber: point.curve, pointNumber: point.number }], subplot);
      say.textContent = [point.what, ...Object.values(point.cells)].filter(Boolean).join(", ");
    };
    const next = (all, key) => {
      const index = at ? all.findIndex((p) => p.curve === at.curve && String(p.number) === String(at.number)) : -1;
      if (index < 0) return all[0];
      if (key === "Home") return all[0];
      if (key === "End") return all.at(-1);
      if (key === "ArrowRight") return all[(index + 1) % all.length];
      if (key === "ArrowLeft") return all.at(index - 1);
      const curves = [...new Set(all.map((p) => p.curve))];
      const step = key === "ArrowDown" ? 1 : -1;
      const curve = curves.at((curves.indexOf(at.curve) + step) % curves.length);
      return all.find((p) => p.curve === curve);
    };
    el.addEventListener("keydown", (event) => {
      if (!el.data || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === "Escape" && isShown) {
        [at, isShown] = [null, false];
        Plotly.Fx.unhover(el);
      } else if (event.key === "Enter" && at) {
        const data = el.data[at.curve];
        const point = { data, curveNumber: at.curve, pointNumber: at.number, customdata: data.customdata?.[at.number] };
        el.emit("plotly_click", { points: [point], event });
        document.querySelector("aside.trial:not([hidden])")?.focus();
      } else if (["Home", "End", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"].includes(event.key)) {
        const all = points(el);
        if (all.length) show(next(all, event.key));
      } else return;
      event.preventDefault();
      event.stopPropagation();
    });
    el.addEventListener("blur", () => {
      isShown = false;
      if (el.data) Plotly.Fx.unhover(el);
    });

    const holder = document.createElement("div");
    holder.className = "scroll as-table";
    holder.tabIndex = 0;
    holder.setAttribute("role", "region");
    holder.setAttribute("aria-label", `${label}, as a table`);
    holder.hidden = true;
    const button = cell("button", "as table");
    button.type = "button";
    button.className = "tabled";
    button.setAttribute("aria-label", `${label}, as a table`);
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => {
      holder.hidden = !holder.hidden;
      button.setAttribute("aria-expanded", String(!holder.hidden));
      if (!holder.hidden && el.data) fill(el, holder);
    });
    figure.append(holder, button);
    new MutationObserver((_, observer) => {
      if (!el.data) return;
      observer.disconnect();
      el.on("plotly_afterplot", () => holder.hidden || fill(el, holder)); // a menu drew another measure
    }).observe(el, { attributeFilter: ["data-drawn"] });
  };
  document.querySelectorAll(".chart").forEach(begin);
})();
