// Tables: a click sorts, a second one the other way; cells without a value stay last.
(() => {
  "use strict";
  const sort = (head) => {
    const table = head.closest("table");
    const column = [...head.parentNode.children].indexOf(head);
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const value = (row) => row.children[column].dataset.sort;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const [m, n] = [Number(x), Number(y)];
      return way * (Number.isNaN(m) || Number.isNaN(n) ? x.localeCompare(y) : m === n ? 0 : m < n ? -1 : 1);
    };
    table.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  };
  document.querySelectorAll("th button").forEach((b) => b.addEventListener("click", () => sort(b.closest("th"))));
})();
