// The past of a camera: a day in lanes, which can be zoomed, and a week of one label by the hour.
import { colour, span } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const HOUR = 3600;
const REFRESH_MS = 60_000;
let page = null;
let day = startOfDay(0);
let view = [0, 1];
let past = null;

export function watchHistory(state) {
  page = state;
  $("past-before").onclick = () => go(-1);
  $("past-after").onclick = () => go(1);
  $("past-in").onclick = () => zoom(0.5);
  $("past-out").onclick = () => zoom(2);
  $("past-label").onchange = loadWeek;
  const lanes = $("lanes");
  lanes.onkeydown = (event) => {
    const act = { "+": () => zoom(0.5), "-": () => zoom(2), ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), Home: () => zoom(1e9) };
    if (act[event.key]) act[event.key](), event.preventDefault();
  };
  // Fingers on a touchpad that are drawn apart come as this, too.
  lanes.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.8 : 1.25, place(event));
  }, { passive: false });
  const fingers = new Map();
  lanes.onpointerdown = (event) => (fingers.set(event.pointerId, event), lanes.setPointerCapture(event.pointerId));
  lanes.onpointerup = lanes.onpointercancel = (event) => fingers.delete(event.pointerId);
  lanes.onpointermove = (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const [other] = [...fingers.values()].filter((one) => one.pointerId !== event.pointerId);
    if (!other) move((before.clientX - event.clientX) / lanes.clientWidth);
    else zoom(Math.abs(before.clientX - other.clientX) / Math.max(1, Math.abs(event.clientX - other.clientX)), place(other));
    fingers.set(event.pointerId, event);
  };
  $("week").onkeydown = ({ key, target }) => {
    const cell = { ArrowLeft: target.previousElementSibling, ArrowRight: target.nextElementSibling, ArrowUp: above(target, -1), ArrowDown: above(target, 1) }[key];
    if (cell?.tabIndex >= -1 && cell.tagName === "TD") cell.focus();
  };
  for (const kind of ["focusin", "pointerover"]) {
    $("week").addEventListener(kind, ({ target }) => target.title && ($("week-said").textContent = target.title));
  }
  addEventListener("camera", show);
  setInterval(() => !document.hidden && page.live && day === startOfDay(0) && show(), REFRESH_MS);
  show();
}

async function show() {
  if (!page.camera) return;
  const found = await ask("", { since: day, until: startOfDay(1, day) });
  past = found?.begun ? found : null;
  if (!past) return void ($("past").hidden = true);
  const chosen = $("past-label").value;
  $("past-label").replaceChildren(...past.labels.map((label) => new Option(label, label, false, label === chosen)));
  draw();
  list();
  $("past").hidden = false;
  loadWeek();
}

function startOfDay(days, from = Date.now() / 1000) {
  const date = new Date(1000 * from);
  return new Date(date.getFullYear(), date.getMonth(), date.getDate() + days).getTime() / 1000;
}

async function ask(what, query) {
  const answer = await fetch(`/api/history${what}?${new URLSearchParams({ camera: page.camera, ...query })}`).catch(() => null);
  return answer?.ok ? answer.json() : null;
}

function go(days) {
  const next = startOfDay(days, day);
  if (next > past.now || next < startOfDay(0, past.begun)) return;
  day = next;
  view = [0, 1];
  show();
}

const place = (event) => (event.clientX - $("lanes").getBoundingClientRect().left) / $("lanes").clientWidth;

// Around a place of the view, from 0 to 1.
function zoom(factor, at = 0.5) {
  const width = Math.min(1, Math.max(1 / 288, (view[1] - view[0]) * factor));
  const from = Math.min(1 - width, Math.max(0, view[0] + (view[1] - view[0] - width) * at));
  view = [from, from + width];
  draw();
}

function move(share) {
  const width = view[1] - view[0];
  const from = Math.min(1 - width, Math.max(0, view[0] + share * width));
  view = [from, from + width];
  draw();
}

