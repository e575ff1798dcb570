// Copying, where the clipboard may be used and where it may not (pages over plain HTTP).

import { _ } from "./texts.js";

const SHOWN_MS = 2000;

/** Copy a text, and say so on the button that was pressed. */
export async function copyText(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    done = copyBySelection(text);
    // The selection took the focus along.
    button.focus();
  }
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = done ? _("Copied") : _("Select it and copy by hand");
  say(button.textContent);
  clearTimeout(Number(button.dataset.timer));
  button.dataset.timer = String(setTimeout(() => (button.textContent = label), SHOWN_MS));
}

/** For who does not see the button. */
function say(text) {
  let region = document.getElementById("said");
  if (!region) {
    region = document.createElement("div");
    region.id = "said";
    region.className = "visually-hidden";
    region.setAttribute("aria-live", "polite");
    document.querySelector("main").append(region);
  }
  region.textContent = "";
  // A region speaks of what is written to it once it is there.
  setTimeout(() => (region.textContent = text), 100);
}

function copyBySelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "skip";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
