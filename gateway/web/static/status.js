// Keeps the status page as it is now: the gateway says by an event that something has changed, and the page is fetched
// again and put in the place of the old one. Without scripts the page refreshes itself.

const OLDEST_MS = 30_000; // ages are told in words, which grow old
const PAUSE_MS = 400;
const AGAIN_MS = 3000;
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const WHEN = { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };

const live = document.getElementById("live");
const headline = document.getElementById("headline");
const connection = document.getElementById("connection");

let wanted = false;
let busy = false;
let fetchedAt = Date.now();

function say(element, text) {
  // A screen reader reads it again each time it is set.
  if (element.textContent !== text) element.textContent = text;
}

function connected(is) {
  say(connection, is ? connection.dataset.live : connection.dataset.lost);
  connection.classList.toggle("lost", !is);
}

/** Times in the visitor's own zone; the title keeps them in UTC. */
function tellTimes() {
  for (const time of document.querySelectorAll("time[data-told]")) {
    const wanted = time.dataset.told === "clock" ? CLOCK : WHEN;
    time.textContent = new Intl.DateTimeFormat(time.closest("[lang]").lang, wanted).format(new Date(time.dateTime));
  }
}

function show(page) {
  const fresh = page.getElementById("live");
  const line = page.getElementById("headline");
  if (!fresh || !line) throw new Error("this is not the status page");
  const focused = live.contains(document.activeElement) ? document.activeElement.id : "";
  live.replaceChildren(...fresh.childNodes);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  tellTimes();
  document.getElementById("badge").src = page.getElementById("badge").getAttribute("src");
  headline.className = line.className;
  say(headline, line.textContent);
  document.title = page.title;
}

async function refresh() {
  wanted = true;
  // Nobody looks at a hidden tab; it is brought up to date when somebody does.
  if (busy || document.hidden) return;
  busy = true;
  while (wanted && !document.hidden) {
    wanted = false;
    try {
      const answer = await fetch(location.pathname + location.search, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      show(new DOMParser().parseFromString(await answer.text(), "text/html"));
      fetchedAt = Date.now();
    } catch {
      connected(false);
      wanted = false; // the stream comes back, and with it the wish
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  busy = false;
}

function follow() {
  const stream = new EventSource(live.dataset.events);
  stream.addEventListener("federation", () => {
    connected(true);
    refresh();
  });
  stream.addEventListener("error", () => {
    connected(false);
    // A broken stream is opened again by the browser; after an answer that is none (a gateway that starts) it gives up.
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, AGAIN_MS * (1 + Math.random()));
  });
}

tellTimes();
follow();
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refresh();
});
setInterval(() => {
  if (Date.now() - fetchedAt > OLDEST_MS) refresh();
}, OLDEST_MS / 3);
