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
    const following = scrollHeight - scrollTop - clientHeight < 40 && !this.found.length;
    const { chunks } = this.log;
    this.append(chunks.slice(-this.unseen).join(""));
    this.shown += this.unseen;
    this.unseen = 0;
    // What the log has let go of goes from here as well, now and then, for it takes a layout of the whole.
    if (this.shown > SLACK * chunks.length) this.trim(following);
    if (this.found.length && this.at < 0) this.mark(0);
    this.count();
    if (following) this.output.scrollTop = this.output.scrollHeight;
  }

  search() {
    this.needle = element("log-search").value.toLowerCase();
    this.show();
    if (this.found.length) this.go(0);
    else this.count();
  }

  /** Shows what the log holds, and no more. */
  show() {
    this.shown = this.log.chunks.length;
    this.unseen = 0;
    this.found = [];
    // Where each of those begins in what is shown.
    this.starts = [];
    this.at = -1;
    this.length = 0;
    this.text.replaceChildren();
    this.append(this.log.text);
  }

  trim(following) {
    const height = following ? 0 : this.output.scrollHeight;
    const [before, place] = [this.length, this.starts[this.at]];
    this.show();
    const gone = before - this.length;
    if (this.found.length) this.mark(Math.max(0, this.starts.findIndex((start) => start >= place - gone)));
    if (!following) this.output.scrollTop -= height - this.output.scrollHeight;
  }

  /** Shows more, and marks what is wanted in it: only there, so that a long log is not searched again and again. */
  append(more) {
    const begun = this.takeBegun();
    const text = begun + more;
    const [haystack, { needle }] = [text.toLowerCase(), this];
    const parts = document.createDocumentFragment();
    const find = (from) => (needle && this.found.length < MAX_FOUND ? haystack.indexOf(needle, from) : -1);
    let from = 0;
    for (let at = find(0); at >= 0; at = find(from)) {
      const mark = document.createElement("mark");
      mark.textContent = text.slice(at, at + needle.length);
      parts.append(text.slice(from, at), mark);
      this.found.push(mark);
      this.starts.push(this.length - begun.length + at);
      from = at + needle.length;
    }
    parts.append(text.slice(from));
    this.text.append(parts);
    this.length += more.length;
  }

  /** Takes away the end of what is shown, in which something that is wanted may have begun. */
  takeBegun() {
    const last = this.text.lastChild;
    if (this.needle.length < 2 || !last) return "";
    const begun = last.data.slice(1 - this.needle.length);
    last.deleteData(last.length - begun.length, begun.length);
    if (!last.length) last.remove();
    return begun;
  }

  step(event) {
    if (event.key !== "Enter" || !this.found.length) return;
    event.preventDefault();
    this.go((this.at + (event.shiftKey ? this.found.length - 1 : 1)) % this.found.length);
  }

  go(number) {
    this.mark(number);
    this.count();
    const mark = this.found[number];
    this.output.scrollTop += mark.getBoundingClientRect().top - this.output.getBoundingClientRect().top - this.output.clientHeight / 2;
  }

  mark(number) {
    this.found[this.at]?.classList.remove("here");
    this.at = number;
    this.found[number].classList.add("here");
  }

  count() {
    const all = this.found.length;
    const told = !this.needle ? "" : all ? _("%(number)s of %(all)s", { number: this.at + 1, all }) : _("not found");
    // A live region speaks whenever it is written to, even with the same words.
    if (element("log-found").textContent !== told) element("log-found").textContent = told;
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
