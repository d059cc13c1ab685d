// What is said to everyone: the line that screen readers announce, and the question before something is lost.

import { byId } from "./dom.js";

/** Announce a change of state. */
export function say(text) {
  byId("live").textContent = text;
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
