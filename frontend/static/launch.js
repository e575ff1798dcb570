// The launch page: follows the build, and goes to the session once it is ready.

import { LaunchLog } from "./launch-log.js";
import { notebookUrl } from "./notebook-url.js";

const config = window.pageConfig;
const element = (id) => document.getElementById(id);

const WORDS = {
  waiting: "Waiting for the build to start",
  fetching: "Fetching the repository",
  building: "Building the environment",
  pushing: "Storing the environment",
  built: "The environment is built",
  launching: "Starting your session",
  ready: "Your session is ready; taking you there",
};
const STEP_OF = {
  waiting: "waiting",
  fetching: "building",
  building: "building",
  pushing: "building",
  built: "launching",
  launching: "launching",
  ready: "ready",
};
const HINTS = {
  user: "The link or the repository needs a change; trying again will not help by itself.",
  member: "This is not your fault. Trying again often helps.",
  gateway: "This is not your fault. Trying again often helps.",
  refused: "",
};

// For the service to take note that a launch is cancelled.
const CANCEL_TIMEOUT_MS = 5000;

const log = new LaunchLog(element("log-box"), element("log"));
const begun = performance.now();
let source = null;
let launchId = "";
let over = false;

function showStatus(text) {
  // A live region speaks whenever it is written to, even with the same words.
  if (element("status").textContent !== text) element("status").textContent = text;
}

function showSteps(phase) {
  const now = STEP_OF[phase];
  if (!now) return;
  let state = "done";
  for (const step of element("steps").children) {
    const isNow = step.dataset.step === now;
    step.className = isNow ? (phase === "ready" ? "done" : "now") : state;
    if (isNow) state = "";
  }
}

function showElapsed() {
  const seconds = Math.floor((performance.now() - begun) / 1000);
  const minutes = Math.floor(seconds / 60);
  element("elapsed").textContent = minutes ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

function inWords(event) {
  if (["waiting", "launching"].includes(event.phase) && Number.isInteger(event.position)) {
    const wait = Number.isFinite(event.eta_s) ? `, about ${Math.ceil(event.eta_s)} s` : "";
    return `Waiting in the queue: place ${event.position}${wait}`;
  }
  return WORDS[event.phase];
}

function end() {
  over = true;
  clearInterval(ticking);
  source?.close();
  element("cancel").hidden = true;
}

function fail(title, message, hint = "", retryAfter = undefined) {
  end();
  showStatus("");
  element("failure-title").textContent = title;
  element("failure-message").textContent = message.trim();
  const wait = Number.isFinite(retryAfter) ? ` Try again in ${Math.ceil(retryAfter)} s.` : "";
  element("failure-hint").textContent = hint + wait;
  element("failure").hidden = false;
  element("retry").hidden = false;
  // Without the fragment: a link to where the page is already would lead nowhere.
  element("retry").href = window.location.pathname + window.location.search;
  for (const step of element("steps").children) step.classList.remove("now");
  document.title = `${title} · ${document.title}`;
  log.open();
}

function showBuildLog(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return;
  element("build-log").hidden = false;
  element("build-log").firstElementChild.href = url.href;
}

// A build that has failed lately is not repeated by itself; who has mended what it needs may ask for it.
function offerForce() {
  const query = new URLSearchParams(window.location.search);
  query.set("force", "true");
  element("force").href = `${window.location.pathname}?${query}`;
  element("force").hidden = false;
}

function ready(event) {
  end();
  let target;
  try {
    target = notebookUrl(event.url, event.token, new URLSearchParams(window.location.search));
  } catch {
    fail("The launch went wrong", "The service named no session that could be opened.", HINTS.gateway);
    return;
  }
  noteReady();
  // Stays where the browser does not go there by itself.
  element("open").href = target;
  element("open").hidden = false;
  document.title = `Ready · ${document.title}`;
  window.location.replace(target);
}

// Sent to a member, the visitor is the only one who sees how it went (see sticky.py).
function noteReady() {
  const name = config.memberCookie;
  if (!name) return;
  const found = document.cookie.split("; ").find((item) => item.startsWith(`${name}=`));
  const [member, , repo] = found?.slice(name.length + 1).split("~") ?? [];
  if (!repo) return;
  const secure = name.startsWith("__Host-") ? "; Secure" : "";
  document.cookie = `${name}=${member}~ready~${repo}; Path=/; Max-Age=14400; SameSite=Lax${secure}`;
}

function take(message) {
  if (over) return;
  launchId = message.lastEventId.split(".")[0] || launchId;
  let event;
  try {
    event = JSON.parse(message.data);
  } catch {
    return;
  }
  event.phase = String(event.phase ?? "").toLowerCase();
  const text = typeof event.message === "string" ? event.message : "";
  if (text) log.add(text);
  if (typeof event.member === "string") element("member").textContent = `on ${event.member}`;
  showSteps(event.phase);
  if (event.phase === "failed") {
    const title = event.failure === "refused" ? "Not now" : "The launch failed";
    fail(title, text || "No reason was given.", HINTS[event.failure] ?? "", event.retry_after_s);
    if (typeof event.log_url === "string") showBuildLog(event.log_url);
    if (event.reason === "held") offerForce();
    return;
  }
  const words = inWords(event);
  if (words) showStatus(words);
  if (event.phase === "ready") ready(event);
}

function lost() {
  if (over) return;
  if (source.readyState === EventSource.CLOSED) {
    fail("The connection was lost", "The service stopped answering.", HINTS.gateway);
  } else {
    showStatus("The connection was lost; trying to reach the service again");
  }
}

async function cancel() {
  element("cancel").disabled = true;
  const id = launchId;
  if (id) {
    try {
      await fetch(config.launchesPath + id, { method: "DELETE", signal: AbortSignal.timeout(CANCEL_TIMEOUT_MS) });
    } catch {
      // The launch ends by itself once nobody follows it.
    }
  }
  // The stream tells of its end too, if it is faster.
  if (!over) fail("Cancelled", "You cancelled this launch.");
}

const ticking = setInterval(showElapsed, 1000);
element("launch").hidden = false;
element("cancel").addEventListener("click", cancel);
showStatus("Asking for a session");
showElapsed();
const query = new URLSearchParams({ build_token: config.buildToken });
const asked = new URLSearchParams(window.location.search);
for (const name of ["member", "force"]) {
  if (asked.has(name)) query.set(name, asked.get(name));
}
source = new EventSource(`${config.buildPath}?${query}`);
source.addEventListener("message", take);
source.addEventListener("error", lost);
