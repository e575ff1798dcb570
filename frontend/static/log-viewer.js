// The opened log: follows its end, finds text, is copied and saved.

import { _ } from "./texts.js";

const MAX_FOUND = 2000;
// How much longer than the log what is shown may get.
const SLACK = 1.25;
const element = (id) => document.getElementById(id);

export class LogViewer {
  constructor(log, output) {
    this.log = log;
    this.output = output;
    // What is logged is English; what the page says of the log is not.
    this.text = element("log-text");
    this.search();
    output.scrollTop = output.scrollHeight;
    element("log-search").addEventListener("input", () => this.search());
    element("log-search").addEventListener("keydown", (event) => this.step(event));
    element("log-copy").addEventListener("click", (event) => this.copy(event.currentTarget));
    element("log-download").addEventListener("click", () => this.download());
  }

  /** A chunk was added: it is shown with the next picture, so that a log that comes all at once is laid out once. */
  add() {
    if (!this.unseen) requestAnimationFrame(() => this.catchUp());
    this.unseen += 1;
  }

  catchUp() {
    if (!this.unseen) return;
    const { scrollTop, scrollHeight, clientHeight } = this.output;
    const atEnd = scrollHeight - scrollTop - clientHeight < 40;
    const { chunks } = this.log;
    // What the log has let go of goes from here as well, now and then, for it takes a layout of the whole.
    if (this.shown + this.unseen > SLACK * chunks.length) {
      this.search();
    } else {
      this.text.append(chunks.slice(-this.unseen).join(""));
      this.shown += this.unseen;
      this.unseen = 0;
    }
    if (atEnd && !this.found.length) this.output.scrollTop = this.output.scrollHeight;
  }

  search() {
    const wanted = element("log-search").value;
    const text = this.log.text;
    this.shown = this.log.chunks.length;
    this.unseen = 0;
    this.found = [];
    this.at = -1;
    if (!wanted) {
      this.text.textContent = text;
      element("log-found").textContent = "";
      return;
    }
    const [haystack, needle] = [text.toLowerCase(), wanted.toLowerCase()];
    const parts = document.createDocumentFragment();
    let from = 0;
    for (let at = haystack.indexOf(needle); at >= 0 && this.found.length < MAX_FOUND; at = haystack.indexOf(needle, from)) {
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + wanted.length);
      parts.append(text.slice(from, at), mark);
      this.found.push(mark);
      from = at + wanted.length;
    }
    parts.append(text.slice(from));
    this.text.replaceChildren(parts);
    if (this.found.length) this.go(0);
    else element("log-found").textContent = _("not found");
  }

  step(event) {
    if (event.key !== "Enter" || !this.found.length) return;
    event.preventDefault();
    this.go((this.at + (event.shiftKey ? this.found.length - 1 : 1)) % this.found.length);
  }

  go(number) {
    this.found[this.at]?.classList.remove("here");
    this.at = number;
    const mark = this.found[number];
    mark.classList.add("here");
    this.output.scrollTop += mark.getBoundingClientRect().top - this.output.getBoundingClientRect().top - this.output.clientHeight / 2;
    element("log-found").textContent = _("%(number)s of %(all)s", { number: number + 1, all: this.found.length });
  }

  async copy(button) {
    const { copyText } = await import("./copy.js");
    await copyText(this.log.text, button);
  }

  download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([this.log.text], { type: "text/plain" }));
    link.download = "launch.log";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
