// What the camera sees and how the device is, in words and bars.
import { span } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const LISTED = 5;

export function showLink({ state, camera, live }) {
  const link = $("link");
  const health = state?.health?.cameras.find((one) => one.name === camera);
  const [kind, text] = !live
    ? ["bad", "no connection"]
    : !health
      ? ["warn", "starting"]
      : health.state === "live"
        ? ["good", `${health.fps.toFixed(1)} frames a second`]
        : ["bad", `camera ${health.state}`];
  link.dataset.state = kind;
  // A reader is told of what changes, not of each number.
  link.setAttribute("aria-live", kind === "good" ? "off" : "polite");
  link.textContent = text;
}

export function showVerdict({ state, camera, gone }) {
  const view = state.cameras.find((one) => one.name === camera);
  const health = state.health?.cameras.find((one) => one.name === camera);
  const why = gone ? `no answer since ${clock(gone)}` : notLooking(view, health);
  const known = view.label !== null && !why;
  write($("label"), why || headline(view));
  const seen = view.predictions.some((one) => [...view.active, view.label].includes(one.label));
  $("label").dataset.sure = known && seen ? "yes" : "no";
  const since = view.since_s === null ? "" : `for ${span(view.since_s)}`;
  const facts = [`score ${view.score.toFixed(2)}`, since, health?.look].filter(Boolean);
  write($("sure"), known ? facts.join(", ") : gone ? "" : (health?.problem ?? ""));
  showMoved(why ? "" : view.moved, view.moved_columns);
  showScores(why ? [] : view.predictions, view.active);
  showVeil(state, view, why);
}

// The blocks that moved, a bit each, row after row.
function showMoved(hex, columns) {
  const canvas = $("moved");
  canvas.hidden = !hex;
  if (!hex) return;
  canvas.width = columns;
  canvas.height = (hex.length * 4) / columns;
  const ink = canvas.getContext("2d");
  ink.fillStyle = "rgb(255 214 0 / .35)";
  [...hex].forEach((digit, n) => {
    for (let bit = 0; bit < 4; bit++) {
      const at = 4 * n + bit;
      if ((parseInt(digit, 16) >> (3 - bit)) & 1) ink.fillRect(at % columns, Math.floor(at / columns), 1, 1);
    }
  });
}

function notLooking(view, health) {
  if (health?.controls && !health.controls.enabled) return "switched off";
  if (health && !["live", "starting"].includes(health.state)) return `camera ${health.state}`;
  return view.label === "off-duty" ? "off duty" : "";
}

// Of many labels the best first: "cat + dog", and with more than three how many more.
function headline({ label, active }) {
  if (active.length < 2) return label ?? "looking";
  const first = [label, ...active.filter((one) => one !== label)];
  return first.slice(0, 3).join(" + ") + (first.length > 3 ? ` + ${first.length - 3} more` : "");
}

function showScores(predictions, active) {
  const list = $("scores");
  while (list.children.length > Math.min(LISTED, predictions.length)) list.lastChild.remove();
  predictions.slice(0, LISTED).forEach((one, n) => {
    const item = list.children[n] ?? list.appendChild(scoreRow());
    const [name, score, bar] = item.children;
    write(name, one.label);
    write(score, one.score.toFixed(2));
    bar.firstChild.style.transform = `scaleX(${Math.min(1, one.score)})`;
    item.toggleAttribute("data-active", active.includes(one.label));
  });
}

function scoreRow() {
  const item = document.createElement("li");
  for (const kind of ["name", "score", "bar"]) {
    const part = item.appendChild(document.createElement("span"));
    part.className = kind;
  }
  item.lastChild.append(document.createElement("i"));
  item.lastChild.setAttribute("aria-hidden", "true");
  return item;
}

function showVeil(state, view, why) {
  const { naturalWidth: width, naturalHeight: height } = $("video");
  const empty = !state.pictures || !width;
  const frame = $("frame");
  frame.toggleAttribute("data-empty", empty);
  // As tall as the window allows, so that an upright picture leaves room for its label.
  if (!empty) {
    frame.style.maxWidth = `calc(72vh * ${width / height})`;
    frame.style.aspectRatio = `${width / height}`;
  }
  const text = !state.pictures ? "Pictures are turned off" : why || (empty ? "waiting for the first picture" : "");
  write($("veil"), text);
  $("veil").hidden = !text;
}

