// What a failed launch means and what to do next, by its kind. Pure: from the final event and the log to texts.

import { _, said } from "./texts.js";

/** The kind of a failure, its title (in English) and the advice; `site` is the page's configuration. */
export function explainFailure(event, fault, site) {
  const kind = kindOf(event, fault);
  return { kind, ...KINDS[kind](event, fault, site) };
}

function kindOf(event, fault) {
  if (["cancelled", "abandoned", "held", "not_found", "full"].includes(event.reason)) return event.reason;
  if (event.failure === "refused") return event.status_code === 403 ? "forbidden" : event.status_code === 429 ? "limited" : "full";
  if (event.failure === "member" || event.failure === "gateway") return "ours";
  return fault ? "fault" : "repository";
}

const KINDS = {
  cancelled: () => ({ title: said("Cancelled"), advice: [] }),
  abandoned: () => ({ title: said("The launch was given up"), advice: [_("Try again, and keep this page open until the session is there.")] }),
  held: (_event, fault) => ({
    title: said("The last build of this commit failed"),
    advice: [
      ...(fault ? [fault.advice] : []),
      _("If the repository has changed, launch its new commit."),
      _("If what failed lay outside of the repository, build it again now."),
    ],
  }),
  not_found: (_event, _fault, site) => ({
    title: said("The repository was not found"),
    advice: [
      _("Check the spelling of the owner, the name and the branch."),
      _("A private repository cannot be launched: everyone who has the link could read it. Make it public, or use a copy that is."),
      ...(site.repoUrl ? [{ text: _("Look at the repository yourself"), href: site.repoUrl }] : []),
    ],
  }),
  fault: (_event, fault) => ({
    title: said("The environment could not be built"),
    advice: [
      fault.advice,
      _("Mend it in the repository, then try again: the new commit is built afresh."),
    ],
  }),
  repository: () => ({
    title: said("The launch failed"),
    advice: [
      _("The log below says what happened; its last lines tell most."),
      _("The link or the repository needs a change; trying again will not help by itself."),
    ],
  }),
  full: (_event, _fault, site) => ({
    title: said("There is no room just now"),
    advice: [
      _("Nothing is wrong with the repository. Room comes back as others end their sessions."),
      ...others(site),
    ],
  }),
  // Where the service says when, that is said.
  limited: (event) => ({ title: said("Too many launches from here"), advice: Number.isFinite(event.retry_after_s) ? [] : [_("Wait a while, then try again.")] }),
  forbidden: (_event, _fault, site) => ({
    title: said("This is not launched here"),
    advice: [
      _("The operators of this service have ruled it out. If you think that this is a mistake, tell them."),
      ...others(site),
    ],
  }),
  ours: () => ({
    title: said("The launch failed"),
    advice: [_("This is not your fault, and not the repository's. Trying again often helps.")],
  }),
};

function others(site) {
  return (site.elsewhere ?? []).map(({ text, href }) => ({ text: _("Try at %(name)s", { name: text }), href }));
}

// Characters of a log, and of each of its lines, in which a fault is looked for.
const LONGEST_TEXT = 200_000;
const LONGEST_LINE = 1000;

// What tools say of the line that they stumbled over. Each rule gives the file if it is known, and the line as quoted.
const RULES = [
  // What a script runs may say the same as the tools below.
  [/postBuild(?:`)? failed/, () => line("postBuild", "", "", _("The script postBuild ended with an error; the log shows what it printed."))],
  // pip, of a file it reads itself: "Could not find … requirement x==9 (from versions: …)"; "(from -r f.txt (line 3))".
  [/No matching distribution found for ([^\n(]+?)(?: \(from -r (\S+) \(line (\d+)\)\))?\s*$/m, (m) => line(m[2] ?? "requirements.txt", m[3], m[1], absent())],
  [/Invalid requirement: '([^'\n]+)'[^\n]*\(from line (\d+) of ([^\n)]+)\)/, (m) => line(m[3], m[2], m[1], _("This line is no requirement that pip can read."))],
  [/Invalid requirement: ["']?([^"'\n:]+)/, (m) => line("requirements.txt", "", m[1], _("This line is no requirement that pip can read."))],
  // uv. A requirement holds commas, and one may follow it: "and you require x>=1,<2, we can conclude …".
  [
    /Because ([\w.\-[\]]+) was not found in the package registry(?:\s+and\s+you\s+require\s+(\S+?),?(?=\s|$))?/,
    (m) => line("requirements.txt", "", m[2] ?? m[1], absent()),
  ],
  [/there (?:is|are) no versions? of (\S+?),?(?=\s|$)/, absentIn("requirements.txt")],
  [/Because only [^\n]{1,200}? (?:is|are) available\s+and you require (\S+?),?(?=\s|$)/, absentIn("requirements.txt")],
  [/Because only the following versions of [^\n]{1,200}? are available:[^]{1,1000}?\sand you require (\S+?),?(?=\s|$)/, absentIn("requirements.txt")],
  [/Couldn't parse requirement in `([^`\n]+)` at position \d+\s*\n?[^\n]*\n\s*([^\n^]+)/, (m) => line(m[1], "", m[2], _("This line is no requirement that can be read."))],
  // conda and mamba.
  [/nothing provides (?:requested )?([^\n,]+)/, absentIn("environment.yml")],
  [/PackagesNotFoundError:[^\n]*\n\s*-\s+([^\n]+)/, absentIn("environment.yml")],
  [/─ ([^\n]+?) does not exist \(perhaps a typo/, absentIn("environment.yml")],
  // apt, R, Julia.
  [/E: Unable to locate package (\S+)/, absentIn("apt.txt")],
  [/package ‘([^’\n]+)’ is not available/, absentIn("install.R")],
];

function absent() {
  return _("There is no such package, or no such version of it: check the spelling and the version.");
}

function absentIn(file) {
  return (m) => line(file, "", m[1], absent());
}

function line(file, number, text, advice) {
  return { file: file.replace(/^.*\//, ""), number: number ?? "", text: text.trim(), advice };
}

/** The line of the repository's files at which a build has failed, by its log; null where it does not say. */
export function faultIn(log) {
  const text = readable(log);
  for (const [pattern, found] of RULES) {
    const match = text.match(pattern);
    if (match) return inFile(found(match), text);
  }
  return null;
}

// What a repository prints is its own: without endless lines and blank ones, no search takes long.
function readable(log) {
  const lines = log.slice(-LONGEST_TEXT).split("\n").filter((item) => item.trim());
  return lines.map((item) => item.slice(0, LONGEST_LINE).trimEnd()).join("\n");
}

/** A builder may have said which file it was installing. */
function inFile(fault, log) {
  const named = log.match(/^([\w.\-/]+) could not be installed:/m);
  return named && !fault.number ? { ...fault, file: named[1] } : fault;
}
