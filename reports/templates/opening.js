// What isn't seen yet is laid out once the first figure is drawn (figures.js): a page opens sooner. Not where a place on it is asked for.
if (performance.getEntriesByType("navigation")[0]?.type === "navigate" && !location.hash) document.documentElement.className = "opening";
