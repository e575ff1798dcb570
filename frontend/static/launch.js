// The launch page: follows the build, and goes to the session once it is ready.

import { explainFailure, faultIn } from "./launch-failure.js";
import { LaunchLog } from "./launch-log.js";
import { Steps } from "./launch-steps.js";
import { LaunchStream } from "./launch-stream.js";
import { notebookUrl } from "./notebook-url.js";
import { remember } from "./recent.js";
import { reportLink } from "./report-link.js";
import { showInTab } from "./tab-state.js";
import { _, about, span } from "./texts.js";

const config = window.pageConfig;
const element = (id) => document.getElementById(id);

const WORDS = {
  waiting: _("Waiting for the build to start"),
  fetching: _("Fetching the repository"),
  building: _("Building the environment"),
  pushing: _("Storing the environment"),
  built: _("The environment is built"),
  launching: _("Starting your session"),
  ready: _("Your session is ready; taking you there"),
};
// Why the gateway has chosen a member, by the word that its decision gives.
const WHY = {
  warm: _("it has this environment already, or is building it"),
  warm_busy: _("it has this environment already"),
  pull: _("it can fetch this environment from a neighbour"),
  cold: _("it has room to build the environment"),
  sticky: _("you were there last time"),
  trial: _("it is just back, and this launch tries it"),
  returning: _("it has just come back"),
  full: _("all are full, and it is the first to have room again"),
  again: _("the others have failed too, and it may succeed this time"),
};

// For these there is nothing to build.
const BUILT_BEFORE = ["warm", "warm_busy", "pull"];

// Failures of which the log says no more than the message.
const TOLD_IN_FULL = ["cancelled", "abandoned", "forbidden", "limited", "full", "not_found"];

// The language that the page itself speaks.
const HERE = document.documentElement.lang;

// For the service to take note that a launch is cancelled.
const CANCEL_TIMEOUT_MS = 5000;

// A page that is loaded again, or come back to, goes on with its launch instead of beginning another one.
const kept = window.history.state?.launch;
const log = new LaunchLog(element("log-box"));
const steps = new Steps(element("steps"), kept?.steps);
let stream = null;
let over = false;
let heard = false;
let member = "";
let reason = "";
let launchName = "";
let seen = kept?.seen ?? -1;
let keptId = "";
// Of who waits in a queue: how long until it is their turn.
let turn = "";
// What was last said of the launch; and whether it is hidden by the loss of the connection.
let lastWords = _("Asking for a session");
let lost = false;

function showStatus(text) {
  // A live region speaks whenever it is written to, even with the same words.
  if (element("status").textContent !== text) element("status").textContent = text;
}

function showTime() {
  element("elapsed").textContent = span(steps.elapsed);
  steps.tick();
  const estimate = steps.estimate();
  element("bar").style.setProperty("--share", estimate ? estimate.share : 0);
  element("launch").classList.toggle("measured", estimate !== null);
  element("estimate").textContent = (lost && heard ? _("The launch goes on meanwhile.") : turn) || (!estimate ? whatToExpect() : estimate.late
    ? _("This takes longer than usual for this repository.")
    : _("About %(time)s left, going by earlier launches of this repository.", { time: about(estimate.left) }));
}

function whatToExpect() {
  return steps.isFirstBuild && !BUILT_BEFORE.includes(reason) ? _("The first build of a repository can take several minutes; later launches are faster.") : "";
}

function inWords(event) {
  if (["waiting", "launching"].includes(event.phase) && Number.isInteger(event.position)) {
    turn = Number.isFinite(event.eta_s)
      ? _("About %(time)s until it is your turn. Keep this page open.", { time: about(event.eta_s) })
      : _("Keep this page open, and your place is kept.");
    return _("Waiting in the queue: place %(place)s", { place: event.position });
  }
  if (WORDS[event.phase]) turn = "";
  return WORDS[event.phase];
}

function showMember(event) {
  if (typeof event.member === "string") member = event.member;
  if (!member) return;
  reason = event.why ?? reason;
  const why = WHY[event.why];
  if (why) element("member").textContent = _("on %(member)s: %(why)s.", { member, why });
  else if (element("member").dataset.member !== member) element("member").textContent = _("on %(member)s", { member });
  element("member").dataset.member = member;
}

