// What was seen when: a band of at most the last ten minutes, and a list.
const SPANS_MS = [60_000, 600_000];
const LISTED = 8;
const $ = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hour12: false });

export function showTimeline({ state, camera }) {
  const now = Date.now();
  const spans = state.changes
    .filter((change) => change.camera === camera)
    .map((change, n, all) => ({ ...change, until: all[n + 1]?.when ?? now }));
  // As much as there is to show, within limits.
  const width = Math.min(SPANS_MS[1], Math.max(SPANS_MS[0], now - (spans[0]?.when ?? now)));
  $("band").replaceChildren(
    ...spans.filter(({ until }) => until > now - width).map((one) => strip(one, now, width)),
  );
  $("band-start").textContent = `${Math.round(width / 60_000)} min ago`;
  const rows = spans.slice(-LISTED).reverse().map((span, n) => row(span, n === 0));
  $("changes").replaceChildren(...rows);
}

function strip({ label, when, until }, now, width) {
  const part = document.createElement("i");
  const left = Math.max(0, 1 - (now - when) / width);
  part.style.left = `${100 * left}%`;
  part.style.width = `${100 * (1 - (now - until) / width - left)}%`;
  part.style.background = colour(label);
  part.title = label;
  return part;
}

function row({ label, score, when, until }, current) {
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
  held.textContent = current ? `now, ${score.toFixed(2)}` : span((until - when) / 1000);
  item.append(time, swatch, what, held);
  return item;
}

export function span(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

// The same label has the same colour each time; what is no label is grey.
function colour(label) {
  if (["unknown", "unavailable", "off-duty"].includes(label)) return "var(--line)";
  let hash = 7;
  for (const character of label) hash = (hash * 31 + character.codePointAt(0)) % 3600;
  return `hsl(${hash / 10} 58% 52%)`;
}
