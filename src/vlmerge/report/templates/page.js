"use strict";
(() => {
  const keep = (key, value) => { try { sessionStorage.setItem(`vlmerge:${location.pathname}:${key}`, value); } catch { /* no storage: nothing is kept */ } };
  const kept = (key) => { try { return sessionStorage.getItem(`vlmerge:${location.pathname}:${key}`); } catch { return null; } };

  const buttons = [...document.querySelectorAll("[data-filter]")];
  const show = (outcome) => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.filter === outcome));
    for (const card of document.querySelectorAll("[data-outcome]")) card.hidden = outcome !== "all" && card.dataset.outcome !== outcome;
    keep("filter", outcome);
  };
  for (const button of buttons) button.addEventListener("click", () => show(button.dataset.filter));
  const chosen = kept("filter");
  if (chosen && buttons.some((button) => button.dataset.filter === chosen)) show(chosen);

  // Tables that are wider than the screen say so: a line above them, and an edge that fades where there is more.
  for (const box of document.querySelectorAll(".scroll")) {
    const look = () => {
      const over = box.scrollWidth - box.clientWidth;
      const hint = box.previousElementSibling;
      if (hint && hint.className === "scroll-hint") hint.hidden = over <= 4;
      box.classList.toggle("more", over - box.scrollLeft > 4);
      box.classList.toggle("less", box.scrollLeft > 4);
    };
    box.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(box);
    look();
  }

  const seconds = Number(document.body.dataset.reload || 0);
  if (seconds) {
    const open = (kept("open") || "").split(",");
    const details = [...document.querySelectorAll("details")];
    details.forEach((each, at) => { if (open.includes(String(at))) each.open = true; });
    const place = Number(kept("scroll") || 0);
    if (place) scrollTo(0, place);
    setTimeout(() => {
      keep("scroll", String(scrollY));
      keep("open", details.flatMap((each, at) => (each.open ? [at] : [])).join(","));
      location.reload();
    }, 1000 * seconds);
  }
})();
