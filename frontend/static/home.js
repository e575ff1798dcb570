// The home page. The form works without this, too; it keeps empty fields out of the address, tells what a link means
// while it is typed, and gives what one needs to share it.

import { copyText } from "./copy.js";
import { showMembers } from "./members-strip.js";
import { forget } from "./recent.js";
import { _ } from "./texts.js";

// After the last key, before the service is asked.
const QUIET_MS = 250;
// Before half an address is called wrong.
const PATIENCE_MS = 1200;

const config = window.pageConfig;
const element = (id) => document.getElementById(id);
const form = element("launch-form");
const repo = element("repo");
const fields = Array.from(form.querySelectorAll("input, select"));
let asking = null;
let timer = 0;
let patience = 0;

form.addEventListener("submit", () => {
  for (const field of fields) {
    field.value = field.value.trim();
    field.disabled = field !== repo && field.value === "";
  }
});

// Coming back by the browser's "back", the page may be as it was left.
window.addEventListener("pageshow", () => {
  for (const field of fields) field.disabled = false;
  // The page's own, see its template; an operator's may have none.
  window.showRecent?.();
  ask();
});

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(ask, QUIET_MS);
});

/** What the form means is for the service to say: it knows all kinds of links, and which are allowed. */
async function ask() {
  asking?.abort();
  clearTimeout(patience);
  if (!repo.value.trim()) {
    show(null, "");
    return;
  }
  asking = new AbortController();
  const filled = fields.filter((field) => field.value.trim() && field.name);
  const query = new URLSearchParams(filled.map((field) => [field.name, field.value.trim()]));
  try {
    const answer = await fetch(`${config.baseUrl}api/v1/link?${query}`, { signal: asking.signal });
    const told = await answer.json();
    if (answer.ok) show(told, "");
    else complain(told.detail ?? "", told.lang);
  } catch (error) {
    // Without an answer the form says when it is sent what is wrong.
    if (error.name !== "AbortError") show(null, "");
  }
}

/** Say what is wrong, but leave who still writes the time to. */
function complain(problem, lang) {
  // What the service has said of the form that was sent stands until it is changed.
  if (element("error") && repo.value === repo.defaultValue) return;
  const writing = document.activeElement === repo && !element("understood").classList.contains("wrong");
  if (!writing) {
    show(null, problem, lang);
    return;
  }
  show(null, "");
  patience = setTimeout(() => show(null, problem, lang), PATIENCE_MS);
}

/** `lang` is the problem's language where that is not the page's. */
function show(link, problem, lang = "") {
  element("error")?.remove();
  if (problem) repo.setAttribute("aria-invalid", "true");
  else repo.removeAttribute("aria-invalid");
  element("understood").classList.toggle("wrong", Boolean(problem));
  if (lang) element("understood").lang = lang;
  else element("understood").removeAttribute("lang");
  element("understood").textContent = problem || (link ? described(link) : "");
  // An empty field tells what the link means by itself.
  element("ref").placeholder = link?.ref ?? "HEAD";
  element("path").placeholder = link?.opens ?? "";
  element("share-empty").hidden = Boolean(link);
  element("share-full").hidden = !link;
  if (link) share(link.launch_url);
}

/** What is understood, in one line; a record of an archive has no ref. */
function described(link) {
  const words = { provider: link.provider_name, repo: link.label, ref: link.ref, path: link.opens };
  if (!link.ref) {
    return link.opens ? _("%(provider)s: %(repo)s, opens %(path)s", words) : _("%(provider)s: %(repo)s", words);
  }
  return link.opens
    ? _("%(provider)s: %(repo)s at %(ref)s, opens %(path)s", words)
    : _("%(provider)s: %(repo)s at %(ref)s", words);
}

function share(url) {
  const badge = `${config.badgeBaseUrl}badge_logo.svg`;
  const html = url.replaceAll("&", "&amp;").replaceAll('"', "&quot;");
  const texts = {
    link: url,
    markdown: `[![Binder](${badge})](${url})`,
    rst: `.. image:: ${badge}\n   :target: ${url}`,
    html: `<a href="${html}"><img src="${badge}" alt="Launch Binder"></a>`,
  };
  element("badge-link").href = url;
  for (const [name, text] of Object.entries(texts)) {
    // A line of a form shows no line's end; what is copied has it.
    element(`share-${name}`).value = text;
    element(`share-${name}`).dataset.text = text;
  }
}

for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", () => copyText(element(button.dataset.copies).dataset.text, button));
}
for (const field of document.querySelectorAll(".copying input")) {
  field.addEventListener("focus", () => field.select());
}

element("recent-forget").addEventListener("click", () => {
  forget();
  window.showRecent?.();
  repo.focus();
});

if (element("members")) showMembers(element("members-list"), element("members-count"), `${config.baseUrl}api/v1/federation`);
