"use strict";
// Several runs: a table, and their curves over one another.
(() => {
  let known = "", runs = [], drawnWidth = 0;

  const row = (run) => {
    const cells = [
      run.budget ? `${run.done} / ${run.budget}` : String(run.done), number(run.best),
      run.baseline ? number(run.baseline.score) : "–",
      run.winner ? say("web.runs.winner_on", { score: number(run.winner.score), set: say(`set.${run.winner.set}`) }) : "–",
      run.seconds_left !== null && run.state !== "finished" ? duration(run.seconds_left) : "–",
    ];
    const mark = run.contaminated.length ? element("span", { class: "mark" }, say("contaminated")) : null;
    const badge = element("span", { class: `state ${run.state === "running" ? "going" : ""} ${run.state}` }, say(`web.state.${run.state}`));
    return element("tr", {},
      element("th", { scope: "row" }, element("a", { href: `/run/${encodeURIComponent(run.run)}?lang=${LANG}` }, run.name), " ", mark, run.run === run.name ? null : element("span", { class: "trial" }, run.run)),
      element("td", {}, badge, element("span", { class: "range" }, run.state === "finished" ? "" : run.where)),
      ...cells.map((text) => element("td", { class: "number" }, text)));
  };

  const showCurves = () => {
    const drawable = runs.filter((run) => run.curve.length);
    byId("curves").hidden = !drawable.length;
    if (!drawable.length) return;
    drawnWidth = byId("chart").clientWidth;
    const list = drawable.map((run) => `${run.name} ${number(run.curve.at(-1)[1])}`).join(", ");
    drawRuns(byId("chart"), byId("legend"), drawable, say("web.runs.chart_says", { count: drawable.length, list }));
  };

  keepLooking(async () => {
    const found = await ask("/runs.json");
    const text = JSON.stringify(found);
    if (text === known) return;
    known = text;
    runs = found;
    byId("none").hidden = runs.length > 0;
    setText(byId("none"), say("web.runs_none"));
    byId("list").hidden = !runs.length;
    const focused = document.activeElement?.getAttribute("href");
    document.querySelector(".runs tbody").replaceChildren(...runs.map(row));
    if (focused) [...document.querySelectorAll(".runs a")].find((link) => link.getAttribute("href") === focused)?.focus();
    showCurves();
  }, () => 4);
  new ResizeObserver(() => { if (runs.length && Math.abs(byId("chart").clientWidth - drawnWidth) > 4) showCurves(); }).observe(byId("chart"));
})();
