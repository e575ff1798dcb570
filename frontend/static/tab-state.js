// What a tab in the background shows of its launch: a word in its title, a sign in its icon.

const COLOURS = { working: "#3270a6", ready: "#1a7f37", failed: "#b3261e" };
const SIGNS = {
  working: '<circle cx="16" cy="16" r="6" fill="#fff"/>',
  ready: '<path d="M9 16.5l5 5 9-11" fill="none" stroke="#fff" stroke-width="3.5"/>',
  failed: '<path d="M10 10l12 12M22 10L10 22" stroke="#fff" stroke-width="3.5"/>',
};
const title = document.title;

/** Show a state (working, ready, failed) and a word for it. */
export function showInTab(state, word) {
  document.title = `${word} · ${title}`;
  const icon = document.getElementById("icon");
  const disc = `<circle cx="16" cy="16" r="15" fill="${COLOURS[state]}"/>`;
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${disc}${SIGNS[state]}</svg>`;
  icon.href = `data:image/svg+xml,${encodeURIComponent(svg)}`;
}
