// The steps of a launch: which is under way, how long each has taken, and how long they usually take.

import { _, about, span } from "./texts.js";

const STEP_OF = {
  waiting: "waiting",
  fetching: "building",
  building: "building",
  pushing: "building",
  built: "launching",
  launching: "launching",
};
const ORDER = ["waiting", "building", "launching"];

export class Steps {
  /** `kept` is what keep() has given, before the page was left. */
  constructor(list, kept = {}) {
    this.items = Object.fromEntries(Array.from(list.children, (item) => [item.dataset.step, item]));
    this.begun = kept.begun ?? Date.now();
    this.spent = kept.spent ?? {};
    this.now = kept.now ?? "waiting";
    this.since = kept.since ?? this.begun;
    this.usual = kept.usual ?? {};
    this.queued = false;
    this.show();
  }

  keep() {
    return { begun: this.begun, spent: this.spent, now: this.now, since: this.since, usual: this.usual };
  }

  /** Take in where the launch stands; `usual` gives seconds that earlier launches of this repository have taken. */
  enter(phase, { usual, queued = false } = {}) {
    this.queued = queued;
    if (usual) this.usual = usual;
    const step = STEP_OF[phase];
    if (step && step !== this.now) this.leave(step);
    this.show();
  }

  leave(next) {
    const at = Date.now();
    if (this.now) this.spent[this.now] = (this.spent[this.now] ?? 0) + (at - this.since) / 1000;
    this.now = next;
    this.since = at;
  }

  end(state) {
    const last = this.now;
    this.leave("");
    this.show();
    if (state !== "failed" || !last) return;
    this.items[last].dataset.state = "failed";
    this.items[last].querySelector(".note").textContent = _("stopped here");
  }

  /** Seconds since the launch began. */
  get elapsed() {
    return (Date.now() - this.begun) / 1000;
  }

  took(step) {
    return (this.spent[step] ?? 0) + (step === this.now ? (Date.now() - this.since) / 1000 : 0);
  }

  show() {
    const current = this.now ? ORDER.indexOf(this.now) : ORDER.length;
    for (const [n, step] of ORDER.entries()) {
      const item = this.items[step];
      const skipped = n < current && !(step in this.spent) && this.now;
      const done = n < current && step in this.spent;
      item.dataset.state = step === this.now ? "now" : skipped ? "skipped" : done ? "done" : "";
      if (step === this.now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
      item.querySelector(".note").textContent = this.note(step, n > current, skipped);
    }
    this.tick();
  }

  note(step, ahead, skipped) {
    if (skipped) return _("not needed");
    if (step === this.now || ahead) return this.usual[step] ? _("usually %(time)s", { time: about(this.usual[step]) }) : "";
    return "";
  }

  tick() {
    for (const step of ORDER) {
      const known = step === this.now || step in this.spent;
      this.items[step].querySelector(".took").textContent = known ? span(this.took(step)) : "";
    }
  }

  /** Whether an environment is built of which nobody knows how long that takes. */
  get isFirstBuild() {
    return this.now === "building" && !this.queued && this.usual.building === undefined;
  }

  /** Seconds that are left by the history of this repository, and the share that is done; null where it tells nothing. */
  estimate() {
    if (!this.now || this.queued) return null;
    const ahead = ORDER.slice(Math.max(1, ORDER.indexOf(this.now))).filter((step) => step in this.usual);
    const current = this.usual[this.now];
    if (!ahead.length || (this.now !== "waiting" && current === undefined)) return null;
    const total = ahead.reduce((sum, step) => sum + this.usual[step], 0);
    const done = current === undefined ? 0 : this.took(this.now);
    const left = Math.max(1, total - done);
    const share = Math.min(0.96, 1 - left / (total + this.before()));
    return { left, share, late: current !== undefined && done > 1.2 * current + 3 };
  }

  before() {
    return ORDER.filter((step) => step !== this.now).reduce((sum, step) => sum + (this.spent[step] ?? 0), 0);
  }
}
