// Tables. Of a long one, a grid, only the rows that are seen are in the page; it is filtered, sorted, saved, and its columns are chosen.
(() => {
  "use strict";
  const isMissing = (value) => value === null || value === "";
  const collator = new Intl.Collator(undefined, { numeric: true });
  const compared = (x, y, way) => {
    if (isMissing(x) || isMissing(y)) return isMissing(x) - isMissing(y); // last whichever way
    return way * (typeof x === "number" && typeof y === "number" ? (x < y ? -1 : x > y ? 1 : 0) : collator.compare(x, y));
  };
  const make = (tag, properties = {}, ...children) => {
    const el = Object.assign(document.createElement(tag), properties);
    el.append(...children);
    return el;
  };

  // Small tables stand in the page whole: a click sorts their rows, a second one the other way.
  const sortRows = (head) => {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const value = (row) => {
      const text = row.children[column].dataset.sort;
      return text === "" || Number.isNaN(Number(text)) ? text : Number(text);
    };
    table.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort((a, b) => compared(value(a), value(b), way)));
  };
  document
    .querySelectorAll("th button")
    .forEach((b) => b.closest(".grid") ?? b.addEventListener("click", () => sortRows(b.closest("th"))));

  const AROUND = 10; // rows above and below the seen ones
  const PRINTED = 25; // rows that stand on paper, too (reading.css)
  const WIDEST = 26; // letters, each a digit's width, but for those of a text
  const LETTER = 0.88;
  const MEASURED = 300; // rows by which a column of numbers is made as wide as it needs to be
  const COMPARISONS = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };
  const PADDING = 0.95; // rem of a cell (page.css)
  const OPERATOR = /\s*(<=|>=|<|>|=)\s*/g;

  // A column that is unpacked when it is first asked for.
  const columnOf = (stored) => {
    const got = {};
    const lazy = (key, of) => () => (got[key] ??= of());
    const values = lazy("values", () => Store.whole(stored.values));
    const write = stored.format ? Store.formats[stored.format] : (value) => value;
    const kinds = lazy("kinds", () => Store.whole(stored.kind));
    const keys = lazy("keys", () => (stored.sort ? Store.whole(stored.sort) : values()));
    const own = (i) => (stored.kind === "number" || typeof keys()[i] === "string" ? keys()[i] : values()[i]);
    const texts = () => {
      const every = Math.ceil(values().length / MEASURED);
      if (!stored.format) return values();
      const extremes = [Math.min, Math.max].map((which) => values().reduce((a, b) => which(a, b), values()[0])); // the longest, mostly
      return [...extremes, ...values().filter((_, i) => i % every === 0)].map(write);
    };
    return {
      name: stored.name,
      isShown: !stored.hidden,
      isNumber: stored.kind === "number",
      value: (i) => values()[i],
      text: (i) => write(values()[i]) ?? "",
      keys,
      // What is saved of it, by column: values as the data have them, both ends of an interval.
      saved: stored.saved
        ? Object.entries(stored.saved).map(([part, of]) => ({ name: stored.name + part, value: (i) => lazy(part, () => Store.whole(of))()[i] }))
        : [{ name: stored.name, value: own }],
      kind: (i) => (typeof stored.kind === "string" ? stored.kind : kinds()[i]),
      // In letters: its longest text, and its head's longest word with an arrow.
      width: lazy("width", () => {
        const most = Math.min(WIDEST, texts().reduce((length, text) => Math.max(length, text.length), 0));
        const ofText = stored.kind === "number" || stored.kind === "code" ? most : LETTER * most;
        return Math.max(ofText, ...stored.name.split(/\s+/).map((word) => LETTER * word.length + 1));
      }),
    };
  };

  // The column that a comparison means by a name: of that whole name before one that has it among its words, a shown one before a hidden one.
  const columnCalled = (name, columns) => {
    const named = (c) => (c.name.toLowerCase() === name ? 2 : c.name.toLowerCase().split(/[\s().]+/).includes(name) ? 1 : 0);
    const rank = (c) => 2 * named(c) + c.isShown;
    return columns.filter(named).sort((a, b) => rank(b) - rank(a))[0];
  };
  // What a filter asks of each row: words that it holds, and comparisons such as rmse < 0.5.
  const conditions = (text, columns) =>
    text.toLowerCase().replace(OPERATOR, "$1").split(/\s+/).filter(Boolean).map((word) => {
      const [, name, sign, bound] = /^(.+?)(<=|>=|<|>|=)(.*)$/.exec(word) ?? [];
      const column = name && columnCalled(name, columns);
      const said = name && (column ? `${name}: column “${column.name}”${column.isShown ? "" : ", which is hidden"}` : `no column is called “${name}”`);
      if (!column) return { said, holds: (i) => columns.some((c) => c.isShown && String(c.text(i)).toLowerCase().includes(word)) };
      if (!bound) return { said, holds: () => true }; // it is still being written
      const limit = Number(bound);
      const key = (i) => column.keys()[i];
      const written = (i) => String(column.text(i)).toLowerCase();
      if (Number.isNaN(limit)) return { said, holds: (i) => sign === "=" && (written(i) === bound || key(i) === bound) };
      const asWritten = (i) => sign === "=" && written(i) !== "" && Number(written(i)) === limit;
      return { said, holds: (i) => typeof key(i) === "number" && (COMPARISONS[sign](key(i), limit) || asWritten(i)) };
    });
  // A filter that this table's own columns allow: its first column of fractions, up to its middle value.
  const example = (columns) => {
    const isFraction = (value) => typeof value === "number" && !Number.isInteger(value) && Number.isFinite(value);
    const column = columns.find((c) => c.isShown && c.isNumber && c.keys().some(isFraction));
    if (!column) return "filter rows";
    const known = column.keys().filter(Number.isFinite).sort((a, b) => a - b);
    const name = column.name.toLowerCase().replace(/ \(.*/, "").split(" ").at(-1);
    const outcome = columns.some((c) => c.name.startsWith("outcome")) ? "learnt " : "";
    return `filter, such as ${outcome}${name} < ${Store.formats.rough(known[known.length >> 1])}`;
  };

  const save = (name, type, text) => {
    const link = make("a", { download: name, href: URL.createObjectURL(new Blob([text], { type })) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  const plain = (column, i) => {
    const value = column.value(i);
    return typeof value === "number" && !Number.isFinite(value) ? (value > 0 ? "inf" : "-inf") : value;
  };
  const quoted = (value) => (/[",\r\n]/.test(value ?? "") ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));

  const grid = (box) => {
    const stored = Store.tables[box.dataset.table];
    const columns = stored.columns.map(columnOf);
    const trials = columns.find((c) => c.name === "trial");
    const study = Store.studyOf(box);
    const scroll = box.querySelector(".scroll");
    const table = box.querySelector("table");
    let rows = Array.from({ length: stored.rows }, (_, i) => i);
    let sorted = rows;
    let sort = null;
    let height = 34;
    let brushed = null; // trials
    const above = make("tbody", { className: "space" }, make("tr"));
    const body = make("tbody");
    const below = make("tbody", { className: "space" }, make("tr"));
    const count = make("output");
    const taken = make("small", { role: "status" });
    const shown = () => columns.filter((c) => c.isShown);

    const row = (i, cells) => {
      const tr = make("tr");
      if (trials) tr.dataset.trial = trials.value(i);
      if (trials && trials.value(i) === Store.trialOf(box)) tr.className = "selected";
      for (const column of cells) {
        const text = String(column.text(i));
        tr.append(make("td", { className: column.kind(i), textContent: text, title: text.length > 24 ? text : "" }));
      }
      return tr;
    };
    const draw = (top = scroll.scrollTop) => {
      const first = Math.max(0, Math.min(rows.length, Math.floor(top / height)) - AROUND);
      const last = Math.min(rows.length, first + Math.ceil((scroll.clientHeight || 560) / height) + 2 * AROUND);
      const cells = shown();
      above.rows[0].style.height = `${first * height}px`;
      below.rows[0].style.height = `${(rows.length - last) * height}px`;
      body.replaceChildren(...rows.slice(first, last).map((i) => row(i, cells)));
      box.dataset.cut = rows.length > PRINTED ? `The first ${PRINTED} of ${rows.length.toLocaleString("en-US")} rows.` : "";
    };
    const heads = () => {
      const cells = shown();
      table.replaceChildren(
        make("colgroup", {}, ...cells.map((c) => { const col = make("col"); col.style.width = `calc(${c.width()}ch + ${PADDING}rem)`; return col; })),
        make("thead", {}, make("tr", {}, ...cells.map((c) => {
          const th = make("th", { scope: "col", className: c.isNumber ? "number" : "" }, make("button", { type: "button", textContent: c.name }));
          if (sort?.column === c) th.setAttribute("aria-sort", sort.way === 1 ? "ascending" : "descending");
          return th;
        }))),
        above, body, below,
      );
      table.style.minWidth = `calc(${cells.reduce((sum, c) => sum + c.width(), 0)}ch + ${PADDING * cells.length}rem)`;
      draw();
      height = body.rows[0]?.getBoundingClientRect().height || height;
      draw();
    };
    const filter = () => {
      const asked = conditions(search.value, columns);
      if (brushed) asked.push({ said: "within the ranges on the parallel lines", holds: (i) => brushed.has(trials.value(i)) });
      rows = asked.length ? sorted.filter((i) => asked.every(({ holds }) => holds(i))) : sorted;
      count.textContent = asked.length ? `${rows.length.toLocaleString("en-US")} of ${stored.rows.toLocaleString("en-US")} rows` : "";
      taken.textContent = [...new Set(asked.map(({ said }) => said).filter(Boolean))].join("; ");
      draw();
    };
    const sortBy = (column) => {
      sort = { column, way: sort?.column === column ? -sort.way : 1 };
      const keys = column.keys();
      sorted = [...sorted].sort((a, b) => compared(keys[a], keys[b], sort.way));
      [...table.tHead.rows[0].cells].forEach((th) => th.removeAttribute("aria-sort"));
      table.tHead.rows[0].cells[shown().indexOf(column)].setAttribute("aria-sort", sort.way === 1 ? "ascending" : "descending");
      filter();
    };

    const search = make("input", { type: "search", placeholder: example(columns), ariaLabel: "Filter rows" });
    search.addEventListener("input", filter);
    const boxes = columns.map((column) => {
      const check = make("input", { type: "checkbox", checked: column.isShown });
      check.addEventListener("change", () => { column.isShown = check.checked; heads(); });
      return make("label", {}, check, column.name);
    });
    const named = `${Store.studies[study]?.name ?? "study"}-${box.dataset.table.replace(/^study-\d+-|-table.*$/g, "")}`;
    const button = (text, act) => { const b = make("button", { type: "button", textContent: text }); b.addEventListener("click", act); return b; };
    const saved = columns.flatMap((c) => c.saved);
    const csv = () => [saved.map((c) => quoted(c.name)).join(","), ...rows.map((i) => saved.map((c) => quoted(plain(c, i))).join(","))].join("\n") + "\n";
    const json = () => JSON.stringify(rows.map((i) => Object.fromEntries(saved.map((c) => [c.name, plain(c, i)]))), null, 1);
    const bar = make("div", { className: "controls" },
      search, count,
      make("details", { className: "columns" }, make("summary", { textContent: "Columns" }), make("div", { className: "card" }, ...boxes)),
      button("CSV", () => save(`${named}.csv`, "text/csv", csv())),
      button("JSON", () => save(`${named}.json`, "application/json", json())),
      taken,
    );
    box.prepend(bar);

    // The row of the selected trial is seen, and arrow keys go from row to row.
    const reveal = () => {
      const trial = Store.trialOf(box);
      const at = trial === null || !trials ? -1 : rows.findIndex((i) => trials.value(i) === trial);
      const [top, bottom] = [at * height, (at + 2) * height];
      if (at >= 0 && (top < scroll.scrollTop || bottom > scroll.scrollTop + scroll.clientHeight)) scroll.scrollTop = Math.max(0, top - height);
      draw();
    };
    table.addEventListener("click", (event) => {
      const head = event.target.closest("th");
      if (head) sortBy(shown()[[...head.parentNode.children].indexOf(head)]);
    });
    scroll.addEventListener("scroll", () => draw(), { passive: true });
    addEventListener("beforeprint", () => draw(0));
    addEventListener("afterprint", () => draw());
    if (trials) document.addEventListener("trial", reveal);
    document.addEventListener("brush", ({ detail }) => {
      if (Store.studyOf(detail) !== study || box.dataset.table !== `${study}-trials-table`) return;
      brushed = Brush.kept(detail, Store.whole(Store.figures[detail.id].data));
      filter();
    });
    box.order = () => (trials ? [...new Set(rows.map((i) => trials.value(i)))] : []);
    box.classList.add("alive");
    heads();
    reveal();
  };

  // One at a time, once there is time for it: the first figure comes first.
  const later = window.requestIdleCallback ?? setTimeout;
  Store.ready.then(() => document.querySelectorAll(".grid").forEach((box) => later(() => grid(box))));
})();
