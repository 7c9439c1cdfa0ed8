// A picture's prediction along the sweep: 8-bit depth, coloured here, and what it misses; slider, keys or time choose the trial.
(() => {
  "use strict";
  const STEP = 700; // ms of a trial while it plays
  const TALLEST = 44; // px of a bar
  const GREY = [128, 128, 128];

  const pixels = async (source) => {
    const image = new Image();
    image.src = source;
    await image.decode();
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height);
  };
  const metres = (value) => `${value.toFixed(2)} m`;

  const start = async (root) => {
    const content = JSON.parse(root.querySelector("script").textContent);
    const { low, high, near, far, error: most } = content;
    const [depthBar, errorBar] = [...root.querySelectorAll(".bars img")];
    const canvases = [...root.querySelectorAll("canvas")];
    const [range, play, here] = [root.querySelector("input"), root.querySelector(".play"), root.querySelector(".here")];
    const cells = [...root.querySelectorAll("[data-stop]")];
    const chosen = (name) => root.querySelector(`select[name=${name}]`)?.value;
    const colours = [await pixels(depthBar.src), await pixels(errorBar.src)];
    const kept = new Map(); // PNG -> its depths
    let maps = {};
    let pixel = null;
    let drawing = 0;

    const depths = async (png) => {
      if (!kept.has(png)) {
        const found = await pixels(`data:image/png;base64,${png}`);
        const values = Float32Array.from({ length: found.width * found.height }, (_, i) => {
          const level = found.data[4 * i];
          return level ? low + ((level - 1) / 254) * (high - low) : NaN;
        });
        kept.set(png, { width: found.width, height: found.height, values });
      }
      return kept.get(png);
    };
    const paint = (canvas, map, bar, place) => {
      [canvas.width, canvas.height] = [map.width, map.height];
      const context = canvas.getContext("2d");
      const image = context.createImageData(map.width, map.height);
      map.values.forEach((value, i) => {
        const at = 4 * Math.round(255 * Math.min(1, Math.max(0, place(value))));
        image.data.set([...(Number.isNaN(value) ? GREY : bar.data.subarray(at, at + 3)), 255], 4 * i);
      });
      context.putImageData(image, 0, 0);
    };
    const run = (stop) => stop.runs[chosen("view") ?? "middle"];
    const rmse = (stop) => (run(stop) ? content.runs[run(stop).run][chosen("picture")][1] : null);

    const read = () => {
      canvases.forEach((canvas) => (canvas.nextElementSibling.hidden = !pixel));
      if (!pixel || !maps.prediction) return (here.textContent = "");
      const { width, height } = maps.truth;
      const at = pixel.y * width + pixel.x;
      for (const canvas of canvases) {
        Object.assign(canvas.nextElementSibling.style, { left: `${(100 * (pixel.x + 0.5)) / width}%`, top: `${(100 * (pixel.y + 0.5)) / height}%` });
      }
      const [truth, told, missed] = [maps.truth, maps.prediction, maps.error].map((map) => map.values[at]);
      const beyond = told >= high ? "at least " : told <= low ? "at most " : "";
      const said = [Number.isNaN(truth) ? "no truth" : `truth ${metres(truth)}`];
      said.push(Number.isNaN(told) ? "no finite prediction" : `predicted ${beyond}${metres(told)}`);
      if (!Number.isNaN(missed)) said.push(`${metres(Math.abs(missed))} too ${missed < 0 ? "near" : "far"}`);
      here.textContent = `Here: ${said.join(", ")}.`;
    };

    // The selected trial's card shows the same maps.
    const fillCard = (stop) => {
      const box = document.querySelector("aside.trial .maps");
      if (!box || stop.trial !== Store.trialOf(root)) return;
      const figures = [...root.querySelectorAll(".maps figure")].map((figure) => {
        const copy = figure.cloneNode(true);
        const [from, to] = [figure, copy].map((each) => each.querySelector("canvas"));
        if (from) {
          Object.assign(to, { width: from.width, height: from.height }).getContext("2d").drawImage(from, 0, 0);
          to.removeAttribute("tabindex");
          to.nextElementSibling.remove();
        }
        return copy;
      });
      box.replaceChildren(...figures);
    };

    const show = async () => {
      const turn = ++drawing;
      const stop = content.stops[range.value];
      const picture = content.pictures[chosen("picture")];
      const own = run(stop);
      const truth = await depths(picture.truth);
      const prediction = own
        ? await depths(content.runs[own.run][chosen("picture")][0])
        : { ...truth, values: truth.values.map(() => NaN) };
      if (turn !== drawing) return; // a later choice was faster
      const values = prediction.values.map((value, i) => value - truth.values[i]);
      maps = { truth, prediction, error: { ...truth, values } };
      const depth = (value) => (value - near) / (far - near);
      for (const canvas of canvases) {
        const isError = canvas.dataset.map === "error";
        paint(canvas, maps[canvas.dataset.map], colours[+isError], isError ? (value) => 0.5 + value / most / 2 : depth);
      }
      const found = rmse(stop);
      const told = own ? `${stop.label}, seed ${own.seed}: ${own.outcome}` : `${stop.label}: no run of this seed`;
      const amount = found === null ? "" : `RMSE ${metres(found)}`;
      root.querySelector(".photo").src = picture.photo;
      canvases[1].closest("figure").querySelector("small").textContent = told;
      canvases[2].closest("figure").querySelector("small").textContent = `error${amount && `, ${amount}`}`;
      canvases[1].setAttribute("aria-label", `prediction, ${told}`);
      range.setAttribute("aria-valuetext", `trial ${stop.trial}, ${told}${amount && `, ${amount}`}`);
      const worst = Math.max(...content.stops.map((each) => rmse(each) ?? 0));
      cells.forEach((cell, i) => {
        const each = content.stops[i];
        cell.classList.toggle("here", i === Number(range.value));
        cell.title = rmse(each) === null ? `${each.label}: no RMSE` : `${each.label}: RMSE ${metres(rmse(each))}`;
        Object.assign(cell.firstChild.style, { height: `${(TALLEST * (rmse(each) ?? 0)) / (worst || 1)}px`, background: run(each)?.colour ?? "none" });
      });
      read();
      fillCard(stop);
    };

    const study = Store.studyOf(root);
    const select = () => study in Store.studies && Store.select(study, content.stops[range.value].trial);
    const go = (stop) => {
      range.value = stop;
      show();
    };
    // Where a trial is selected already, it is the one that is shown.
    const goOn = () => {
      if (Store.trialOf(root) !== null) select();
    };
    let timer = null;
    const turnOff = () => {
      clearInterval(timer);
      timer = null;
      play.setAttribute("aria-pressed", "false");
      play.textContent = "Play";
    };
    play.addEventListener("click", () => {
      if (timer) return turnOff();
      timer = setInterval(() => {
        go((Number(range.value) + 1) % content.stops.length);
        goOn();
      }, STEP);
      play.setAttribute("aria-pressed", "true");
      play.textContent = "Stop";
    });
    range.addEventListener("input", () => {
      turnOff();
      show();
      goOn();
    });
    root.querySelectorAll("select").forEach((menu) => menu.addEventListener("change", show));
    cells.forEach((cell, i) => cell.addEventListener("click", () => {
      go(i);
      select();
    }));
    const follow = () => {
      const stop = content.stops.findIndex((each) => each.trial === Store.trialOf(root));
      if (stop >= 0) range.value = stop;
    };
    document.addEventListener("trial", () => {
      follow();
      show();
    });

    const point = (x, y) => {
      const { width, height } = maps.truth;
      pixel = { x: Math.min(width - 1, Math.max(0, x)), y: Math.min(height - 1, Math.max(0, y)) };
      read();
    };
    const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    for (const canvas of canvases) {
      const readAt = (event) => {
        const box = canvas.getBoundingClientRect();
        const at = (place, from, size, count) => Math.floor(((place - from) / size) * count);
        if (maps.truth) point(at(event.clientX, box.left, box.width, canvas.width), at(event.clientY, box.top, box.height, canvas.height));
      };
      canvas.addEventListener("pointermove", readAt);
      canvas.addEventListener("pointerdown", readAt);
      canvas.addEventListener("keydown", (event) => {
        const [x, y] = KEYS[event.key] ?? [];
        if (x === undefined || !maps.truth) return;
        event.preventDefault();
        event.stopPropagation(); // elsewhere arrow keys go from trial to trial
        const { x: left, y: top } = pixel ?? { x: canvas.width >> 1, y: canvas.height >> 1 };
        point(left + x, top + y);
      });
    }
    follow(); // an address may have named a trial before this was in sight
    await show();
  };

  const sliders = new Set(document.querySelectorAll(".slider"));
  const begin = (root) => {
    if (!sliders.delete(root)) return;
    seen.unobserve(root);
    start(root);
  };
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => begin(entry.target)),
    { rootMargin: "500px" },
  );
  for (const root of sliders) {
    root.hidden = false;
    seen.observe(root);
  }
  // A selected trial's card shows pictures, wherever the reader is on the page.
  const beginSelected = () => [...sliders].filter((root) => Store.trialOf(root) !== null).forEach(begin);
  document.addEventListener("trial", beginSelected);
  beginSelected();
})();
