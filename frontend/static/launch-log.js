// The log of a launch: folded until somebody wants it or something fails, and bounded.

const MAX_CHUNKS = 5000;
// Colours and cursor movements of terminals (ECMA-48, section 5.4).
const TERMINAL = /\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-_])/g;

export class LaunchLog {
  constructor(box, output) {
    this.box = box;
    this.output = output;
  }

  add(text) {
    this.box.hidden = false;
    const { scrollTop, scrollHeight, clientHeight } = this.output;
    const atEnd = scrollHeight - scrollTop - clientHeight < 40;
    this.output.append(text.replace(TERMINAL, "").replace(/\r\n?/g, "\n"));
    while (this.output.childNodes.length > MAX_CHUNKS) this.output.firstChild.remove();
    if (atEnd) this.output.scrollTop = this.output.scrollHeight;
  }

  open() {
    if (!this.box.hidden) this.box.open = true;
    this.output.scrollTop = this.output.scrollHeight;
  }
}
