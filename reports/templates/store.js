// The page's data (page_data.py): columns that figures, tables and downloads share, and the one selected trial.
const Store = (() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data")?.textContent ?? '{"columns":[],"packed":"","figures":{},"tables":{},"studies":{}}');
  const SIZES = { u1: 1, u2: 2, u4: 4, f4: 4, f8: 8 };
  const ARRAYS = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array, f4: Float32Array, f8: Float64Array };
  const made = new Map();
  let bytes = null;

  const inflated = async () => {
    const deflated = Uint8Array.from(atob(data.packed), (c) => c.charCodeAt(0));
    const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
    bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  };
  // Without anything packed there is nothing to wait for.
  const ready = data.columns.length ? inflated() : Promise.resolve();

  const unpacked = ({ type, length, at, bytes: size }) => {
    if (type === "text") return JSON.parse(new TextDecoder().decode(bytes.subarray(at, at + size)));
    const width = SIZES[type];
    const rows = new Uint8Array(length * width);
    for (let j = 0; j < width; j++) for (let i = 0; i < length; i++) rows[i * width + j] = bytes[at + j * length + i];
    const numbers = Array.from(new ARRAYS[type](rows.buffer));
    if (type === "f4") return numbers.map((v) => (Number.isFinite(v) ? Number(v.toPrecision(5)) : Number.isNaN(v) ? null : v));
    return type === "f8" ? numbers.map((v) => (Number.isNaN(v) ? null : v)) : numbers;
  };
  const column = (ref) => {
    if (!made.has(ref)) made.set(ref, unpacked(data.columns[ref]));
    return made.get(ref);
  };
  // A tree with every column in its place.
  const whole = (tree) => {
    if (Array.isArray(tree)) return tree.map(whole);
    if (tree === null || typeof tree !== "object") return tree;
    if (typeof tree.column === "number") return column(tree.column);
    return Object.fromEntries(Object.entries(tree).map(([key, value]) => [key, whole(value)]));
  };

  // Numbers as Python writes them (measures.py).
  // What lies in the very middle goes to the even digit there, here upwards.
  const even = (value, digits) => {
    const [mantissa, power] = value.toExponential(60).split("e");
    const end = digits + 1 + (value < 0);
    const isMiddle = /^50*$/.test(mantissa.slice(end)) && "02468".includes(mantissa[end - 1]);
    return isMiddle ? Number(`${mantissa.slice(0, end)}e${power}`) : value;
  };
  const general = (given, digits, keepsZeros) => {
    const value = even(given, digits);
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    const exponent = Number(power);
    const trimmed = (text) => (keepsZeros || !text.includes(".") ? text : text.replace(/\.?0+$/, ""));
    if (exponent >= -4 && exponent < digits) return trimmed(value.toFixed(digits - 1 - exponent));
    return `${trimmed(mantissa)}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  };
  const number = (value) => {
    if (value === null || Number.isNaN(value)) return "–";
    if (!Number.isFinite(value)) return "diverged";
    if (Math.abs(value) >= 10000) return value.toLocaleString("en-US", { maximumFractionDigits: 0, roundingMode: "halfEven" });
    return value === 0 ? "0" : general(value, 4, true);
  };
  const known = (write) => (value) => (value === null || !Number.isFinite(value) ? number(value) : write(value));
  const formats = {
    number,
    integer: known((value) => String(value)),
    short: known((value) => general(value, 4, false)),
    rough: known((value) =>
      value === 0 || Math.abs(value) >= 1e-4
        ? general(value, 2, false)
        : even(value, 2).toExponential(1).replace(/e([+-])(\d)$/, "e$10$2"),
    ),
  };

  // The one selected trial: it stands in the address as #trial=7, of another study than the first as #trial=7&study=study-2.
  let selected = null;
  const told = () => document.dispatchEvent(new CustomEvent("trial", { detail: selected }));
  const address = (place) => {
    try {
      history.replaceState(history.state, "", place);
    } catch {} // in a notebook's frame (srcdoc) a page has no address to write to
  };
  const keep = () => {
    const { study, trial } = selected;
    address(`#trial=${trial}${study === Object.keys(data.studies)[0] ? "" : `&study=${study}`}`);
  };
  const select = (study, trial) => {
    if (selected?.study === study && selected.trial === trial) return;
    selected = { study, trial };
    told();
    keep();
  };
  const deselect = () => {
    if (!selected) return;
    selected = null;
    told();
    if (location.hash.startsWith("#trial=")) address(location.pathname + location.search);
  };
  const fromAddress = () => {
    const asked = new URLSearchParams(location.hash.slice(1));
    if (selected && !asked.has("trial")) return setTimeout(() => selected && keep()); // a link to a section was followed: there it stays selected
    const study = asked.get("study") ?? Object.keys(data.studies)[0];
    const trial = Number.parseInt(asked.get("trial"), 10);
    if (!(study in data.studies) || !whole(data.studies[study].trials.number).includes(trial)) return;
    selected = { study, trial };
    told();
  };
  const studyOf = (el) => el.closest("[data-study]")?.dataset.study;
  addEventListener("hashchange", () => ready.then(fromAddress));
  addEventListener("DOMContentLoaded", () => ready.then(fromAddress));

  return {
    ready, whole, formats, select, deselect, studyOf,
    get selected() { return selected; },
    trialOf: (el) => (selected && selected.study === studyOf(el) ? selected.trial : null),
    figures: data.figures, tables: data.tables, studies: data.studies,
  };
})();
