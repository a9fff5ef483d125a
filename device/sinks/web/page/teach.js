// Labels of one's own: hold a button while the camera sees it, sort what was taught.
import { order, post } from "./command.js";

const $ = (id) => document.getElementById(id);
const PAUSE_MS = 250;
const chosen = new Set();
let page = null;
let shown = "";
let holding = false;

export function watchTeach(state) {
  page = state;
  const hold = $("teach-hold");
  hold.onpointerdown = (event) => event.button || teach();
  hold.onkeydown = (event) => [" ", "Enter"].includes(event.key) && !event.repeat && teach();
  for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => (holding = false));
  hold.onkeyup = () => (holding = false);
  hold.oncontextmenu = (event) => event.preventDefault();
  $("teach-label").onkeydown = (event) => event.key === "Enter" && hold.focus();
  $("teach-undo").onclick = () => correct({ action: "undo" });
  $("doubts-forget").onclick = () => correct({ action: "forget_doubts" });
  $("doubts-name").onclick = () => {
    const label = $("teach-label").value.trim();
    label ? correct({ action: "move", label, entries: [...chosen] }) : $("teach-label").focus();
  };
  $("doubts").onclick = ({ target }) => target.dataset.entry && choose(target, Number(target.dataset.entry));
  $("teach-forget").onclick = () => correct({ action: "forget_pictures" });
  $("taught").onclick = ({ target }) => {
    const { entry, act, label } = target.dataset;
    if (entry) choose(target, Number(entry));
    if (act === "remove_label") correct({ action: act, label });
    if (act === "move") correct({ action: act, label, entries: [...chosen] });
    if (act === "say") $("teach-label").value = label;
  };
  $("teach-out").onclick = () => correct({ action: "remove", entries: [...chosen] });
  // A picture is dragged with a mouse; with keys and fingers it is chosen, and then moved.
  $("taught").ondragstart = (event) => {
    const entry = Number(event.target.dataset.entry);
    if (!chosen.has(entry)) choose(event.target, entry);
    event.dataTransfer.setData("text/plain", String(entry));
  };
  $("taught").ondragover = (event) => event.target.closest("[data-group]") && event.preventDefault();
  $("taught").ondrop = (event) => {
    event.preventDefault();
    const group = event.target.closest("[data-group]");
    if (group) correct({ action: "move", label: group.dataset.group, entries: [...chosen] });
  };
}

// Asked for again where the camera is another, or was taught something since.
export function showTeach() {
  const health = page.state.health?.cameras.find((one) => one.name === page.camera);
  const now = JSON.stringify([page.camera, health?.taught, health?.interpreter?.model]);
  $("teach-hold").disabled = $("teach-label").disabled = !page.state.commands || !health;
  if (now === shown || holding || !health) return;
  shown = now;
  refresh();
}

async function refresh() {
  const answer = await fetch(`/api/lessons?camera=${encodeURIComponent(page.camera)}`).catch(() => null);
  $("teach").hidden = !answer?.ok;
  if (answer?.ok) show(await answer.json());
}

async function teach() {
  const label = $("teach-label").value.trim();
  if (!label) return $("teach-label").focus();
  if (holding) return;
  holding = true;
  let count = 0;
  do {
    if (!(await order(page.camera, "teach", label))) break;
    count += 1;
    $("teach-said").textContent = `${count} ${count === 1 ? "picture" : "pictures"} of “${label}”`;
    await new Promise((done) => setTimeout(done, PAUSE_MS));
  } while (holding);
  holding = false;
  refresh();
}

async function correct(change) {
  const lessons = await post("/api/lessons", { camera: page.camera, ...change });
  if (lessons) show(lessons);
}

function choose(button, entry) {
  chosen.has(entry) ? chosen.delete(entry) : chosen.add(entry);
  button.setAttribute("aria-pressed", String(chosen.has(entry)));
  showChosen();
}

