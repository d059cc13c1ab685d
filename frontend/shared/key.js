// Asks for the API key of a server that needs one; however many requests need it, it is asked for once.

import { onKeyNeeded } from "./api.js";
import { byId } from "./dom.js";

let asking = null;

export function setUpKey() {
  byId("key-no").addEventListener("click", () => byId("key").close());
  onKeyNeeded((wasWrong) => {
    asking ??= ask(wasWrong).finally(() => { asking = null; });
    return asking;
  });
}

function ask(wasWrong) {
  const dialog = byId("key"), field = byId("key-value"), error = byId("key-error");
  error.textContent = wasWrong ? "That key was not accepted. Check it and try again." : "";
  field.setAttribute("aria-invalid", String(wasWrong));
  field.value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes" ? field.value.trim() : null), { once: true });
  });
}
