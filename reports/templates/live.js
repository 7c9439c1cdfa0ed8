// Reloads the page by a timer, at the place that is being read, and says how old it is.
(() => {
  "use strict";
  const note = document.getElementById("live");
  const [now, stale] = note.children;
  const written = Date.parse(note.dataset.written);
  const folded = () => [...document.querySelectorAll("details:not(.columns)")]; // tables make theirs later

  const open = history.state?.open ?? [];
  const details = folded();
  if (details.length === open.length) details.forEach((each, i) => (each.open = open[i]));
  note.querySelectorAll("time").forEach((time) => (time.textContent = new Date(written).toLocaleString()));

  const tell = () => {
    const isStale = Date.now() - written > 1000 * note.dataset.stale;
    note.classList.toggle("stale", isStale);
    [now.hidden, stale.hidden] = [isStale, !isStale];
  };
  const reload = () => {
    if (document.hidden) return addEventListener("visibilitychange", reload, { once: true });
    const unfolded = [...document.querySelectorAll("section:not(.folded)")].map((each) => each.id);
    history.replaceState({ open: folded().map((each) => each.open), unfolded }, ""); // the browser keeps the scroll
    location.reload();
  };
  tell();
  setInterval(tell, 1000);
  setTimeout(reload, 1000 * note.dataset.reload);
})();
