// A report of a failure, written as far as a page can: to the repository's authors, or to this service's operators.

const LOG_LINES = 25;
// Encoded: GitHub takes some 8 kB, and mail programs about 2 (Windows hands over no more).
const LONGEST = 7000;
const LONGEST_MAIL = 2000;
const LONGEST_PLACE = 500;

// Whose failures are for the repository's authors to mend.
const THEIRS = ["fault", "repository", "held"];
const NOBODYS = ["cancelled", "abandoned", "not_found"];

/** The address of a form with the report in it; "" where nobody has said where reports go. */
export function reportLink(kind, { title, message, log, logUrl, member, launch }, config) {
  const form = THEIRS.includes(kind) ? config.issuesUrl : NOBODYS.includes(kind) ? "" : config.reportUrl;
  if (!form) return "";
  const facts = [member && `Member: ${member}`, launch && `Launch: ${launch}`, logUrl && `Log: ${logUrl}`, `Time: ${new Date().toISOString()}`];
  const place = window.location.href.slice(0, LONGEST_PLACE);
  const lines = log.trim() ? log.trim().split("\n").slice(-LOG_LINES) : [];
  let said = message.trim();
  for (;;) {
    const body = [place, said, facts.filter(Boolean).join("\n"), fenced(lines)].filter(Boolean).join("\n\n");
    const link = filled(form, title, body, config.recent.label);
    if (link.length <= (link.startsWith("mailto:") ? LONGEST_MAIL : LONGEST)) return link;
    // The last lines of a log tell most, and of a line its end, and of a message its beginning.
    if (lines.length > 1) lines.shift();
    else if (lines[0]?.length > 100) lines[0] = `…${lines[0].slice(Math.ceil(lines[0].length / 2))}`;
    else if (said.length > 100) said = `${said.slice(0, said.length / 2)}…`;
    else if (lines.length) lines.shift();
    else return link;
  }
}

/** Lines as they are, whatever backticks are in them (CommonMark 0.31, "4.5 Fenced code blocks"). */
function fenced(lines) {
  if (!lines.length) return "";
  const text = lines.join("\n");
  const longest = Math.max(2, ...Array.from(text.matchAll(/`+/g), ([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text}\n${fence}`;
}

function filled(form, title, body, label) {
  const url = new URL(form, window.location.href);
  if (url.protocol === "mailto:") {
    // Where "+" is no space (RFC 6068, section 5).
    const query = String(new URLSearchParams({ subject: title, body })).replaceAll("+", "%20");
    url.search = [url.search.slice(1), query].filter(Boolean).join("&");
  } else {
    url.searchParams.set("title", `${title}: ${label}`);
    url.searchParams.set("body", body);
  }
  return url.href;
}
