// Thousands of points as a few paths: a browser draws one path quickly, but slowly a mark for each. They look and answer alike.
const Crowds = (() => {
  "use strict";
  const MANY = 400;
  const SHADES = 12;

  const spanOf = (el, trace) => {
    const range = el._fullLayout?.xaxis?.range;
    if (range && el.dataset.drawn) return Math.abs(range[1] - range[0]);
    const known = trace.x.filter((value) => typeof value === "number");
    return 1.1 * (Math.max(...known) - Math.min(...known)) || 1;
  };
  const path = (parts, color, width, opacity) => ({ type: "path", path: parts.join(""), line: { color, width }, opacity, layer: "below" });

  // Points by their colour: a scale in a few shades.
  const shaded = ({ color, colorscale, cmin, cmax }, drawn) => {
    if (!Array.isArray(color)) return [[drawn, color]];
    const known = drawn.map((i) => color[i]).filter((value) => value !== null);
    const [low, high] = [cmin ?? Math.min(...known), cmax ?? Math.max(...known)];
    const groups = new Map();
    for (const i of drawn) {
      const shade = color[i] === null ? 0 : Math.round((SHADES * (color[i] - low)) / (high - low || 1));
      groups.set(shade, [...(groups.get(shade) ?? []), i]);
    }
    const steps = colorscale.length - 1;
    const at = (place) => {
      const k = Math.min(steps - 1, Math.floor(place * steps));
      const [from, to] = [k, k + 1].map((j) => colorscale[j][1].match(/\d+/g).map(Number));
      return `rgb(${from.map((value, c) => Math.round(value + (place * steps - k) * (to[c] - value))).join()})`;
    };
    return [...groups].map(([shade, members]) => [members, at(shade / SHADES)]);
  };
  const points = (el, trace) => {
    const { x, y, marker, error_y: error } = trace;
    const { opacity = 1 } = marker;
    const size = 0.6 * (marker.size ?? 6); // so many would hide each other
    const drawn = x.flatMap((each, i) => (each === null || y[i] === null ? [] : [i]));
    const half = (spanOf(el, trace) * size) / 2 / Math.max(200, el.clientWidth - 70); // a short thick line is a square
    const low = error?.arrayminus ?? error?.array;
    const bars = error && drawn.filter((i) => error.array[i] !== null).map((i) => `M${x[i]},${y[i] - low[i]}V${y[i] + error.array[i]}`);
    const shapes = [
      ...(bars?.length ? [path(bars, error.color, 1, 0.4)] : []),
      ...shaded(marker, drawn).map(([members, colour]) => path(members.map((i) => `M${x[i] - half},${y[i]}H${x[i] + half}`), colour, size, opacity)),
    ];
    const isLine = trace.mode.includes("lines");
    const hovertemplate = [trace.hovertemplate ?? ""].flat().map((told) => told.replace(/ ± %{error_y.*?\(95.%\)/, "")); // bars that are not drawn have no numbers
    const hidden = { mode: isLine ? "lines" : "none", hoveron: "points", error_y: { ...error, visible: false }, meta: { crowd: size } };
    const seen = { ...trace, ...hidden, hovertemplate: hovertemplate.length > 1 ? hovertemplate : hovertemplate[0] };
    return { seen, shapes };
  };
  const area = ({ marker, width, ...trace }) => ({
    ...trace, type: "scatter", mode: "lines", stackgroup: "bars", fillcolor: marker.color, line: { shape: "hvh", width: 0, color: marker.color },
  });

  const isCrowd = (trace) => trace.x?.length > MANY && trace.visible !== false;
  // The traces of a figure, those of many points without marks, and the shapes that stand for these.
  const thinned = (el, data) => {
    const shapes = [];
    const traces = data.map((trace) => {
      if (isCrowd(trace) && trace.type === "bar") return area(trace);
      if (!isCrowd(trace) || trace.type !== "scatter" || !trace.mode?.includes("markers")) return trace;
      const found = points(el, trace);
      shapes.push(...found.shapes);
      return found.seen;
    });
    return { traces, shapes };
  };
  return { thinned };
})();
