// What commands change of the camera that is shown: the device lists the switches and numbers.
const $ = (id) => document.getElementById(id);
const WHOLE = [0, 0, 1, 1];
const LEAST = 0.05;
const frame = $("frame");
const edges = [...document.querySelectorAll("#edges input")];
const touched = new Set();

export function watchControls(page, order) {
  const send = async (key, value, fields) => {
    await order(page.camera, key, value);
    fields.forEach((field) => touched.delete(field));
  };
  $("rows").onclick = ({ target }) => {
    if (target.getAttribute("role") !== "switch") return;
    const on = target.getAttribute("aria-checked") !== "true";
    target.setAttribute("aria-checked", String(on));
    send(target.id, on, []);
  };
  $("rows").oninput = ({ target }) => {
    touched.add(target);
    showNumber(target, Number(target.value));
  };
  $("rows").onchange = ({ target }) => send(target.id, Number(target.value), [target]);
  for (const field of edges) {
    field.oninput = () => touched.add(field);
    field.onchange = () => send("region", edges.map((edge) => Number(edge.value) / 100), edges);
  }
  $("whole").onclick = () => send("region", WHOLE, edges);
  $("draw").onclick = () => arm($("draw").getAttribute("aria-pressed") !== "true");
  watchPointer((box) => {
    arm(false);
    send("region", box, edges);
  });
}

function makeRow({ key, words, least, most, step, unit }) {
  const row = document.createElement("div");
  row.className = "row";
  row.innerHTML = step
    ? '<label></label><output></output><input type="range">'
    : '<span></span><button role="switch"></button>';
  const [name, , field = row.lastChild] = row.children;
  name.textContent = words;
  field.id = key;
  if (step) {
    Object.assign(field, { min: least, max: most, step });
    name.htmlFor = row.children[1].htmlFor = key;
    field.dataset.unit = unit;
    field.dataset.digits = step < 0.1 ? 2 : 1;
  } else {
    name.id = `${key}-text`;
    field.setAttribute("aria-labelledby", name.id);
  }
  return row;
}

function showNumber(field, value) {
  const { unit, digits } = field.dataset;
  field.previousElementSibling.textContent = `${value.toFixed(digits)} ${unit}`.trim();
}

export function showControls({ state, camera }) {
  if ($("rows").childElementCount !== state.controls.length) {
    $("rows").replaceChildren(...state.controls.map(makeRow));
  }
  const health = state.health?.cameras.find((one) => one.name === camera);
  const controls = health?.controls;
  const allowed = state.commands && Boolean(controls);
  for (const field of document.querySelectorAll("#controls button, #controls input")) {
    field.disabled = !allowed;
  }
  frame.toggleAttribute("data-can-draw", allowed && state.pictures);
  $("drag-hint").textContent = state.commands
    ? "Drag on the picture to choose what it looks at."
    : "Controls are turned off in the configuration.";
  if (!controls) return;
  for (const { key, step } of state.controls) {
    const field = $(key);
    if (!step) {
      field.setAttribute("aria-checked", String(controls[key]));
    } else if (!touched.has(field)) {
      field.value = controls[key];
      showNumber(field, controls[key]);
    }
  }
  const region = state.cameras.find((one) => one.name === camera).region;
  edges.forEach((field, n) => {
    if (!touched.has(field) && field !== document.activeElement) field.value = Math.round(100 * region[n]);
  });
  place($("region"), region);
  $("region").hidden = region.every((edge, n) => edge === WHOLE[n]);
}

function arm(on) {
  $("draw").setAttribute("aria-pressed", String(on));
  frame.toggleAttribute("data-drawing", on);
}

// A mouse draws at once; a finger only after the button, or nobody could scroll past the picture.
function watchPointer(done) {
  let from = null;
  let box = WHOLE;
  const at = (event) => {
    const { left, top, width, height } = frame.getBoundingClientRect();
    const share = (value) => Math.min(1, Math.max(0, Math.round(1000 * value) / 1000));
    return [share((event.clientX - left) / width), share((event.clientY - top) / height)];
  };
  const end = () => {
    from = null;
    $("drawn").hidden = true;
  };
  frame.onpointerdown = (event) => {
    const may = event.pointerType !== "touch" || frame.hasAttribute("data-drawing");
    if (!frame.hasAttribute("data-can-draw") || !may || event.button) return;
    event.preventDefault();
    frame.setPointerCapture(event.pointerId);
    from = at(event);
    box = [...from, ...from];
  };
  frame.onpointermove = (event) => {
    if (!from) return;
    const to = at(event);
    box = [...from.map((edge, n) => Math.min(edge, to[n])), ...from.map((edge, n) => Math.max(edge, to[n]))];
    place($("drawn"), box);
    $("drawn").hidden = false;
  };
  frame.onpointerup = () => {
    const large = box[2] - box[0] >= LEAST && box[3] - box[1] >= LEAST;
    if (from && large) done(box);
    end();
  };
  frame.onpointercancel = end;
  addEventListener("keydown", (event) => event.key === "Escape" && end());
}

function place(element, [left, top, right, bottom]) {
  const percent = (share) => `${100 * share}%`;
  Object.assign(element.style, {
    left: percent(left),
    top: percent(top),
    width: percent(right - left),
    height: percent(bottom - top),
  });
}
