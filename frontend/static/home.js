// The form works without this; it only keeps empty fields out of the address.
const form = document.getElementById("launch-form");
const repo = document.getElementById("repo");

form.addEventListener("submit", () => {
  for (const field of form.querySelectorAll("input, select")) {
    field.value = field.value.trim();
    field.disabled = field !== repo && field.value === "";
  }
});

// Coming back by the browser's "back", the page may be as it was left.
window.addEventListener("pageshow", () => {
  for (const field of form.querySelectorAll("input, select")) field.disabled = false;
});
