// A heading folds its section; on a narrow screen sections begin folded, but for the one that the address names.
(() => {
  "use strict";
  const narrow = matchMedia("(max-width: 700px)");
  const heads = [...document.querySelectorAll("main section:not(.first) > h2")];
  const unfolded = new Set(history.state?.unfolded); // before a page that follows a study reloaded itself

  const turn = (section, isOpen) => {
    section.classList.toggle("folded", !isOpen);
    section.querySelector(":scope > h2 > button").setAttribute("aria-expanded", isOpen);
  };
  // Opens what the address names, where it is folded, and goes there: until now there was no place to go to.
  const aim = () => {
    let target = null;
    try {
      target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    } catch {} // no address of ours
    const folded = target?.closest("section.folded");
    if (!folded) return;
    turn(folded, true);
    target.scrollIntoView();
  };
  const arrange = () => {
    for (const head of heads) turn(head.parentNode, !narrow.matches || unfolded.has(head.parentNode.id));
    aim();
  };
  for (const head of heads) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => turn(head.parentNode, head.parentNode.classList.contains("folded")));
  }
  arrange();
  narrow.addEventListener("change", arrange);
  addEventListener("hashchange", aim);
  addEventListener("beforeprint", () => heads.forEach((head) => turn(head.parentNode, true)));
})();
