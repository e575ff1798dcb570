// A report of a failure, written as far as a page can: to the repository's authors, or to this service's operators.

const LOG_LINES = 25;
const MAX_LENGTH = 6000;

/** The address of a form with the report in it; "" where nobody has said where reports go. */
export function reportLink(kind, { title, message, log, member, launch }, config) {
  const theirs = ["fault", "repository"].includes(kind);
  const form = theirs ? config.issuesUrl : ["cancelled", "abandoned", "not_found"].includes(kind) ? "" : config.reportUrl;
  if (!form) return "";
  const tail = log.trim().split("\n").slice(-LOG_LINES).join("\n");
  const facts = [member && `Member: ${member}`, launch && `Launch: ${launch}`, `Time: ${new Date().toISOString()}`];
  const body = [window.location.href, message.trim(), facts.filter(Boolean).join("\n"), `\`\`\`\n${tail}\n\`\`\``].join("\n\n");
  const url = new URL(form, window.location.href);
  if (url.protocol === "mailto:") url.search = `subject=${encodeURIComponent(title)}&body=${encodeURIComponent(body.slice(0, 1500))}`;
  else {
    url.searchParams.set("title", `${title}: ${config.recent.label}`);
    url.searchParams.set("body", body.slice(0, MAX_LENGTH));
  }
  return url.href;
}
