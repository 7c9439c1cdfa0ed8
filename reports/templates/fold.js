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
  const named = (hash) => {
    try {
      return document.getElementById(decodeURIComponent(hash.slice(1)));
    } catch {
      return null; // no address of ours
    }
  };
  const unfold = (target) => {
    const folded = target?.closest("section.folded");
    if (folded) turn(folded, true);
    return Boolean(folded);
  };
  // Opens what the address names, where it is folded, and goes there: until now there was no place to go to.
  const aim = () => {
    const target = named(location.hash);
    if (unfold(target)) target.scrollIntoView();
  };
  // In a notebook's frame a link to a place in the page leads by the notebook's own address: it would load the notebook in there.
  const follow = (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link) return;
    event.preventDefault();
    const target = named(link.getAttribute("href"));
    unfold(target);
    target?.scrollIntoView();
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
  if (location.href === "about:srcdoc") document.addEventListener("click", follow);
  addEventListener("beforeprint", () => heads.forEach((head) => turn(head.parentNode, true)));
})();
