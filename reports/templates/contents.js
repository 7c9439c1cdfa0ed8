// The menu marks the section that is being read.
(() => {
  "use strict";
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const reading = new IntersectionObserver(
    (entries) => {
      for (const entry of entries.filter((e) => e.isIntersecting)) {
        links.forEach((a, id) => a.classList.toggle("here", id === entry.target.id));
      }
    },
    { rootMargin: "-10% 0px -80% 0px" },
  );
  links.forEach((_, id) => reading.observe(document.getElementById(id)));
})();
