// What scripts say, in the language of the page. The sources are English; the page brings the rest (catalogues.py).

const known = window.pageConfig?.texts ?? {};

/** A text in the page's language, with its %(names)s filled in. */
export function _(english, values = {}) {
  return (known[english] ?? english).replace(/%\((\w+)\)s/g, (whole, name) => String(values[name] ?? whole));
}

/** A text that is said later, or in English: this takes it into the catalogues, and `_` says it. */
export function said(english) {
  return english;
}

/** A span of time for people: "42 s", "3 min 5 s", "1 h 12 min". */
export function span(seconds) {
  const all = Math.max(0, Math.floor(seconds));
  const minutes = Math.floor(all / 60);
  if (minutes >= 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${all % 60} s` : `${all} s`;
}

/** About how long: in steps of 5 s below a minute, of 10 s above, because no guess is finer. */
export function about(seconds) {
  const step = seconds < 60 ? 5 : 10;
  return span(Math.max(step, Math.ceil(seconds / step) * step)).replace(/ 0 s$/, "");
}
