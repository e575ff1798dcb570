// The launches of this browser, kept in it and nowhere else.

const KEY = "manybinder:recent";
const MOST = 8;

/** The last launches, latest first: {label, href, ref}. */
function recent() {
  try {
    const found = JSON.parse(window.localStorage.getItem(KEY));
    return Array.isArray(found) ? found.filter((item) => typeof item?.label === "string" && typeof item.href === "string") : [];
  } catch {
    return [];
  }
}

/** Keep a launch in mind. */
export function remember({ label, ref }) {
  const href = window.location.pathname + window.location.search.replace(/([?&])force=true&?/, "$1").replace(/[?&]$/, "");
  const others = recent().filter((item) => item.href !== href);
  store([{ label, ref, href }, ...others].slice(0, MOST));
}

export function forget() {
  store([]);
}

function store(items) {
  try {
    window.localStorage.setItem(KEY, JSON.stringify(items));
  } catch {
    // A browser that keeps nothing.
  }
}
