"use strict";
// What every page needs: phrases, elements made from text (never from HTML), requests, numbers, and polling.
const PHRASES = JSON.parse(document.getElementById("phrases").textContent);
const LANG = document.documentElement.lang;
const TOKEN = document.querySelector('meta[name="vlmerge-token"]').content;

const say = (key, values = {}) =>
  (PHRASES[key] ?? key.split(".").pop()).replace(/\{(\w+)\}/g, (all, name) => (name in values ? String(values[name]) : all));

const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

const byId = (id) => document.getElementById(id);
const number = (value, digits = 1) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
const duration = (seconds) => {
  if (seconds < 90) return say("time.seconds", { n: Math.round(seconds) });
  if (seconds < 5400) return say("time.minutes", { n: Math.round(seconds / 60) });
  return say("time.hours", { h: Math.floor(seconds / 3600), m: Math.round((seconds % 3600) / 60) });
};

const setText = (target, text) => { if (target.textContent !== text) target.textContent = text; };
const announce = (text) => setText(byId("announce"), text);

// Asks the server; null: nothing has changed.
const ask = async (path, values = {}) => {
  const query = new URLSearchParams({ lang: LANG });
  for (const [key, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== "") query.set(key, value);
  const answer = await fetch(`${path}?${query}`, { credentials: "same-origin" });
  if (answer.status === 204) return null;
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};

const send = async (path, body = null, headers = {}) => {
  const answer = await fetch(path, { method: "POST", credentials: "same-origin", headers: { "X-Vlmerge-Token": TOKEN, ...headers }, body });
  const told = await answer.json().catch(() => ({ error: String(answer.status) }));
  if (!answer.ok) throw new Error(told.error || String(answer.status));
  return told;
};

// Calls look() again and again while the page is seen; says so when the server is away.
const keepLooking = (look, seconds) => {
  let timer = null;
  const again = async () => {
    clearTimeout(timer);
    try {
      await look();
      byId("offline").hidden = true;
    } catch (error) {
      if (!(error instanceof TypeError)) console.warn(error.message);
      byId("offline").hidden = false;
    }
    timer = document.hidden ? null : setTimeout(again, 1000 * seconds());
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) again(); });
  again();
  return again;
};
