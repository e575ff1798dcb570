// The events of a launch, through whatever happens to the connection: a browser's own EventSource comes back from a
// broken stream, but gives up for good at the first answer that is no stream (a proxy's 502). This one goes on.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
// For as long as a gateway keeps a launch that nobody watches, and longer.
const PATIENCE_MS = 5 * 60_000;

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
    this.source = null;
    this.onWake = () => this.wake();
    window.addEventListener("online", this.onWake);
    document.addEventListener("visibilitychange", this.onWake);
    this.connect();
  }

  /** The launch's id, "" before it is known. */
  get id() {
    return this.lastId.split(".")[0];
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = 0;
    const query = new URLSearchParams(this.query);
    if (this.lastId) query.set("last_event_id", this.lastId);
    this.source = new EventSource(`${this.path}?${query}`);
    this.source.addEventListener("open", () => this.handlers.back());
    this.source.addEventListener("message", (message) => this.heard(message));
    this.source.addEventListener("error", () => this.failed());
  }

  heard(message) {
    this.lastId = message.lastEventId || this.lastId;
    this.lostAt = 0;
    this.wait = FIRST_WAIT_MS;
    let event;
    try {
      event = JSON.parse(message.data);
    } catch {
      return;
    }
    if (event === null || typeof event !== "object") return;
    this.handlers.take(event, Number(this.lastId.split(".")[1] ?? 0));
  }

  failed() {
    if (!this.source) return;
    this.lostAt ||= Date.now();
    const closed = this.source.readyState === EventSource.CLOSED;
    // Nothing has begun yet that could go on; and a launch that nobody has followed for so long is over.
    if (closed && (!this.lastId || Date.now() - this.lostAt > PATIENCE_MS)) {
      this.close();
      this.handlers.gone();
      return;
    }
    this.handlers.lost();
    if (!closed) return;
    this.source = null;
    this.timer = setTimeout(() => this.connect(), this.wait);
    this.wait = Math.min(2 * this.wait, LONGEST_WAIT_MS);
  }

  /** Somebody looks at the page again, or the machine is back on the net: no need to wait any longer. */
  wake() {
    if (this.timer && document.visibilityState === "visible") this.connect();
  }

  close() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.source?.close();
    this.source = null;
    window.removeEventListener("online", this.onWake);
    document.removeEventListener("visibilitychange", this.onWake);
  }
}