// A launch that moves on is nothing to worry about, and nothing to hide.
function showMove(event) {
  const item = document.createElement("li");
  item.textContent = event.message.trim();
  item.lang = "en";
  element("moves").append(item);
  element("moves").hidden = false;
}

function end(state) {
  over = true;
  clearInterval(ticking);
  stream?.close();
  steps.end(state);
  window.history.replaceState(null, "");
  element("launch").dataset.state = state;
  element("cancel").hidden = true;
  element("estimate").textContent = "";
}

/** Ends the page's launch; `said` is the language of the message, English where it comes from a member. */
function fail(event, said = "en") {
  if (over) return;
  const fault = event.failure === "user" ? faultIn(`${log.tail}\n${event.message}`) : null;
  const { kind, title, advice } = explainFailure(event, fault, config);
  end("failed");
  showStatus("");
  // Why it was chosen is no longer of interest.
  if (member) element("member").textContent = _("on %(member)s", { member });
  element("launch").dataset.kind = kind;
  element("failure-title").textContent = _(title);
  element("failure-message").textContent = event.message.trim();
  element("failure-message").lang = said;
  // What is held back has failed for the same reason as before.
  if (fault && ["fault", "held"].includes(kind)) showFault(fault);
  if (Number.isFinite(event.retry_after_s)) {
    advice.push(_("Try again in %(time)s.", { time: about(event.retry_after_s) }));
  }
  element("failure-hint").replaceChildren(...advice.map(asItem));
  element("advice").hidden = !advice.length;
  element("failure").hidden = false;
  element("retry").hidden = kind === "forbidden";
  // Without the fragment: a link to where the page is already would lead nowhere.
  element("retry").href = window.location.pathname + window.location.search;
  element("change").hidden = !["not_found", "fault", "repository", "held"].includes(kind);
  // What helps stands out: the same again does not where the link or the repository needs a change.
  element("retry").classList.toggle("primary", !["not_found", "repository", "held"].includes(kind));
  if (kind === "not_found") {
    element("change").classList.add("primary");
    element("retry").before(element("change"));
  }
  if (kind === "held") offerForce();
  // A report is English throughout, for whoever reads it.
  const told = { title, message: event.message, log: log.tail, logUrl: element("build-log").href, member, launch: launchName };
  const report = reportLink(kind, told, config);
  if (report) {
    element("report").href = report;
    element("report").hidden = false;
  }
  showInTab("failed", _(title));
  if (!TOLD_IN_FULL.includes(kind)) log.open();
}

function asItem(advice) {
  const item = document.createElement("li");
  if (typeof advice === "string") {
    item.textContent = advice;
    return item;
  }
  const link = document.createElement("a");
  link.href = advice.href;
  link.rel = "noreferrer";
  link.textContent = advice.text;
  item.append(link);
  return item;
}

function showFault({ file, number, text }) {
  element("fault").hidden = false;
  element("fault-where").textContent = number
    ? _("The line at fault: line %(number)s of %(file)s", { number, file })
    : _("What is at fault, most likely in %(file)s", { file });
  element("fault-line").textContent = text;
  element("fault-line").hidden = !text;
}

function showBuildLog(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    return;
  }
  if (url.protocol !== "http:" && url.protocol !== "https:") return;
  element("log-box").hidden = false;
  element("build-log").hidden = false;
  element("build-log").href = url.href;
}

// A build that has failed lately is not repeated by itself; who has mended what it needs may ask for it.
function offerForce() {
  const query = new URLSearchParams(window.location.search);
  query.set("force", "true");
  element("force").href = `${window.location.pathname}?${query}`;
  element("force").hidden = false;
}

function ready(event) {
  let target;
  try {
    target = notebookUrl(event.url, event.token, new URLSearchParams(window.location.search));
  } catch {
    fail({ failure: "gateway", message: _("The service named no session that could be opened.") }, HERE);
    return;
  }
  end("ready");
  noteReady();
  remember(config.recent);
  // Stays where the browser does not go there by itself.
  element("open").href = target;
  element("open").hidden = false;
  showInTab("ready", _("Ready"));
  window.location.replace(target);
}

