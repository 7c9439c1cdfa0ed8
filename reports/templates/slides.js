// One slide at a time, which keys turn; the address names it. On a phone, and on paper, all stand one below the other.
(() => {
  "use strict";
  const slides = [...document.querySelectorAll(".slide")];
  const controls = document.querySelector("nav");
  const narrow = matchMedia("(max-width: 700px)");
  const STEPS = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, Enter: 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1, Backspace: -1 };
  const ENDS = { Home: 0, End: slides.length - 1 };
  let shown = 0;

  const show = (index) => {
    shown = Math.min(slides.length - 1, Math.max(0, index));
    slides.forEach((slide, i) => slide.classList.toggle("here", i === shown));
    controls.querySelector("output").textContent = `${shown + 1} / ${slides.length}`;
    history.replaceState(null, "", `#${shown + 1}`);
    slides[shown].focus({ preventScroll: true });
  };
  const named = () => (Number(location.hash.slice(1)) || 1) - 1;
  const isDeck = () => document.body.classList.contains("deck");
  const arrange = () => {
    document.body.classList.toggle("deck", !narrow.matches);
    controls.hidden = narrow.matches;
    if (isDeck()) show(named());
  };

  addEventListener("keydown", (event) => {
    const isButton = event.target.closest("button") && (event.key === "Enter" || event.key === " ");
    if (!isDeck() || isButton || event.ctrlKey || event.metaKey || event.altKey) return;
    const index = ENDS[event.key] ?? (event.key in STEPS ? shown + STEPS[event.key] : null);
    if (index === null) return;
    event.preventDefault();
    show(index);
  });
  addEventListener("hashchange", () => isDeck() && show(named()));
  controls.addEventListener("click", (event) => {
    const step = event.target.closest("button")?.dataset.step;
    if (step) show(shown + Number(step));
  });
  narrow.addEventListener("change", arrange);
  arrange();
})();
