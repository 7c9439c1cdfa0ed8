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
  const WIDEST = 38; // letters
  const COMPARISONS = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };

  // A column that is unpacked when it is first asked for.
  const columnOf = (stored) => {
    const got = {};
    const lazy = (key, of) => () => (got[key] ??= of());
    const values = lazy("values", () => Store.whole(stored.values));
    const write = stored.format ? Store.formats[stored.format] : (value) => value;
    const kinds = lazy("kinds", () => Store.whole(stored.kind));
    return {
      name: stored.name,
      isShown: !stored.hidden,
      isNumber: stored.kind === "number",
      value: (i) => values()[i],
      text: (i) => write(values()[i]) ?? "",
      keys: lazy("keys", () => (stored.sort ? Store.whole(stored.sort) : values())),
      kind: (i) => (typeof stored.kind === "string" ? stored.kind : kinds()[i]),
      width: lazy("width", () =>
        Math.min(WIDEST, Math.max(stored.name.length, stored.format ? 8 : values().reduce((most, text) => Math.max(most, text.length), 0)) + 4),
      ),
    };
  };

  // What a filter asks of each row: words that it holds, and comparisons such as rmse<0.5 with the first column of that name.
  const conditions = (text, columns) =>
    text.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
      const [, name, sign, bound] = /^(.+?)(<=|>=|<|>|=)(.+)$/.exec(word) ?? [];
      const column = name && columns.find((c) => c.name.toLowerCase().split(/[\s()]+/).includes(name));
      if (!column) return (i) => columns.some((c) => c.isShown && String(c.text(i)).toLowerCase().includes(word));
      const limit = Number(bound);
      if (Number.isNaN(limit)) return (i) => sign === "=" && String(column.text(i)).toLowerCase() === bound;
      return (i) => { const key = column.keys()[i]; return typeof key === "number" && COMPARISONS[sign](key, limit); };
    });

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
    const above = make("tbody", { className: "space" }, make("tr"));
    const body = make("tbody");
    const below = make("tbody", { className: "space" }, make("tr"));
    const count = make("output");
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
    const draw = () => {
      const first = Math.max(0, Math.min(rows.length, Math.floor(scroll.scrollTop / height)) - AROUND);
      const last = Math.min(rows.length, first + Math.ceil((scroll.clientHeight || 560) / height) + 2 * AROUND);
      const cells = shown();
      above.rows[0].style.height = `${first * height}px`;
      below.rows[0].style.height = `${(rows.length - last) * height}px`;
      body.replaceChildren(...rows.slice(first, last).map((i) => row(i, cells)));
    };
    const heads = () => {
      const cells = shown();
      table.replaceChildren(
        make("colgroup", {}, ...cells.map((c) => { const col = make("col"); col.style.width = `${c.width()}ch`; return col; })),
        make("thead", {}, make("tr", {}, ...cells.map((c) => {
          const th = make("th", { scope: "col", className: c.isNumber ? "number" : "" }, make("button", { type: "button", textContent: c.name }));
          if (sort?.column === c) th.setAttribute("aria-sort", sort.way === 1 ? "ascending" : "descending");
          return th;
        }))),
        above, body, below,
      );
      table.style.minWidth = `${cells.reduce((sum, c) => sum + c.width(), 0)}ch`;
      draw();
      height = body.rows[0]?.getBoundingClientRect().height || height;
      draw();
    };
    const filter = () => {
      const asked = conditions(search.value, columns);
      rows = asked.length ? sorted.filter((i) => asked.every((holds) => holds(i))) : sorted;
      count.textContent = asked.length ? `${rows.length.toLocaleString("en-US")} of ${stored.rows.toLocaleString("en-US")} rows` : "";
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

    const search = make("input", { type: "search", placeholder: "filter, such as learnt rmse<0.5", ariaLabel: "Filter rows" });
    search.addEventListener("input", filter);
    const boxes = columns.map((column) => {
      const check = make("input", { type: "checkbox", checked: column.isShown });
      check.addEventListener("change", () => { column.isShown = check.checked; heads(); });
      return make("label", {}, check, column.name);
    });
    const named = `${Store.studies[study]?.name ?? "study"}-${box.dataset.table.replace(/^study-\d+-|-table.*$/g, "")}`;
    const button = (text, act) => { const b = make("button", { type: "button", textContent: text }); b.addEventListener("click", act); return b; };
    const csv = () => [columns.map((c) => quoted(c.name)).join(","), ...rows.map((i) => columns.map((c) => quoted(plain(c, i))).join(","))].join("\n") + "\n";
    const json = () => JSON.stringify(rows.map((i) => Object.fromEntries(columns.map((c) => [c.name, plain(c, i)]))), null, 1);
    const bar = make("div", { className: "controls" },
      search, count,
      make("details", { className: "columns" }, make("summary", { textContent: "Columns" }), make("div", { className: "card" }, ...boxes)),
      button("CSV", () => save(`${named}.csv`, "text/csv", csv())),
      button("JSON", () => save(`${named}.json`, "application/json", json())),
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
      const tr = event.target.closest("tr[data-trial]");
      if (tr && study in Store.studies) Store.select(study, Number(tr.dataset.trial));
    });
    scroll.addEventListener("scroll", draw, { passive: true });
    if (trials) document.addEventListener("trial", reveal);
    box.order = () => (trials ? [...new Set(rows.map((i) => trials.value(i)))] : []);
    box.classList.add("alive");
    heads();
    reveal();
  };

  // One at a time, once there is time for it: the first figure comes first.
  const later = window.requestIdleCallback ?? setTimeout;
  Store.ready.then(() => document.querySelectorAll(".grid").forEach((box) => later(() => grid(box))));
})();
