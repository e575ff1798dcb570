// Where a visitor is sent once a session is ready: always a place below the session's URL.
// The same rules as in notebook_url.py, tested by the same table of cases; see there for the reasons.

const CONTROL = /[\x00-\x1f\x7f]/g;
// Everything that is not listed is percent-encoded; keep in step with notebook_url.py.
const PATH_UNSAFE = /[^A-Za-z0-9!$%&'()*+,\-./:;=@_~]/gu;
const QUERY_UNSAFE = /[^A-Za-z0-9!$%&'()*+,\-./:;=@_~?[\]{}|^`]/gu;
const FRAGMENT_UNSAFE = /[^A-Za-z0-9!$%&'()*+,\-./:;=@_~?[\]{}|^`#]/gu;
const ENCODE_URI_UNSAFE = /[^A-Za-z0-9!#$&'()*+,\-./:;=?@_~]/gu;

/** The URL to open of a session, with its token; throws for a session URL that is no plain http(s) URL. */
export function notebookUrl(sessionUrl, token, query) {
  const base = baseOf(sessionUrl);
  const [path, search, fragment] = split(wellFormed(urlpathOf(query)).replace(CONTROL, ""));
  const parameters = [];
  if (search) parameters.push(search);
  if (token) parameters.push(`token=${encodeStrictly(token)}`);
  let url = base + below(path);
  if (parameters.length) url += `?${parameters.join("&")}`;
  return fragment ? `${url}#${fragment}` : url;
}

function urlpathOf(query) {
  for (const [name, prefix] of [["labpath", "doc/tree/"], ["filepath", "tree/"]]) {
    if (query.has(name)) {
      return prefix + escape(wellFormed(query.get(name)).replace(/\/$/, ""), ENCODE_URI_UNSAFE);
    }
  }
  return query.get("urlpath") ?? "";
}

function baseOf(sessionUrl) {
  const url = new URL(sessionUrl);
  if (!["http:", "https:"].includes(url.protocol) || url.username || url.password) {
    throw new TypeError("not the URL of a session");
  }
  return `${url.origin}${url.pathname.replace(/\/+$/, "")}/`;
}

/** Path as it came; query and fragment encoded. */
function split(text) {
  const [, rest, fragment] = text.match(/^([^#]*)#?([^]*)$/);
  const [, path, search] = rest.match(/^([^?]*)\??([^]*)$/);
  return [path, encode(search, QUERY_UNSAFE), encode(fragment, FRAGMENT_UNSAFE)];
}

/** A path without anything that leads upwards, to be put behind a slash. */
function below(path) {
  const kept = [];
  for (const segment of path.replaceAll("\\", "/").split("/")) {
    const once = segment.replace(/%2e/gi, ".");
    if (once === "..") kept.pop();
    else if (once !== "." && !hidesDots(segment)) kept.push(encode(segment, PATH_UNSAFE));
  }
  return kept.join("/").replace(/^\/+/, "");
}

/** Whether a server that decodes the segment, however often, could find "." or ".." between slashes in it. */
function hidesDots(segment) {
  for (;;) {
    const parts = segment.replace(CONTROL, "").replaceAll("\\", "/").split("/");
    if (parts.some((part) => [".", ".."].includes(part.trim()))) return true;
    const decoded = decode(segment);
    if (decoded === segment) return false;
    segment = decoded;
  }
}

/** Percent-decode, with U+FFFD for what is no UTF-8, where decodeURIComponent would throw. */
function decode(text) {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (run) => {
    const bytes = run.slice(1).split("%").map((hex) => parseInt(hex, 16));
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(new Uint8Array(bytes));
  });
}

function encode(text, unsafe) {
  return escape(text.replace(/%(?![0-9A-Fa-f]{2})/g, "%25"), unsafe);
}

function encodeStrictly(text) {
  return escape(wellFormed(text), /[^A-Za-z0-9\-._~]/gu);
}

function escape(text, unsafe) {
  return text.replace(unsafe, (character) =>
    Array.from(new TextEncoder().encode(character), (byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join(""),
  );
}

/** Halves of surrogate pairs, which no encoding has, as U+FFFD. */
function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}
