// Follows the device by server-sent events, and shows one camera of it at a time.
import { order } from "./command.js";
import { watchControls, showControls } from "./controls.js";
import { showDrift, watchDrift } from "./drift.js";
import { showHealth, showLink, showLog, showVerdict } from "./show.js";
import { showSnapshots, watchSnapshots } from "./snapshots.js";
import { showTeach, watchTeach } from "./teach.js";
import { showTimeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const KEPT = 200;
const SILENT_MS = 10000;

const page = { state: null, camera: null, live: false, gone: 0 };
let source = null;
let opened = 0;
let heard = 0;

function follow() {
  source = new EventSource("/api/events");
  on("state", (state) => {
    const now = Date.now();
    state.changes.forEach((change) => (change.when = now - 1000 * change.age_s));
    state.log.forEach((line) => (line.when = now - 1000 * line.age_s));
    page.state = state;
    setLive(true);
    const names = state.cameras.map((camera) => camera.name);
    const wanted = decodeURIComponent(location.hash.slice(1));
    page.camera = names.includes(wanted) ? wanted : names[0];
    $("version").textContent = `labelcam ${state.version}`;
    $("logout").hidden = !state.token;
    showCameras(names);
    showVideo();
    showAll();
    dispatchEvent(new Event("camera"));
  });
  on("live", (cameras) => {
    page.state.cameras = cameras;
    showVerdict(page);
  });
  on("health", (part) => {
    Object.assign(page.state, part);
    showAll();
  });
  on("change", (change) => {
    change.when = Date.now() - 1000 * change.age_s;
    page.state.changes = [...page.state.changes, change].slice(-KEPT);
    showTimeline(page);
  });
  on("log", (line) => {
    line.when = Date.now() - 1000 * line.age_s;
    page.state.log = [...page.state.log, line].slice(-KEPT);
    showLog(page);
  });
  source.onerror = () => {
    lose();
    // The browser tries again by itself, unless the device refused.
    if (source.readyState === EventSource.CLOSED) again();
  };
}

function lose() {
  setLive(false);
  showLink(page);
  hideVideo();
  if (page.state) showVerdict(page);
}

// What a device that does not answer said last is no longer so, and it takes no orders.
function setLive(live) {
  page.gone = live ? 0 : page.gone || Date.now();
  page.live = live;
  for (const id of ["controls", "teach"]) $(id).inert = !live;
}

function on(name, handle) {
  source.addEventListener(name, (event) => {
    heard = Date.now();
    handle(JSON.parse(event.data));
  });
}

async function again() {
  const answer = await fetch("/api/state").catch(() => null);
  // A token that is refused is not tried again and again: somebody has to give the right one.
  if (answer?.status === 401 || answer?.status === 429) location.assign("/login");
  else setTimeout(() => document.hidden || restart(), 3000);
}

function stop() {
  source?.close();
  hideVideo();
}

function restart() {
  stop();
  follow();
}

function showAll() {
  showLink(page);
  showVerdict(page);
  showControls(page);
  showTeach();
  showSnapshots();
  showTimeline(page);
  showHealth(page);
  showDrift(page);
  showLog(page);
}

function showCameras(names) {
  const nav = $("cameras");
  nav.hidden = names.length < 2;
  nav.replaceChildren(
    ...names.map((name) => {
      const button = document.createElement("button");
      button.textContent = name;
      button.setAttribute("aria-current", String(name === page.camera));
      button.onclick = () => {
        page.camera = name;
        history.replaceState(null, "", `#${encodeURIComponent(name)}`);
        showCameras(names);
        showVideo();
        showAll();
        dispatchEvent(new Event("camera"));
      };
      return button;
    }),
  );
}

function showVideo() {
  const camera = encodeURIComponent(page.camera);
  $("snapshot").href = `/api/snapshot.jpg?camera=${camera}`;
  $("snapshot").hidden = !page.state.pictures;
  if (!page.state.pictures) return;
  opened += 1;
  $("video").hidden = false;
  $("video").alt = `Live picture of ${page.camera}`;
  $("video").src = `/api/video.mjpg?camera=${camera}&n=${opened}`;
}

function hideVideo() {
  $("video").removeAttribute("src");
  $("video").hidden = true;
}

// The device encodes pictures, and a browser keeps a connection, only for a page that is seen.
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : restart()));
// A device whose plug was pulled ends no connection: it falls silent, which it never does for long.
setInterval(() => {
  if (!page.live || document.hidden || Date.now() - heard < SILENT_MS) return;
  source.close();
  lose();
  again();
}, 2000);
// A page that comes back from the browser's cache has lost its streams.
addEventListener("pageshow", (event) => event.persisted && restart());

watchControls(page, order);
watchTeach(page);
watchDrift(page, order);
watchSnapshots(page);
// Who looks further down than the present gets the past.
new IntersectionObserver(async ([one], observer) => {
  if (!one.isIntersecting) return;
  observer.disconnect();
  (await import("/history.js")).watchHistory(page);
}).observe($("timeline"));
follow();
