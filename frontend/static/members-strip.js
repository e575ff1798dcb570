// Where launches go now: the members of a federation in one line, as routing sees them.

import { _ } from "./texts.js";

const EVERY_MS = 15_000;

/** Show the members in a list, and how many there are in a line; look again while somebody looks. */
export function showMembers(list, line, address) {
  const look = async () => {
    if (document.visibilityState !== "visible") return;
    let members;
    try {
      const answer = await fetch(address);
      members = (await answer.json()).members;
    } catch {
      return;
    }
    if (!Array.isArray(members)) return;
    list.replaceChildren(...members.map(asItem));
    const available = members.filter(isOpen).length;
    line.textContent = _("Taking launches: %(available)s of %(all)s.", { available, all: members.length });
  };
  look();
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}

// A full member may be sent a launch too, but comes last: for a visitor it is full.
function isOpen(member) {
  return member.available && member.state === "available";
}

function asItem(member) {
  const item = document.createElement("li");
  const name = document.createElement("span");
  name.textContent = member.name;
  name.className = isOpen(member) ? "good" : "bad";
  const state = document.createElement("span");
  state.className = "state";
  state.textContent = !isOpen(member) ? stateOf(member) : Number.isInteger(member.believed_free)
    ? _("%(free)s free", { free: member.believed_free })
    : _("open");
  item.append(name, " ", state);
  return item;
}

function stateOf(member) {
  const words = {
    full: _("full"),
    draining: _("draining"),
    suspended: _("suspended"),
    pending: _("not let in yet"),
    unknown: _("not seen yet"),
    failing: _("failing"),
    unreachable: _("not reachable"),
    ejected: _("resting"),
    half_open: _("coming back"),
  };
  return words[member.state] ?? member.state;
}
