// The log of a launch: bounded, kept while it is folded, and shown by a viewer that is loaded when somebody opens it.

// About as many lines: a builder tells most of them one by one.
const MAX_CHUNKS = 20_000;
// Colours and cursor movements of terminals (ECMA-48, section 5.4).
const TERMINAL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])/g;

export class LaunchLog {
  constructor(box) {
    this.box = box;
    this.chunks = [];
    this.viewer = null;
    this.loading = null;
    box.addEventListener("toggle", () => box.open && this.load());
  }

  add(text) {
    this.box.hidden = false;
    const chunk = text.replace(TERMINAL, "").replace(/\r\n?/g, "\n");
    this.chunks.push(chunk);
    if (this.chunks.length > MAX_CHUNKS) this.chunks.shift();
    this.viewer?.add(chunk);
  }

  get text() {
    return this.chunks.join("");
  }

  /** The last lines, for whoever looks for what went wrong. */
  get tail() {
    return this.chunks.slice(-400).join("");
  }

  open() {
    if (this.box.hidden) return;
    this.box.open = true;
    this.load();
  }

  load() {
    this.loading ??= this.show();
  }

  async show() {
    try {
      const { LogViewer } = await import("./log-viewer.js");
      this.viewer = new LogViewer(this, document.getElementById("log"));
    } catch {
      // Without a connection there is the plain text.
      const output = document.getElementById("log-text");
      this.viewer = { add: (chunk) => output.append(chunk) };
      output.append(this.text);
    }
  }
}
