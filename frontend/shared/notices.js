// What is said to everyone: a line for screen readers, a note that all can see, the question before something is lost.

import { byId } from "./dom.js";

const SEEN_MS = 8000;
let hiding = null;

/** Announce what the page shows anyway. */
export function say(text) {
  byId("live").textContent = text;
}

/** Tell what is to be seen nowhere else, above whatever is open. */
export function tell(text) {
  const note = byId("toast");
  clearTimeout(hiding);
  note.hidePopover();
  note.textContent = text;
  note.showPopover();
  say(text);
  hiding = setTimeout(() => note.hidePopover(), SEEN_MS);
}

/** Ask before deleting; true for yes. */
export function confirmed(title, text, yes) {
  const dialog = byId("ask");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  byId("ask-no").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
