// What was seen when: a band of at most the last ten minutes, and a list.
const SPANS_MS = [60_000, 600_000];
const LISTED = 8;
const $ = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hour12: false });

export function showTimeline({ state, camera }) {
  const now = Date.now();
  const spans = spansOf(state.changes.filter((change) => change.camera === camera));
  // As much as there is to show, within limits.
  const width = Math.min(SPANS_MS[1], Math.max(SPANS_MS[0], now - (spans[0]?.when ?? now)));
  $("band").replaceChildren(
    ...inLanes(spans.filter(({ until }) => (until ?? now) > now - width)).map((one) => strip(one, now, width)),
  );
  $("band-start").textContent = `${Math.round(width / 60_000)} min ago`;
  const rows = spans.slice(-LISTED).reverse().map(row);
  $("changes").replaceChildren(...rows);
}

// From when until when each label was in force, until null while it is; several may be at once.
function spansOf(changes) {
  const spans = [];
  const open = new Map();
  for (const { label, score, when, on, active } of changes) {
    const names = active.length || !on ? active : [label];
    for (const [name, one] of open) {
      if (names.includes(name)) continue;
      one.until = when;
      open.delete(name);
    }
    for (const name of names) {
      if (open.has(name)) continue;
      open.set(name, { label: name, score, when, until: null });
      spans.push(open.get(name));
    }
  }
  return spans;
}

// Spans of the same time lie below each other: each gets the first lane that is free.
function inLanes(spans) {
  const ends = [];
  const lane = spans.map(({ when, until }) => {
    let free = ends.findIndex((end) => end <= when);
    if (free < 0) free = ends.length;
    ends[free] = until ?? Infinity;
    return free;
  });
  return spans.map((one, n) => ({ ...one, lane: lane[n], lanes: ends.length }));
}

function strip({ label, when, until, lane, lanes }, now, width) {
  const part = document.createElement("i");
  const left = Math.max(0, 1 - (now - when) / width);
  part.style.left = `${100 * left}%`;
  part.style.width = `${100 * (1 - (now - (until ?? now)) / width - left)}%`;
  part.style.top = `${(100 * lane) / lanes}%`;
  part.style.height = `${100 / lanes}%`;
  part.style.background = colour(label);
  part.title = label;
  return part;
}

function row({ label, score, when, until }) {
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = clock.format(when);
  time.dateTime = new Date(when).toISOString();
  const swatch = document.createElement("i");
  swatch.style.background = colour(label);
  const what = document.createElement("span");
  what.className = "what";
  what.textContent = label;
  const held = document.createElement("span");
  held.className = "held";
  held.textContent = until === null ? `now, ${score.toFixed(2)}` : span((until - when) / 1000);
  item.append(time, swatch, what, held);
  return item;
}

export function span(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

// Okabe's and Ito's colours, which nearly everybody can tell apart: in the order of appearance, so
// that the first seven labels have one of their own. What is no label is grey.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"];
const known = new Map();
export function colour(label) {
  if (["unknown", "nothing", "unavailable", "off-duty"].includes(label)) return "var(--line)";
  if (!known.has(label)) known.set(label, PALETTE[known.size % PALETTE.length]);
  return known.get(label);
}
