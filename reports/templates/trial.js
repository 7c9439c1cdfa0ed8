// The selected trial's card: what it is made of, how its runs ended, its curves, and what trains it again; arrow keys go to the next one.
(() => {
  "use strict";
  const DASHES = { role: "complementary", ariaLabel: "Selected trial" };
  const card = Object.assign(document.createElement("aside"), { className: "trial card", hidden: true, tabIndex: -1, ...DASHES });
  document.body.append(card);
  const make = (tag, properties = {}, ...children) => {
    const el = Object.assign(document.createElement(tag), properties);
    el.append(...children);
    return el;
  };
  const button = (text, label, act) => {
    const b = make("button", { type: "button", textContent: text, ariaLabel: label, title: label });
    b.addEventListener("click", act);
    return b;
  };
  const { number, short } = Store.formats;

  // Trials one after the other: as the table of trials shows them.
  const step = (by) => {
    const { study, trial } = Store.selected;
    const order = document.querySelector(`.grid[data-table="${study}-trials-table"]`)?.order?.() ?? [];
    const next = order[order.indexOf(trial) + by];
    if (next !== undefined) Store.select(study, next);
  };

  const weights = (study, i) => {
    const parts = study.terms.map((term) => ({ ...term, weight: term.weights[i] }));
    const bar = make("div", { className: "recipe", ariaHidden: "true" });
    const key = make("p", { className: "key" });
    for (const { name, colour, weight } of parts) {
      const [part, mark] = [make("span"), make("i")];
      part.style.cssText = `flex:${weight};background:${colour}`;
      mark.style.background = colour;
      if (weight > 0) bar.append(part);
      key.append(make("span", {}, mark, `${name} `, make("b", { textContent: short(weight) })));
    }
    return [bar, key];
  };

  const runsOf = (study, trial) => study.runs.trial.flatMap((other, i) => (other === trial ? [i] : []));
  const seeds = (study, runs) => {
    const row = (tag, texts) => make("tr", {}, ...texts.map((textContent) => make(tag, { textContent })));
    const { seed, outcome, final, run } = study.runs;
    const body = runs.map((i) => {
      const tr = row("td", [seed[i], outcome[i], number(final[i]), run[i]]);
      tr.children[1].className = `outcome ${outcome[i].replaceAll("-", "_")}`;
      tr.children[3].className = "code";
      return tr;
    });
    return make("table", {}, make("thead", {}, row("th", ["seed", "outcome", study.value, "run"])), make("tbody", {}, ...body));
  };

  const charts = (study, runs) =>
    study.charts.flatMap((chart) => {
      const epochs = study.epochs;
      const data = chart.lines.flatMap((line) =>
        runs.map((i) => ({
          type: "scatter", mode: epochs.length > 1 ? "lines" : "markers", x: epochs, opacity: 0.85,
          y: line.values.slice(i * epochs.length, (i + 1) * epochs.length),
          line: { color: line.colour, width: 1.5, dash: line.dash }, marker: { color: line.colour },
          name: line.name, legendgroup: line.name, showlegend: i === runs[0],
          hovertemplate: `epoch %{x}: %{y:.4r}<extra>${line.name}, seed ${study.runs.seed[i]}</extra>`,
        })),
      );
      if (!data.some((trace) => trace.y.some((value) => value !== null))) return [];
      const legend = { orientation: "h", y: 1.04, yanchor: "bottom", x: 0 };
      return [{ title: chart.title, data, layout: { ...chart.layout, showlegend: chart.lines.length > 1, legend } }];
    });

  const fill = ({ study: anchor, trial }) => {
    const study = Store.whole(Store.studies[anchor]);
    const i = study.trials.number.indexOf(trial);
    const { label, state, verdict, again } = study.trials;
    const runs = runsOf(study, trial);
    const settings = Object.entries(study.settings).map(([name, values]) => `${name} = ${values[i]}`).join(", ");
    const others = Object.keys(Store.studies).length > 1 ? `${study.name}, ` : "";
    const heading = make("h2", { textContent: `${others}trial ${trial}` });
    heading.setAttribute("aria-live", "polite");
    const bar = make("div", { className: "head" }, heading,
      button("‹", "Previous trial (left arrow)", () => step(-1)),
      button("›", "Next trial (right arrow)", () => step(1)),
      button("×", "Close (Escape)", Store.deselect));
    const figures = charts(study, runs).map(({ title, data, layout }) => {
      const chart = make("div", { className: "plot" });
      chart.style.minHeight = `${layout.height}px`;
      return { el: make("figure", {}, make("figcaption", {}, make("h3", { textContent: title })), chart), chart, data, layout };
    });
    card.replaceChildren(bar,
      make("p", { className: "muted", textContent: [label[i], settings && !label[i].includes(settings) ? settings : "", verdict[i], state[i]].filter(Boolean).join(" · ") }),
      ...weights(study, i), make("div", { className: "scroll" }, seeds(study, runs)), make("div", { className: "maps" }), ...figures.map((f) => f.el));
    if (again[i]) {
      const how = study.is_drawn ? "In place of [search] and [weights] of the whole spec, this trains it again:" : "With the whole spec (below, What made it), this trains it again:";
      card.append(make("h3", { textContent: "Again" }), make("p", { className: "muted", textContent: how }), make("pre", { textContent: again[i] }));
    }
    card.hidden = false;
    for (const { chart, data, layout } of figures) Figures.plot(chart, data, layout);
  };

  // Who came into the card by keyboard goes back by closing it.
  let from = null;
  card.addEventListener("focusin", ({ relatedTarget }) => {
    if (relatedTarget && !card.contains(relatedTarget)) from = relatedTarget;
  });
  document.addEventListener("trial", ({ detail }) => {
    const isHeld = card.contains(document.activeElement);
    if (!detail) {
      card.hidden = true;
      card.replaceChildren();
      if (isHeld) from?.focus({ preventScroll: true });
      return;
    }
    const { scrollTop } = card;
    fill(detail);
    card.scrollTop = scrollTop;
    if (isHeld && !card.contains(document.activeElement)) card.focus(); // its button was made anew
  });
  // Every row of a trial, in whichever table, selects it, and is marked where it is selected; a grid marks its own.
  const rows = [...document.querySelectorAll("tr[data-trial]")].filter((row) => !row.closest(".grid") && Store.studyOf(row) in Store.studies);
  for (const row of rows) row.tabIndex = 0;
  document.addEventListener("trial", () => rows.forEach((row) => row.classList.toggle("selected", Number(row.dataset.trial) === Store.trialOf(row))));
  const pick = (event) => {
    const row = event.target.closest("tr[data-trial]");
    if (row && Store.studyOf(row) in Store.studies) Store.select(Store.studyOf(row), Number(row.dataset.trial));
  };
  document.addEventListener("click", pick);
  document.addEventListener("keydown", (event) => event.key === "Enter" && pick(event));
  document.addEventListener("keydown", (event) => {
    if (!Store.selected || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const inTable = event.target.closest(".grid .scroll");
    const by = { ArrowLeft: -1, ArrowRight: 1, ...(inTable && { ArrowUp: -1, ArrowDown: 1 }) }[event.key];
    if (event.key === "Escape") Store.deselect();
    if (!by || event.defaultPrevented) return;
    event.preventDefault();
    step(by);
  });
})();
