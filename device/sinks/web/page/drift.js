// Says that a camera's answers are other than usual, with a picture of then and one of now.
import { span } from "./timeline.js";

const $ = (id) => document.getElementById(id);

export function watchDrift(page, order) {
  $("drift-accept").onclick = () => order(page.camera, "accept_drift", null);
}

export function showDrift({ state, camera }) {
  const drift = state.health?.cameras.find((one) => one.name === camera)?.drift;
  $("drift").hidden = !drift?.change;
  if (!drift?.change) return;
  // The device's hours; its clock is believed, or there was no alarm.
  const since = new Date(1000 * drift.since);
  const shown = `Since ${since.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })}`;
  const text = `${shown}, for ${span(Math.max(0, (Date.now() - since) / 1000))}: ${drift.change}.`;
  if ($("drift-text").textContent !== text) $("drift-text").textContent = text;
  $("drift-accept").hidden = !state.commands;
  $("drift-pictures").hidden = !(drift.pictures && state.pictures);
  if ($("drift-pictures").hidden) return;
  for (const which of ["then", "now"]) {
    const address = `/api/drift/${camera.split("/").map(encodeURIComponent).join("/")}/${which}.jpg?${drift.since}`;
    const image = $(`drift-${which}`);
    if (image.getAttribute("src") !== address) image.src = address;
  }
}
