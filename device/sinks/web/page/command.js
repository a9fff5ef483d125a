// Asks the device for something, and tells the user where it refuses.
const note = document.getElementById("note");
let shownUntil = 0;

export async function order(camera, key, value) {
  return (await post("/api/command", { camera, key, value })) !== null;
}

// What the device answers, or null where it refuses.
export async function post(path, body, method = "POST") {
  let problem = "The device does not answer.";
  let found = null;
  try {
    const answer = await fetch(path, {
      method,
      headers: { "Content-Type": "application/json", "X-Labelcam": "1" },
      body: JSON.stringify(body),
    });
    const told = await answer.json();
    problem = answer.ok ? "" : told.error;
    found = answer.ok ? told : null;
  } catch {
    // What the network said of it helps nobody.
  }
  say(problem);
  return found;
}

function say(text) {
  note.textContent = text;
  note.hidden = !text;
  if (!text) return;
  shownUntil = Date.now() + 6000;
  setTimeout(() => Date.now() >= shownUntil && (note.hidden = true), 6100);
}