function showChosen() {
  $("teach-out").hidden = $("doubts-name").hidden = !chosen.size;
  for (const button of document.querySelectorAll("[data-act=move]")) button.hidden = !chosen.size;
}

function show({ labels, doubts, grade, beside, keeps_pictures }) {
  chosen.clear();
  $("doubtful").hidden = !doubts.length;
  $("doubts").replaceChildren(...doubts.map((entry) => picture(entry, "a doubt")));
  $("teach-labels").replaceChildren(...labels.map(({ label }) => new Option(label, label)));
  $("taught").replaceChildren(...labels.map(group));
  const kept = labels.some((one) => one.kept.length);
  $("teach-forget").hidden = !kept;
  $("teach-undo").hidden = !labels.length;
  $("teach-grade").textContent = graded(labels, grade);
  showConfusion(labels.map(({ label }) => label), grade.confusion);
  $("teach-keeps").textContent = keeps_pictures
    ? "The pictures are kept on this device, so that you can sort them."
    : "Only what was learned is kept, not the pictures; teach.keep_pictures keeps those to come.";
  $("teach-keeps").textContent += beside ? " The labels stand beside those of the model." : "";
  showChosen();
}

function graded(labels, { accuracy, spread, mixed }) {
  if (!labels.length) return "Begin with the empty scene: nothing is a label like any other.";
  if (labels.length < 2) return "One label so far. Teach a second one, and it tells them apart.";
  if (accuracy === null) return "It tells them apart from three pictures of each on, and says how well.";
  const percent = (share) => `${Math.round(100 * share)} %`;
  const pair = mixed ? ` It mixes up “${mixed[0]}” and “${mixed[1]}” most.` : "";
  return `Right in ${percent(accuracy)} (± ${percent(spread)}) of pictures it had not seen.${pair}`;
}

// Rows are what held-out pictures show, columns what they were taken for.
function showConfusion(labels, confusion) {
  $("teach-confusion").hidden = !confusion.length;
  const counts = new Map(confusion.map(([is, taken, count]) => [JSON.stringify([is, taken]), count]));
  const head = (text, scope) => Object.assign(document.createElement("th"), { textContent: text, scope });
  const rows = labels.map((is) => {
    const row = labels.map((taken) => counts.get(JSON.stringify([is, taken])) ?? 0);
    const all = row.reduce((sum, count) => sum + count, 0) || 1;
    const cells = row.map((count, column) => {
      const cell = Object.assign(document.createElement("td"), { textContent: count || "" });
      cell.className = labels[column] === is ? "right" : "wrong";
      cell.style.setProperty("--share", `${Math.round((45 * count) / all)}%`);
      return cell;
    });
    return [head(is, "row"), ...cells];
  });
  const top = [head("is, taken for", "col"), ...labels.map((label) => head(label, "col"))];
  document.querySelector("#teach-confusion table").replaceChildren(
    ...[top, ...rows].map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells);
      return row;
    }),
  );
}

function group({ label, entries, kept }) {
  const box = document.createElement("li");
  box.dataset.group = label;
  const name = make("button", label, { act: "say", label }, `Teach more of ${label}`);
  const count = make("span", entries.length === 1 ? "1 picture" : `${entries.length} pictures`);
  const move = make("button", "Move here", { act: "move", label }, `Move the chosen pictures to ${label}`);
  const remove = make("button", "Forget", { act: "remove_label", label }, `Forget ${label}`);
  const pictures = document.createElement("div");
  pictures.append(...kept.map((entry) => picture(entry, label)));
  box.append(name, count, move, remove, pictures);
  return box;
}

function picture(entry, label) {
  const button = make("button", "", { entry }, `A picture of ${label}`);
  button.draggable = true;
  button.setAttribute("aria-pressed", "false");
  const query = new URLSearchParams({ camera: page.camera, entry });
  button.style.backgroundImage = `url("/api/lesson.jpg?${query}")`;
  return button;
}

function make(kind, text, data = {}, name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  Object.assign(made.dataset, data);
  if (name) made.setAttribute("aria-label", name);
  return made;
}