export function showHealth({ state, camera }) {
  const { health } = state;
  const vitals = health?.vitals ?? {};
  if (!health) return;
  const one = health.cameras.find((each) => each.name === camera);
  const { interpreter } = health;
  const facts = [
    ["Model", interpreter.model],
    ["Runtime", `${interpreter.runtime} ${interpreter.version}`],
    ["Delegate", `${interpreter.delegate}, ${interpreter.operators_delegated} of ${interpreter.operators_total} operators`],
    ["Threads", interpreter.threads],
    ...(one?.beside ?? []).map((other) => ["Beside it", other.problem || other.interpreter.model, other.problem && "bad"]),
    ["Temperature", vitals.temperature_c == null ? null : `${vitals.temperature_c.toFixed(1)} °C`],
    ["Throttling", vitals.throttling?.length ? vitals.throttling.join(", ") : null, "warn"],
    ["Rate", health.governed_by ? `${rate(health.rate_share)}: ${health.governed_by}` : null, "warn"],
    ["Memory", vitals.rss_mb == null ? null : `${vitals.rss_mb.toFixed(0)} MB`],
    ["Wi-Fi", vitals.wifi_dbm == null ? null : `${vitals.wifi_dbm} dBm`],
    ["Clock", vitals.clock_synced === false ? "not synchronised" : null, "warn"],
    ["Frames", one ? `${one.classified} of ${one.seen}` : null],
    ["Picture", one?.picture.length ? one.picture.join(", ") : null, "warn"],
    ["The usual", one?.drift?.learning || null],
    ["Up", span(health.uptime_s)],
  ];
  $("facts").replaceChildren(...facts.filter((fact) => fact[1] !== null).flatMap(fact));
  const stages = Object.entries(one?.stages ?? {});
  $("stages").hidden = !stages.length;
  $("stages").tBodies[0].replaceChildren(...stages.map(stageRow));
  const kinds = { live: "good", starting: "warn" };
  $("each-camera").replaceChildren(
    ...health.cameras.map((each) => part(each.name, kinds[each.state] ?? "bad", each.problem || each.state)),
  );
  $("each-sink").replaceChildren(
    ...health.sinks.map((sink) => part(sink.name, sink.problem ? "bad" : "good", sink.problem || "works")),
  );
}

function clock(when) {
  return new Date(when).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
}

function rate(share) {
  return share ? `${(100 * share).toFixed(0)} %` : "a frame a second";
}

function fact([name, value, kind = ""]) {
  const term = document.createElement("dt");
  term.textContent = name;
  const text = document.createElement("dd");
  text.textContent = value;
  if (kind) text.dataset.state = kind;
  return [term, text];
}

function stageRow([name, { p50_ms, p99_ms }]) {
  const row = document.createElement("tr");
  const head = row.appendChild(document.createElement("th"));
  head.scope = "row";
  head.textContent = name;
  for (const value of [p50_ms, p99_ms]) row.insertCell().textContent = value.toFixed(value < 10 ? 2 : 1);
  return row;
}

function part(name, kind, why) {
  const item = document.createElement("li");
  item.className = "dot";
  item.dataset.state = kind;
  item.append(name);
  const reason = item.appendChild(document.createElement("span"));
  reason.className = "why";
  reason.textContent = why;
  return item;
}

export function showLog({ state }) {
  const list = $("lines");
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.replaceChildren(
    ...state.log.map((line) => {
      const item = document.createElement("li");
      const time = item.appendChild(document.createElement("time"));
      time.textContent = new Date(line.when).toLocaleTimeString(undefined, { hour12: false });
      const text = item.appendChild(document.createElement("span"));
      text.textContent = line.text;
      if (line.level !== "info") text.dataset.state = line.level === "warning" ? "warn" : "bad";
      return item;
    }),
  );
  if (atEnd) list.scrollTop = list.scrollHeight;
}

// Only what changed is written, so that nothing is read out again.
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