// Sent to a member, the visitor is the only one who sees how it went (see sticky.py).
function noteReady() {
  const name = config.memberCookie;
  if (!name) return;
  const found = document.cookie.split("; ").find((item) => item.startsWith(`${name}=`));
  const [lastMember, , repo] = found?.slice(name.length + 1).split("~") ?? [];
  if (!repo) return;
  const secure = name.startsWith("__Host-") ? "; Secure" : "";
  document.cookie = `${name}=${lastMember}~ready~${repo}; Path=/; Max-Age=14400; SameSite=Lax${secure}`;
}

function take(event, number) {
  if (over) return;
  event.phase = String(event.phase ?? "").toLowerCase();
  event.message = typeof event.message === "string" ? event.message : "";
  if (event.message) log.add(event.message);
  if (typeof event.launch_id === "string") launchName = event.launch_id;
  if (typeof event.log_url === "string") showBuildLog(event.log_url);
  showMember(event);
  if (event.phase === "failed") {
    // What the page has kept may be of a launch that is long forgotten: then a new one begins.
    if (kept && !heard) startAgain();
    else if (event.message) fail(event);
    else fail({ ...event, message: _("No reason was given.") }, HERE);
    return;
  }
  heard = true;
  if (event.attempt && event.phase === "waiting" && typeof event.reason === "string" && event.reason !== "waiting") showMove(event);
  // What was seen before the page was left is told again for the log; its times are kept.
  if (number > seen) {
    const before = steps.now;
    // Chosen anew, a member goes by a history of its own, or by none.
    steps.enter(event.phase, { usual: event.usual_s ?? (event.why ? {} : null), queued: Number.isInteger(event.position) });
    seen = number;
    if (!keptId || steps.now !== before) keep();
  }
  const words = inWords(event);
  if (words) {
    [lost, lastWords] = [false, words];
    showStatus(words);
    showInTab("working", words);
  }
  if (event.phase === "ready") ready(event);
  else showTime();
}

function startAgain() {
  over = true;
  stream.close();
  window.history.replaceState(null, "");
  window.location.reload();
}

async function cancel() {
  element("cancel").disabled = true;
  const id = stream.id;
  if (id) {
    try {
      await fetch(config.launchesPath + id, { method: "DELETE", signal: AbortSignal.timeout(CANCEL_TIMEOUT_MS) });
    } catch {
      // The launch ends by itself once nobody follows it.
    }
  }
  // The stream tells of its end too, if it is faster.
  fail({ failure: "user", reason: "cancelled", message: _("You cancelled this launch.") }, HERE);
}

const handlers = {
  take,
  lost: () => {
    lost = true;
    showStatus(_("The connection was lost; trying again"));
    showTime();
  },
  // Perhaps long before there is news.
  back: () => {
    if (!lost) return;
    lost = false;
    showStatus(lastWords);
    showTime();
  },
  gone: () => fail({ failure: "gateway", message: _("The service stopped answering.") }, HERE),
};

function follow(lastId) {
  const query = new URLSearchParams({ build_token: config.buildToken });
  const asked = new URLSearchParams(window.location.search);
  for (const name of ["member", "force"]) {
    if (asked.has(name)) query.set(name, asked.get(name));
  }
  stream?.close();
  stream = new LaunchStream(config.buildPath, query, handlers, lastId);
}

// Kept all the while: in its last moment a page that is loaded again may write no more.
function keep() {
  if (over || !stream.id || keptId === stream.lastId) return;
  keptId = stream.lastId;
  window.history.replaceState({ launch: { id: keptId, seen, steps: steps.keep() } }, "");
}

// Left for another page, and come back to by the browser's own memory of this one.
window.addEventListener("pagehide", () => {
  if (!over) stream.close();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted && !over) follow(stream.lastId);
});

const ticking = setInterval(() => {
  showTime();
  keep();
}, 1000);
element("cancel").addEventListener("click", cancel);
showStatus(lastWords);
showInTab("working", _("Launching"));
showTime();
// By its launch's id alone a page that is loaded again gets all events, for the log.
follow(kept ? kept.id.split(".")[0] : "");
