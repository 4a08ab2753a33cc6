"use strict";
// Figure 1, drawn anew whenever there is more of it, as wide as the page gives it room; and the curves of several runs.
const SVG = "http://www.w3.org/2000/svg";
const drawn = (name, attributes = {}, text = null) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== null) made.textContent = text;
  return made;
};

const path = (points) => points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
const steps = (points, end) => {
  let line = "";
  points.forEach(([x, y], at) => { line += at ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x.toFixed(1)} ${y.toFixed(1)}`; });
  return line + `H${end.toFixed(1)}`;
};

const niceStep = (span, wanted) => {
  const raw = Math.max(span, 1e-9) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= raw);
};

// Axes in a fresh SVG: what is drawn into it uses x and y.
const frame = (width, height, { low, high, last, right, xLabel, yLabel, says }) => {
  const margin = { left: 40, right, top: 16, bottom: 42 };
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": says });
  const x = (value) => margin.left + ((value - 0.5) / Math.max(last, 1)) * (width - margin.left - margin.right);
  const y = (value) => margin.top + ((high - value) / (high - low)) * (height - margin.top - margin.bottom);
  const step = niceStep(high - low, height > 300 ? 6 : 4);
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9; tick += step) {
    svg.append(drawn("line", { class: "rule", x1: margin.left, x2: width - margin.right, y1: y(tick), y2: y(tick) }));
    svg.append(drawn("text", { x: margin.left - 8, y: y(tick) + 4, "text-anchor": "end" }, number(tick, step < 1 ? 1 : 0)));
  }
  const pace = Math.max(1, Math.round(niceStep(last, width > 600 ? 10 : 5)));
  for (let tick = pace; tick <= last; tick += pace) {
    svg.append(drawn("text", { x: x(tick), y: height - margin.bottom + 18, "text-anchor": "middle" }, String(tick)));
  }
  svg.append(drawn("text", { x: margin.left, y: height - 6 }, xLabel));
  svg.append(drawn("text", { x: 4, y: 10 }, yLabel));
  return { svg, x, y, bottom: height - margin.bottom, right: width - margin.right, top: margin.top };
};

// The figure's limits: most means, the bests, and the better half of the merges without a search.
const limits = (chart) => {
  const means = chart.spreads.map((spread) => spread.mean).sort((a, b) => a - b);
  const kept = [...means.slice(Math.floor(means.length / 4)), ...chart.spreads.map((spread) => spread.best)];
  kept.push(...chart.baselines.slice(Math.floor(chart.baselines.length / 2)).map((row) => row.score));
  if (!kept.length) return [0, 100];
  const low = Math.min(...kept), high = Math.max(...kept), space = Math.max(high - low, 4);
  return [Math.max(low - 0.2 * space, 0), Math.min(high + 0.16 * space, 103)];
};

const bestSoFar = (points) => {
  const found = [];
  for (const point of points) {
    if (point.score !== null && point.kept && (!found.length || point.score > found.at(-1)[1])) found.push([point.number, point.score]);
  }
  return found;
};

const drawSearch = (place, chart, { says, choose }) => {
  const width = Math.max(280, place.clientWidth - 20), narrow = width < 560, height = narrow ? 300 : 390;
  const [low, high] = limits(chart);
  const named = chart.baselines.filter((row) => row.score >= low).slice(narrow ? -4 : -9);
  const room = narrow ? 14 : Math.min(230, 24 + 7.2 * Math.max(0, ...named.map((row) => wide(`${row.name} 00.0`))));
  const { svg, x, y, bottom, right, top } = frame(width, height, {
    low, high, last: chart.last, right: named.length ? room : 14, xLabel: say("figure.candidate"), yLabel: say("figure.score"), says,
  });
  const clip = (value) => Math.max(low, Math.min(high, value));
  for (const row of chart.baselines.filter((each) => each.score >= low)) {
    svg.append(drawn("line", { class: "hand", x1: x(0.5), x2: right, y1: y(row.score), y2: y(row.score) }));
  }
  chart.stages.forEach((stage, at) => {
    if (at) svg.append(drawn("line", { class: "stage", x1: x(stage.first - 0.5), x2: x(stage.first - 0.5), y1: top, y2: bottom }));
  });
  for (const stage of chart.stages) {
    const own = chart.spreads.filter((spread) => spread.stage === stage.stage);
    const at = (spread) => x((spread.first + spread.last) / 2);
    const upper = own.map((spread) => [at(spread), y(clip(Math.min(spread.mean + spread.deviation, spread.best)))]);
    const lower = own.map((spread) => [at(spread), y(clip(spread.mean - spread.deviation))]).reverse();
    if (own.length > 1) svg.append(drawn("path", { class: "band", d: `${path([...upper, ...lower])}Z` }));
    svg.append(drawn("path", { class: "top", d: path(own.map((spread) => [at(spread), y(clip(spread.best))])) }));
    svg.append(drawn("path", { class: "mean", d: path(own.map((spread) => [at(spread), y(clip(spread.mean))])) }));
  }
  const seen = chart.points.filter((point) => point.score !== null && point.score >= low);
  const radius = chart.points.length > 250 ? 2 : 3;
  for (const point of seen) svg.append(drawn("circle", { class: "dot", cx: x(point.number), cy: y(point.score), r: radius }));
  const best = bestSoFar(chart.points).map(([at, score]) => [x(at), y(clip(score))]);
  if (best.length) svg.append(drawn("path", { class: "best", d: steps(best, x(chart.points.at(-1).number)) }));
  let lastEnd = -Infinity, line = 0;
  if (chart.stages.length > 1) {
    for (const stage of chart.stages) {
      const from = x(stage.first - 0.5) + 6;
      line = from < lastEnd ? line + 1 : 0;
      svg.append(drawn("text", { class: "stage-name", x: from, y: top + 10 + 14 * line }, stage.name));
      lastEnd = from + 6.6 * wide(stage.name);
    }
  }
  const least = 15;
  let below = bottom + least - 4;
  for (const row of named) { // rising scores: each label at least a line above the one before
    below = Math.min(y(row.score) + 4, below - least);
    const beside = narrow ? { x: right - 2, "text-anchor": "end" } : { x: right + 8 };
    svg.append(drawn("text", { class: "hand-name", y: below, ...beside }, `${row.name} ${number(row.score)}`));
  }
  const hot = drawn("circle", { class: "dot hot", r: 6, visibility: "hidden" });
  svg.append(hot);
  const tip = element("div", { class: "tip", hidden: true });
  const nearest = (event) => {
    const box = svg.getBoundingClientRect(), scale = width / box.width;
    const at = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    let found = null, least = 900;
    for (const point of seen) {
      const far = (x(point.number) - at[0]) ** 2 + (y(point.score) - at[1]) ** 2;
      if (far < least) { least = far; found = point; }
    }
    return found;
  };
  svg.addEventListener("pointermove", (event) => {
    const point = nearest(event);
    tip.hidden = point === null;
    hot.setAttribute("visibility", point === null ? "hidden" : "visible");
    svg.style.cursor = point === null ? "" : "pointer";
    if (point === null) return;
    hot.setAttribute("cx", x(point.number));
    hot.setAttribute("cy", y(point.score));
    const box = svg.getBoundingClientRect(), outer = place.getBoundingClientRect(), scale = box.width / width;
    tip.textContent = `${point.label} · ${number(point.score)}`;
    tip.style.left = `${Math.max(70, Math.min(outer.width - 70, box.left - outer.left + x(point.number) * scale))}px`;
    tip.style.top = `${box.top - outer.top + y(point.score) * scale}px`;
  });
  svg.addEventListener("pointerleave", () => { tip.hidden = true; hot.setAttribute("visibility", "hidden"); });
  svg.addEventListener("click", (event) => { const point = nearest(event); if (point) choose(point.trial); });
  place.replaceChildren(svg, tip);
};

const wide = (text) => [...text].reduce((sum, sign) => sum + (sign.charCodeAt(0) > 0x2e80 ? 1.85 : 1), 0);

const mark = (kind, attributes) => {
  const svg = drawn("svg", { width: 26, height: 12, viewBox: "0 0 26 12", class: "plot-mark" });
  svg.append(drawn(kind, attributes));
  return svg;
};

const searchLegend = (place) => {
  const line = (name) => mark("path", { d: "M1 6H25", class: name });
  const entries = [
    [mark("circle", { cx: 13, cy: 6, r: 3.2, class: "dot" }), "figure.one_candidate"], [line("mean"), "figure.mean"],
    [line("top"), "figure.generation_best"], [line("best"), "figure.best"], [line("hand"), "web.legend_hand"],
  ];
  place.replaceChildren(...entries.map(([sign, key]) => element("li", { class: "plot-sign" }, sign, say(key))));
};

const SERIES = ["--accent", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6", "--series-7", "--series-8"];
const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
const seriesStyle = (at) => ({ stroke: `var(${SERIES[at % SERIES.length]})`, dash: DASHES[Math.floor(at / SERIES.length) % DASHES.length] });

const drawRuns = (place, legend, runs, says) => {
  const width = Math.max(280, place.clientWidth - 20), height = width < 560 ? 280 : 380;
  const scores = runs.flatMap((run) => run.curve.map(([, score]) => score)).sort((a, b) => a - b);
  const high = scores.at(-1), low = scores[Math.floor(scores.length * 0.15)], space = Math.max(high - low, 4);
  const span = { low: Math.max(low - 0.25 * space, 0), high: Math.min(high + 0.12 * space, 103) };
  const last = Math.max(...runs.map((run) => Math.max(run.budget || 0, ...run.curve.map(([at]) => at))));
  const { svg, x, y } = frame(width, height, { ...span, last, right: 16, xLabel: say("figure.candidate"), yLabel: say("figure.score"), says });
  const clip = (value) => Math.max(span.low, value);
  runs.forEach((run, at) => {
    const { stroke, dash } = seriesStyle(at);
    const line = drawn("path", { class: "series", d: steps(run.curve.map(([n, score]) => [x(n), y(clip(score))]), x(run.curve.at(-1)[0])), "stroke-dasharray": dash });
    line.style.stroke = stroke;
    line.append(drawn("title", {}, run.name));
    svg.append(line);
  });
  place.replaceChildren(svg);
  legend.replaceChildren(...runs.map((run, at) => {
    const { stroke, dash } = seriesStyle(at);
    const sign = mark("path", { d: "M1 6H25", class: "series", "stroke-dasharray": dash });
    sign.firstChild.style.stroke = stroke;
    return element("li", { class: "plot-sign" }, sign, `${run.name} · ${number(run.curve.at(-1)[1])}`);
  }));
};
