// The switch, the thresholds and the region of the camera that is shown.
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
  $("enabled").onclick = () => {
    const on = $("enabled").getAttribute("aria-checked") !== "true";
    $("enabled").setAttribute("aria-checked", String(on));
    send("enabled", on, []);
  };
  for (const key of ["enter", "exit"]) {
    const field = $(key);
    field.oninput = () => {
      touched.add(field);
      $(`${key}-value`).textContent = Number(field.value).toFixed(2);
    };
    field.onchange = () => send(key, Number(field.value), [field]);
  }
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

export function showControls({ state, camera }) {
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
  $("enabled").setAttribute("aria-checked", String(controls.enabled));
  for (const key of ["enter", "exit"]) {
    if (touched.has($(key))) continue;
    $(key).value = controls[key];
    $(`${key}-value`).textContent = controls[key].toFixed(2);
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
