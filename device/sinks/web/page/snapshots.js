// The pictures that are kept of what began: a strip of them, and each of them large.
import { post } from "./command.js";

const $ = (id) => document.getElementById(id);
const strip = $("strip");
const large = $("large");
let page = null;
let shown = [];
let more = false;
let item = null;

export function watchSnapshots(state) {
  page = state;
  strip.onclick = ({ target }) => open(target.closest("li"));
  strip.onscroll = () => strip.scrollWidth - strip.scrollLeft < 3 * strip.clientWidth && loadOlder();
  large.onkeydown = ({ key }) => open({ ArrowLeft: newer, ArrowRight: older }[key]?.());
  // A handler that returns false would keep Save from saving.
  large.onclick = ({ target }) => void (target === large && large.close());
  large.onclose = () => item.firstChild.focus();
  $("large-newer").onclick = () => open(newer());
  $("large-older").onclick = () => open(older());
  $("large-close").onclick = () => large.close();
  $("large-delete").onclick = () => confirm("Delete this picture?") && remove(item);
}

const newer = () => item.previousElementSibling;
const older = () => item.nextElementSibling;

// Asked for again where the camera is another, or where a picture came or went.
export function showSnapshots() {
  const { camera, state } = page;
  if (!state.pictures || (shown[0] === camera && shown[1] === state.album)) return;
  if (shown[0] !== camera) {
    large.close();
    strip.replaceChildren();
  }
  shown = [camera, state.album];
  load().then((found) => found && show(found));
}

async function load(before = "") {
  const { camera } = page;
  const answer = await fetch(`/api/snapshots?${new URLSearchParams({ camera, before })}`).catch(() => null);
  return answer?.ok && camera === page.camera ? answer.json() : null;
}

// What is there already stays in its place, and so does the focus.
function show(found) {
  const ids = found.snapshots.map(({ id }) => id);
  const oldest = found.more ? ids.at(-1) : "";
  for (const { id, parentNode } of strip.querySelectorAll("button")) {
    if (id >= oldest && !ids.includes(id)) parentNode.remove();
  }
  found.snapshots.forEach((one, n) => {
    const there = strip.children[n];
    if (there?.firstChild.id !== one.id) strip.insertBefore(thumb(one), there ?? null);
  });
  more = found.more;
  $("large-delete").hidden = !page.state.commands;
  showStrip();
}

function showStrip() {
  $("album").hidden = !strip.firstChild;
  // One stop of the Tab key for all of them: arrows lead from large to large.
  if (strip.firstChild) strip.firstChild.firstChild.tabIndex = 0;
}

async function loadOlder() {
  if (!more) return;
  more = false;
  const found = await load(strip.lastChild.firstChild.id);
  strip.append(...(found?.snapshots ?? []).map(thumb));
  more = found?.more ?? true;
}

function thumb({ id, label, at, age_s }) {
  const made = document.createElement("li");
  const button = made.appendChild(document.createElement("button"));
  const image = button.appendChild(new Image());
  const when = new Date(age_s === null ? at : Date.now() - 1000 * age_s);
  const day = when.toDateString() === new Date().toDateString() ? undefined : "medium";
  const time = document.createElement("time");
  time.dateTime = when.toISOString();
  time.textContent = when.toLocaleString(undefined, { dateStyle: day, timeStyle: "medium", hour12: false });
  Object.assign(image, { loading: "lazy", alt: "", src: `/api/snapshots/${id}.jpg` });
  Object.assign(button, { id, tabIndex: -1 });
  button.append(label, time);
  return made;
}

function open(one) {
  if (!one) return;
  item = one;
  const [image, label, time] = one.firstChild.childNodes;
  $("large-picture").src = $("large-save").href = image.src;
  $("large-picture").alt = $("large-title").textContent = `${label.data}, ${time.textContent}`;
  $("large-save").download = `${one.firstChild.id}.jpg`;
  if (!large.open) large.showModal();
  const ends = () => ([$("large-newer").disabled, $("large-older").disabled] = [!newer(), !older()]);
  ends();
  if (!older()) loadOlder().then(ends);
}

async function remove(one) {
  if (!(await post(`/api/snapshots/${one.firstChild.id}`, undefined, "DELETE"))) return;
  const next = older() ?? newer();
  one.remove();
  next ? open(next) : large.close();
  showStrip();
}
