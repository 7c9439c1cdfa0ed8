// Ranges on the axes of parallel lines: a drag sets one, lines outside of it fade, and the table of trials keeps the rows of the others.
const Brush = (() => {
  "use strict";
  const LEAST = 5; // px of a drag
  const NEAR = 0.3; // of the way from an axis to the next
  const HALF = 0.05; // of it, a range's half width
  const ranges = new Map(); // figure -> axis -> from where to where
  let isDragged = false; // what plotly takes for a click is none then

  // The trials that are within all ranges; null where none is set.
  const kept = (el, data) => {
    const own = ranges.get(el);
    if (!own?.size) return null;
    const inside = new Map();
    for (const { x, y, customdata } of data) {
      customdata.forEach((trial, i) => {
        const [low, high] = own.get(x[i]) ?? [];
        if (low !== undefined) inside.set(trial, inside.get(trial) !== false && y[i] >= low && y[i] <= high);
      });
    }
    return new Set([...inside.keys()].filter((trial) => inside.get(trial)));
  };
  const faded = (el, data) => {
    const trials = kept(el, data);
    if (!trials) return data;
    const part = (trace, isKept) => {
      const held = (_, i) => trace.customdata[i] === null || trials.has(trace.customdata[i]) === isKept;
      const lists = ["x", "y", "text", "customdata"].map((key) => [key, trace[key].filter(held)]);
      return { ...trace, ...Object.fromEntries(lists) };
    };
    const faint = { opacity: 0.06, hoverinfo: "skip", hovertemplate: null };
    return [...data.map((trace) => ({ ...part(trace, false), ...faint })), ...data.map((trace) => part(trace, true))];
  };
  const shapes = (el) =>
    [...(ranges.get(el) ?? [])].map(([axis, [y0, y1]]) => ({
      type: "rect", x0: axis - HALF, x1: axis + HALF, y0, y1, fillcolor: "#4f6bed", opacity: 0.25, line: { width: 0 },
    }));

  const begin = (el) => {
    ranges.set(el, new Map());
    const told = () => document.dispatchEvent(new CustomEvent("brush", { detail: el }));
    const place = (event) => {
      const box = el.getBoundingClientRect();
      const { xaxis, yaxis } = el._fullLayout;
      return [xaxis.p2d(event.clientX - box.left - xaxis._offset), yaxis.p2d(event.clientY - box.top - yaxis._offset)];
    };
    el.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType === "touch") return; // a finger scrolls the page
      const [x, from] = place(event);
      const axis = Math.round(x);
      if (Math.abs(x - axis) > NEAR) return;
      let frame = 0;
      const drag = (moved) => {
        if (Math.abs(moved.clientY - event.clientY) < LEAST) return;
        isDragged = true;
        ranges.get(el).set(axis, [from, place(moved)[1]].sort((a, b) => a - b));
        cancelAnimationFrame(frame);
        frame = requestAnimationFrame(told);
      };
      addEventListener("pointermove", drag);
      const end = () => {
        removeEventListener("pointermove", drag);
        setTimeout(() => (isDragged = false));
      };
      addEventListener("pointerup", end, { once: true });
    });
    const clear = (event) => {
      if (event.detail < 2) return;
      ranges.get(el).clear();
      told();
    };
    el.addEventListener("mousedown", clear, true); // of what plotly makes of a double click nothing is heard
  };
  return { begin, faded, kept, shapes, get isDragged() { return isDragged; } };
})();
