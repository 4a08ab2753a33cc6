"use strict";
// One run: what it is doing, figure 1, weights, trials, and two trials side by side.
(() => {
  const run = document.body.dataset.run;
  const FEW = 12;
  let state = null, version = null, drawnWidth = 0;
  let sort = { key: "trial", descending: true }, all = false, wanted = "";
  const chosen = { a: null, b: null, set: "", task: "", kind: "", only: "differ", first: 0 };
  let follows = true; // A is the best so far until a person chooses

  const rewrite = (target, children) => target.replaceChildren(...children);

  // ── status ──

  const tile = (name, figure, note = "") => {
    const place = document.querySelector(`[data-tile="${name}"]`);
    const [big, small = ""] = [].concat(figure);
    const shown = place.querySelector(".figure");
    if (shown.textContent !== `${big}${small && " "}${small}`) rewrite(shown, [big, small ? " " : "", small ? element("small", {}, small) : ""]);
    setText(place.querySelector(".note"), note);
  };

  const showStatus = () => {
    const badge = byId("state");
    badge.className = `state ${["running", "waiting"].includes(state.state) ? "going" : ""} ${state.state}`;
    setText(badge, say(`web.state.${state.state}`));
    setText(byId("name"), state.name);
    document.title = `${state.budget && state.state !== "finished" ? `${Math.round((100 * state.done) / state.budget)} % · ` : ""}${state.name} · vlmerge`;
    const place = state.generation;
    const searching = place && state.state !== "finished" && !state.elected;
    const ago = state.last_at && state.state !== "finished" ? (Date.now() - Date.parse(state.last_at)) / 1000 : 0;
    tile("stage", state.where || say(`web.state.${state.state}`), [searching ? say("web.now.stage_of", place) : "", ago > 90 ? say("web.now.ago", { time: duration(ago) }) : ""].filter(Boolean).join("\n"));
    tile("candidates", state.budget ? [String(state.done), say("web.now.of", { budget: state.budget })] : String(state.done));
    tile("rate", number(state.per_minute));
    const left = state.seconds_left !== null && state.state !== "finished";
    tile("left", left ? duration(state.seconds_left) : "–", left ? say("web.now.left_note") : "");
    const hand = state.chart.baselines.at(-1);
    tile("best", number(state.best), hand ? say("web.now.best_note", { score: number(hand.score), name: hand.name }) : "");
    const bar = byId("progress");
    bar.setAttribute("aria-valuemax", state.budget || state.done || 1);
    bar.setAttribute("aria-valuenow", state.done);
    bar.firstElementChild.style.width = `${state.budget ? Math.min(100, (100 * state.done) / state.budget) : 0}%`;
    bar.hidden = state.state === "finished";
    byId("contaminated").hidden = !state.contaminated.length;
    setText(byId("contaminated"), state.contaminated.length ? `${say("contaminated")}: ${state.contaminated.join("; ")}` : "");
    byId("holdout-hidden").hidden = state.sets.includes("holdout") || !state.has_holdout;
    const trouble = byId("trouble");
    trouble.hidden = !state.trouble;
    if (state.trouble) setText(trouble.querySelector("pre"), state.trouble);
    showSteering();
  };

  const showSteering = (hint = null) => {
    const [stop, on] = [byId("stop"), byId("go-on")];
    const focused = document.activeElement === stop || document.activeElement === on;
    stop.hidden = !["running", "stopping"].includes(state.state);
    stop.disabled = state.state === "stopping";
    on.hidden = !["stopped", "waiting"].includes(state.state);
    on.disabled = state.state === "waiting";
    const hints = { running: "web.stop_hint", stopping: "web.stop_asked", stopped: "web.go_on_hint", waiting: "web.went_on" };
    setText(byId("steer-hint"), hint ?? (state.state in hints ? say(hints[state.state]) : ""));
    if (focused && document.activeElement === document.body) (stop.hidden ? on : stop).focus();
  };

  const steer = (button, path) => button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await send(`${run}/${path}`);
      await look();
    } catch (error) {
      button.disabled = false;
      showSteering(error.message);
    }
  });

  // ── figure 1 ──

  const showChart = () => {
    const place = byId("chart"), chart = state.chart;
    if (!chart.points.some((point) => point.score !== null)) return;
    drawnWidth = place.clientWidth;
    const hand = chart.baselines.at(-1), last = chart.spreads.at(-1);
    const best = Math.max(...chart.points.map((point) => point.score ?? -Infinity));
    const says = say("web.chart_says", { count: chart.points.length, best: number(best), mean: number(last?.mean), baseline: hand ? `${number(hand.score)} (${hand.name})` : "–" });
    drawSearch(place, chart, { says, choose: (trial) => choose("a", trial) });
    if (!byId("legend").children.length) searchLegend(byId("legend"));
    const names = new Map(chart.stages.map((stage) => [stage.stage, stage.name]));
    const rows = [...chart.spreads].reverse().map((spread) => {
      const cells = [String(spread.generation + 1), `${spread.first}–${spread.last}`, number(spread.best), number(spread.mean), number(spread.deviation)];
      return element("tr", {}, element("th", { scope: "row" }, names.get(spread.stage) || String(spread.stage + 1)), ...cells.map((text) => element("td", { class: "number" }, text)));
    });
    rewrite(document.querySelector("#chart-table tbody"), rows);
  };

  // ── weights ──

  const heat = (table, title) => {
    const head = element("tr", {}, element("th", { scope: "col" }, say("web.weights_group")), ...table.columns.map((name) => element("th", { scope: "col" }, name)));
    const rows = table.rows.map((row) => element("tr", {}, element("th", { scope: "row" }, row.name), ...row.cells.map((cell) => {
      const made = element("td", { class: cell.dark ? "dark" : "" }, cell.text);
      made.style.background = cell.colour;
      return made;
    })));
    return element("div", {}, element("h3", {}, title),
      element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": title }, element("table", { class: "heat" }, element("thead", {}, head), element("tbody", {}, ...rows))));
  };

  const showWeights = () => {
    const shown = [];
    if (state.under_way?.weights) shown.push(heat(state.under_way.weights, say("web.weights_now", { label: state.under_way.label })));
    if (state.leader_weights) shown.push(heat(state.leader_weights, say(state.elected ? "web.weights_winner" : "web.weights_best", { label: state.leader_label })));
    byId("weights").hidden = !shown.length;
    rewrite(byId("weight-tables"), shown);
  };

  // ── trials ──

  const columns = () => ["trial", "name", ...state.sets.filter((set) => set === "search" || state.trials.some((trial) => trial[set] !== null)), "seconds"];
  const textual = (key) => key === "name";

  const showHead = () => {
    const row = document.querySelector(".trials thead tr");
    const keys = columns();
    if (row.dataset.keys !== keys.join()) {
      row.dataset.keys = keys.join();
      rewrite(row, [...keys.map((key) => element("th", { scope: "col", "data-key": key, class: `${textual(key) ? "" : "number"} column-${key}` },
        element("button", { type: "button", onclick: () => {
          sort = { key, descending: sort.key === key ? !sort.descending : !textual(key) };
          showTrials();
        } }, say(`web.trials.${key}`)))), element("th", { scope: "col" }, say("web.trials.sides"))]);
    }
    for (const head of row.querySelectorAll("[data-key]")) {
      if (head.dataset.key === sort.key) head.setAttribute("aria-sort", sort.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  };

  const lines = new Map();
  const lineOf = (trial) => {
    const known = lines.get(trial.trial);
    const key = JSON.stringify([trial, columns(), chosen.a === trial.trial, chosen.b === trial.trial]);
    if (known?.key === key) return known.row;
    const pick = (side) => element("button", {
      type: "button", "aria-pressed": String(chosen[side] === trial.trial), "aria-label": say("web.trials.side", { trial: trial.trial, side: side.toUpperCase() }),
      onclick: () => choose(side, trial.trial),
    }, side.toUpperCase());
    const cells = columns().map((column) => {
      if (column === "name") {
        const asked = trial.stopped_after;
        const stopped = asked === null ? null : element("span", { class: "range" }, say("web.trials.stopped", { asked }));
        const failed = trial.reason && !stopped ? element("span", { class: "bad range" }, say("web.trials.failed", { reason: trial.reason })) : stopped;
        const label = trial.name === trial.label ? null : element("span", { class: "trial" }, trial.label);
        return element("th", { scope: "row", class: trial.name === trial.label ? "unbroken" : null }, trial.name, label, failed);
      }
      const value = trial[column];
      return element("td", { class: `number column-${column}` }, column === "trial" ? String(value) : number(value, 1));
    });
    const row = known?.row ?? element("tr");
    const focus = row.contains(document.activeElement) ? [...row.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    row.className = chosen.a === trial.trial || chosen.b === trial.trial ? "chosen" : "";
    rewrite(row, [...cells, element("td", {}, element("span", { class: "pick" }, pick("a"), pick("b")))]);
    if (focus >= 0) row.querySelectorAll("button")[focus].focus();
    lines.set(trial.trial, { key, row });
    return row;
  };

  const showTrials = () => {
    showHead();
    const worth = (trial) => trial[sort.key] ?? null;
    const found = state.trials.filter((trial) => !wanted || `${trial.name} ${trial.label}`.toLowerCase().includes(wanted));
    found.sort((left, right) => {
      const [one, other] = [worth(left), worth(right)];
      if (one === null || other === null) return (one === null) - (other === null) || left.trial - right.trial;
      const order = typeof one === "string" ? one.localeCompare(other, LANG) : one - other;
      return (sort.descending ? -order : order) || left.trial - right.trial;
    });
    setText(byId("trials-count"), say("web.trials_caption", { count: state.trials.length }));
    const rows = (all ? found : found.slice(0, FEW)).map(lineOf);
    const body = document.querySelector(".trials tbody");
    if (rows.length !== body.children.length || rows.some((row, at) => body.children[at] !== row)) {
      const focused = body.contains(document.activeElement) ? document.activeElement : null;
      rewrite(body, rows);
      focused?.focus();
    }
    const more = byId("more-trials");
    more.hidden = found.length <= FEW;
    setText(more, all ? say("web.trials.fewer") : say("web.trials.all", { count: found.length }));
    byId("trials").hidden = !state.trials.length;
  };

  // ── side by side ──

  const showSides = () => {
    const options = [...state.trials].reverse().map((trial) => [String(trial.trial), `${trial.trial} · ${trial.name}${trial.search === null ? "" : ` · ${number(trial.search)}`}`]);
    for (const side of ["a", "b"]) fill(byId(`side-${side}`), options, String(chosen[side] ?? ""));
  };

  const fill = (select, options, value) => {
    const key = JSON.stringify(options);
    if (select.dataset.key !== key) {
      select.dataset.key = key;
      rewrite(select, options.map(([worth, text]) => element("option", { value: worth }, text)));
    }
    if (select.value !== value) select.value = value;
  };

  const choose = (side, trial) => {
    follows = false;
    chosen[side] = trial;
    chosen.first = 0;
    showTrials();
    showSides();
    compare();
  };

  let asked = 0;
  const compare = async () => {
    if (chosen.a === null || chosen.b === null) return;
    const turn = ++asked;
    const found = await ask(`${run}/compare.json`, chosen).catch((error) => { console.warn(error.message); return null; });
    if (found !== null && turn === asked) showComparison(found);
  };

  const showComparison = (found) => {
    chosen.set = found.set ?? "";
    const any = ["", say("web.compare.any")];
    fill(byId("filter-set"), found.sets.map((set) => [set, say(`set.${set}`)]), found.set ?? "");
    fill(byId("filter-task"), [any, ...Object.entries(found.tasks).map(([name, count]) => [name, `${name.split("/").pop()} (${count})`])], chosen.task);
    fill(byId("filter-kind"), [any, ...Object.entries(found.kinds).map(([name, count]) => [name, `${name} (${count})`])], chosen.kind);
    for (const name of ["task", "kind"]) byId(`filter-${name}`).parentElement.hidden = byId(`filter-${name}`).options.length < 3;
    byId("filter-set").parentElement.hidden = found.sets.length < 2;
    found.sides.forEach((side, at) => setText(byId(`mean-${at ? "b" : "a"}`), side.mean === null ? (side.reason ?? "") : say("web.compare.mean", { score: number(side.mean), questions: found.questions })));
    const { gain, loss } = found.counts, tie = found.questions - gain - loss;
    rewrite(byId("balance"), [["gain", gain, say("web.compare.gain")], ["tie", tie, say("web.compare.tag.tie")], ["loss", loss, say("web.compare.loss")]].filter(([, count]) => count).map(([kind, count, text]) => {
      const part = element("i", { class: kind }, count > 0.14 * found.questions ? `${text} ${count}` : "");
      part.style.flexGrow = count;
      return part;
    }));
    const group = byId("only"), focus = group.contains(document.activeElement) ? document.activeElement.dataset.only : null;
    rewrite(group, ["all", "gain", "loss", "differ", "same"].map((only) => element("button", {
      type: "button", "data-only": only, "aria-pressed": String(chosen.only === only), onclick: () => { chosen.only = only; chosen.first = 0; compare(); },
    }, `${say(`web.compare.${only}`)} ${found.counts[only]}`)));
    group.hidden = !found.questions;
    if (focus) group.querySelector(`[data-only="${focus}"]`).focus();
    const cards = found.items.map((item) => card(item, found.sides));
    const place = byId("cards");
    if (chosen.first) {
      place.append(...cards);
      cards[0]?.focus();
    } else rewrite(place, cards);
    const nothing = byId("nothing");
    nothing.hidden = place.children.length > 0;
    setText(nothing, say(found.set === null ? "web.compare.no_set" : "web.compare.nothing"));
    byId("more-cards").hidden = !found.more;
    setText(byId("more-cards"), say("web.compare.more", { count: found.more }));
  };

  const card = (item, sides) => {
    const pictures = item.pictures.map((digest) => element("img", {
      src: `${run}/picture?digest=${encodeURIComponent(digest)}`, alt: say("web.compare.picture", { question: item.question }), decoding: "async",
    }));
    const said = item.said.flatMap((answer, at) => {
      const side = at ? "b" : "a";
      const words = answer.words.length && answer.words.some(([text]) => text.trim()) ? answer.words.map(([text, other]) => (other ? element("mark", {}, text) : text)) : [element("em", {}, say("empty_answer"))];
      return [
        element("dt", { class: side }, element("span", { class: "who" }, element("i"), `${side.toUpperCase()} · ${sides[at].name}`), element("b", {}, number(answer.score))),
        element("dd", { class: side, lang: "" }, ...words),
      ];
    });
    return element("article", { class: `card ${item.outcome}`, tabindex: "-1" },
      element("div", { class: "pictures" }, ...pictures, element("span", { class: "tag" }, say(`web.compare.tag.${item.outcome}`))),
      item.kind ? element("p", { class: "meta" }, item.kind) : null,
      element("p", { class: "question", lang: "" }, item.question),
      element("p", { class: "reference" }, element("span", {}, say("web.compare.reference")), item.references.join(" / ")),
      element("dl", {}, ...said));
  };

  // ── together ──

  let announced = "";
  const look = async () => {
    const found = await ask(`${run}/state.json`, { version });
    if (state && found && state.first_part !== found.first_part) return location.reload(); // Another record: nothing of this one holds.
    if (found !== null) {
      state = found;
      version = found.version;
      showChart();
      showWeights();
      showTrials();
      const before = `${chosen.a} ${chosen.b}`;
      if (follows) {
        chosen.a = state.leader.a;
        chosen.b = state.leader.b !== chosen.a ? state.leader.b : chosen.b;
        if (`${chosen.a} ${chosen.b}` !== before || state.elected) { chosen.set = ""; chosen.first = 0; showTrials(); compare(); }
      }
      showSides();
      const place = state.generation;
      const now = `${state.state} ${place?.stage} ${place?.generation}`;
      if (announced && announced !== now) announce(`${say(`web.state.${state.state}`)}. ${say("web.announce", { done: state.done, best: number(state.best) })}`);
      announced = now;
    }
    showStatus();
  };

  steer(byId("stop"), "stop");
  steer(byId("go-on"), "go-on");
  for (const side of ["a", "b"]) byId(`side-${side}`).addEventListener("change", (event) => choose(side, Number(event.target.value)));
  for (const name of ["set", "task", "kind"]) byId(`filter-${name}`).addEventListener("change", (event) => { chosen[name] = event.target.value; chosen.first = 0; compare(); });
  byId("swap").addEventListener("click", () => { [chosen.a, chosen.b] = [chosen.b, chosen.a]; choose("a", chosen.a); });
  byId("more-trials").addEventListener("click", () => { all = !all; showTrials(); });
  byId("more-cards").addEventListener("click", () => { chosen.first = byId("cards").children.length; compare(); });
  byId("find").addEventListener("input", (event) => { wanted = event.target.value.trim().toLowerCase(); showTrials(); });
  new ResizeObserver(() => { if (state && Math.abs(byId("chart").clientWidth - drawnWidth) > 4) showChart(); }).observe(byId("chart"));
  keepLooking(look, () => (state?.state === "finished" ? 10 : 2));
})();
