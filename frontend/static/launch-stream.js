// The events of a launch, through whatever happens to the connection.  A browser's own EventSource gives up for good at
// the first answer that is no stream (a proxy's 502), and another one could go on with the launch only by an address that
// names it: who reads a proxy's log would have the session.  So this is its part of the standard, over fetch
// (WHATWG HTML, "9.2.6 Interpreting an event stream").

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
// For as long as a gateway keeps a launch that nobody watches, and longer.
const PATIENCE_MS = 5 * 60_000;
// Where none is known to have begun: each try may begin one.
const FIRST_PATIENCE_MS = 10_000;
// A service says at least each 25 s that it lives (servicekit/streams.py).  Of a connection that has died while a laptop
// slept, or that a router has forgotten, nobody tells.
const SILENCE_MS = 90_000;
const LOOK_EVERY_MS = 5000;

export class LaunchStream {
  /**
   * `handlers` has take(event, number), lost() for a connection that is tried again, back() for each that is there, and
   * gone() for one that is not tried again.
   */
  constructor(path, query, handlers, lastId = "") {
    this.path = path;
    this.query = query;
    this.handlers = handlers;
    this.lastId = lastId;
    this.wait = FIRST_WAIT_MS;
    this.lostAt = 0;
    this.timer = 0;
    this.connection = null;
    this.heardAt = 0;
    this.watch = setInterval(() => this.look(), LOOK_EVERY_MS);
    this.onWake = () => this.wake();
    window.addEventListener("online", this.onWake);
    document.addEventListener("visibilitychange", this.onWake);
    this.connect();
  }

  /** The launch's id, "" before it is known. */
  get id() {
    return this.lastId.split(".")[0];
  }

  async connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.heardAt = Date.now();
    this.connection?.abort();
    const { signal } = (this.connection = new AbortController());
    const headers = { Accept: "text/event-stream" };
    if (this.lastId) headers["Last-Event-ID"] = this.lastId;
    let refused = false;
    try {
      const answer = await fetch(`${this.path}?${this.query}`, { headers, cache: "no-store", signal });
      refused = answer.status !== 200 || !answer.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (!refused) {
        this.handlers.back();
        await this.read(answer.body);
      }
    } catch {
      // The connection could not be had, or broke; closed, it is nobody's any more.
    }
    if (!signal.aborted) this.failed(refused);
  }

  async read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let id = this.lastId;
    let data = [];
    for (let got = await reader.read(); !got.done; got = await reader.read()) {
      // An answer alone is no sign of life: some proxies give an empty one.
      this.lostAt = 0;
      this.heardAt = Date.now();
      const lines = (rest + got.value).split(/\r?\n/);
      rest = lines.pop();
      for (const line of lines) {
        const [, name, value] = line.match(/^([^:]*):? ?(.*)$/s);
        if (name === "id") id = value;
        if (name === "data") data.push(value);
        if (line || !data.length) continue;
        this.lastId = id;
        this.heard(data.join("\n"));
        data = [];
      }
    }
  }

  heard(data) {
    this.wait = FIRST_WAIT_MS;
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    if (event === null || typeof event !== "object" || !this.connection) return;
    try {
      this.handlers.take(event, Number(this.lastId.split(".")[1] ?? 0));
    } catch (error) {
      // A fault of the page's is no fault of the connection's.
      reportError(error);
    }
  }

  failed(refused) {
    this.lostAt ||= Date.now();
    const patience = this.lastId ? PATIENCE_MS : FIRST_PATIENCE_MS;
    // Nothing has begun yet that could go on; and a launch that nobody has followed for so long is over.
    if ((refused && !this.lastId) || Date.now() - this.lostAt > patience) {
      this.close();
      this.handlers.gone();
      return;
    }
    this.handlers.lost();
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
  }

  /** Whether there is a connection that has long said nothing, not even that it lives. */
  get silent() {
    return !this.timer && Date.now() - this.heardAt > SILENCE_MS;
  }

  look() {
    if (!this.silent) return;
    this.connection.abort();
    this.failed(false);
  }

  /** Somebody looks at the page again, or the machine is back on the net: no need to wait any longer. */
  wake() {
    if (document.visibilityState === "visible" && (this.timer || this.silent)) this.connect();
  }

  close() {
    clearTimeout(this.timer);
    clearInterval(this.watch);
    this.timer = 0;
    this.connection?.abort();
    this.connection = null;
    window.removeEventListener("online", this.onWake);
    document.removeEventListener("visibilitychange", this.onWake);
  }
}
