// Comfort only: everything works without it.
"use strict";

const form = document.getElementById("ask");
const file = document.getElementById("image");
const drop = document.getElementById("drop");
const busy = document.getElementById("busy");
const button = form.querySelector("button");

// An image may be dropped anywhere: beside its frame, the browser would leave the page for it.
const brings = (event) => event.dataTransfer.types.includes("Files");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (brings(event)) {
      event.preventDefault();
      drop.classList.add("over");
    }
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, () => drop.classList.remove("over"));
}
document.addEventListener("drop", (event) => {
  if (brings(event)) {
    event.preventDefault();
    file.files = event.dataTransfer.files;
    weigh();
  }
});

// A file that is too large need not be sent to be refused, and the phrases with it.
function weigh() {
  const { most } = file.dataset;
  const large = [...file.files].find((one) => one.size > most * 2 ** 20);
  file.setCustomValidity(large ? `${large.name} has more than ${most} MB, the limit.` : "");
  file.reportValidity();
}

// A file wins over the choice below it, so choosing there takes the file away.
form.addEventListener("change", ({ target }) => {
  if (target.name === "choice") {
    file.value = "";
  }
  if (target.name === "choice" || target === file) {
    weigh();
  }
});

// Ctrl+Enter asks, since Enter begins a new line.
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});

// One question at a time.
form.addEventListener("submit", (event) => {
  if (button.getAttribute("aria-disabled") === "true") {
    event.preventDefault();
    return;
  }
  button.setAttribute("aria-disabled", "true");
  busy.textContent = "Looking …";
});
function release() {
  button.removeAttribute("aria-disabled");
  busy.textContent = "";
}
window.addEventListener("pageshow", release);
// No browser tells that it was stopped: its key for that, or another question, do.
form.addEventListener("input", release);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    release();
  }
});

// What happens, every few seconds while somebody looks, but not while somebody reads in it.
const PATIENCE = 15000; // milliseconds: a broker that hangs takes some seconds

async function refresh() {
  const parts = [...document.querySelectorAll("#status, #versions")];
  const marked = getSelection();
  const read = (part) => part.contains(document.activeElement) || part.querySelector("details[open]")
    || (!marked.isCollapsed && marked.containsNode(part, true));
  if (document.hidden || parts.every(read)) {
    return;
  }
  const home = new URL(document.querySelector(".refresh").href);
  home.username = home.password = ""; // of the page's own address, which fetch refuses
  try {
    const signal = AbortSignal.timeout(PATIENCE);
    const answer = await fetch(home, { headers: { Accept: "text/html" }, signal });
    if (!answer.ok) {
      throw new Error(answer.statusText);
    }
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts) {
      const fresh = page.getElementById(part.id);
      if (fresh && !read(part)) {
        replace(part, fresh);
      }
    }
  } catch {
    const service = document.querySelector("#status dd");
    service.textContent = "does not answer";
    service.className = "bad";
  }
}

// Tables stay where they were moved to, sideways.
function replace(part, fresh) {
  const name = (table) => table.getAttribute("aria-label") ?? table.getAttribute("aria-labelledby");
  const tables = (within) => [...within.querySelectorAll(".scroll")];
  const places = new Map(tables(part).map((table) => [name(table), table.scrollLeft]));
  part.replaceWith(fresh);
  for (const table of tables(fresh)) {
    table.scrollLeft = places.get(name(table)) ?? 0;
  }
}
setInterval(refresh, 5000);
