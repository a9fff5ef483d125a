// Asks the device for something, and tells the user where it refuses.
const note = document.getElementById("note");
let shownUntil = 0;

export async function order(camera, key, value) {
  let problem = "The device does not answer.";
  try {
    const answer = await fetch("/api/command", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Labelcam": "1" },
      body: JSON.stringify({ camera, key, value }),
    });
    problem = answer.ok ? "" : (await answer.json()).error;
  } catch {
    // What the network said of it helps nobody.
  }
  say(problem);
  return !problem;
}

function say(text) {
  note.textContent = text;
  note.hidden = !text;
  if (!text) return;
  shownUntil = Date.now() + 6000;
  setTimeout(() => Date.now() >= shownUntil && (note.hidden = true), 6100);
}