function draw() {
  const length = startOfDay(1, day) - day;
  const [from, to] = view.map((share) => day + share * length);
  const percent = (at) => (100 * (at - from)) / (to - from);
  const bar = (begin, end, kind, title) => {
    const made = document.createElement(kind === "act" ? "b" : "i");
    made.className = kind;
    made.style.left = `${percent(begin)}%`;
    if (end) made.style.width = `${percent(end) - percent(begin)}%`;
    made.title = title;
    return made;
  };
  $("past-day").textContent = new Date(1000 * day).toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
  const gaps = past.gaps.map((one) => bar(one.begin, one.end ?? past.now, "gap", one.reason));
  const labels = [...new Set(past.intervals.map((one) => one.label))].sort();
  const lanes = labels.map((label) => {
    const lane = document.createElement("div");
    for (const one of past.intervals.filter((each) => each.label === label)) {
      const made = bar(one.begin, one.end ?? past.now, "", `${label}, ${row(one).slice(0, 2).join(" for ")}`);
      made.style.background = colour(label);
      lane.append(made);
    }
    const acts = past.actions.filter((one) => one.label === label);
    lane.append(...gaps.map((one) => one.cloneNode()), ...acts.map((one) => bar(one.at, 0, "act", `${one.action} ${one.on ? "on" : "off"} ${one.detail}`)));
    const name = document.createElement("span");
    name.textContent = label;
    lane.append(name);
    return lane;
  });
  const scale = document.createElement("div");
  scale.className = "scale";
  const step = [300, 900, HOUR, 3 * HOUR, 6 * HOUR].find((one) => (to - from) / one <= 9);
  for (let at = day + Math.ceil((from - day) / step) * step; at < to; at += step) {
    const tick = document.createElement("span");
    tick.textContent = clock(at);
    tick.style.left = `${percent(at)}%`;
    scale.append(tick);
  }
  $("lanes").replaceChildren(...lanes, scale);
}

const clock = (at) => new Date(1000 * at).toLocaleTimeString(undefined, { timeStyle: "short", hour12: false });

function row({ label, begin, end, reason }) {
  return [clock(begin), span((end ?? past.now) - begin), label ?? reason];
}

function list() {
  const all = [...past.intervals, ...past.gaps].sort((a, b) => b.begin - a.begin).slice(0, 200);
  $("past-rows").replaceChildren(...all.map((one) => {
    const made = document.createElement("tr");
    for (const text of row(one)) made.insertCell().textContent = text;
    return made;
  }));
}

async function loadWeek() {
  const label = $("past-label").value;
  const days = [-6, -5, -4, -3, -2, -1, 0].map((one) => startOfDay(one, day));
  const found = label && (await ask("/totals", { since: days[0], until: startOfDay(1, day), label }));
  if (!found) return;
  const spent = new Map(found.totals.map((one) => [one.at, one]));
  $("week").style.setProperty("--hue", colour(label));
  $("week").tBodies[0].replaceChildren(...days.map((one) => {
    const made = document.createElement("tr");
    const head = made.appendChild(document.createElement("th"));
    head.scope = "row";
    head.textContent = new Date(1000 * one).toLocaleDateString(undefined, { weekday: "short" });
    for (let hour = 0; hour < 24; hour++) {
      const { seconds = 0, times = 0 } = spent.get(one + hour * HOUR) ?? {};
      const cell = made.insertCell();
      cell.style.setProperty("--share", `${Math.min(100, (100 * Math.sqrt(seconds / HOUR))).toFixed(0)}%`);
      cell.tabIndex = made.rowIndex < 0 && !hour && one === days[0] ? 0 : -1;
      cell.title = `${head.textContent} ${hour}:00: ${label} ${seconds ? `${span(seconds)}, ${times} times` : "not at all"}`;
      cell.setAttribute("aria-label", cell.title);
    }
    return made;
  }));
}

function above(cell, rows) {
  const line = rows < 0 ? cell.parentNode.previousElementSibling : cell.parentNode.nextElementSibling;
  return line?.cells[cell.cellIndex];
}
