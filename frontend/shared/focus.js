// Keeps the keyboard at the work: what had the focus and is then hidden or disabled hands it on.

import { byId } from "./dom.js";

const HEIRS = { drop: ["make"], make: ["cancel", "make"], work: ["make"] };
let waiting = null;

/** Change the page, then see where the focus is. An heir that is not ready yet gets it at a later change. */
export function keepingFocus(change) {
  const had = document.activeElement;
  const area = Object.keys(HEIRS).find((id) => byId(id).contains(had));
  change();
  if (area && !usable(had)) waiting = HEIRS[area];
  if (!waiting) return;
  const now = document.activeElement;
  if (now === document.body || !usable(now)) {
    const heir = waiting.map(byId).find(usable);
    if (!heir) return;
    heir.focus({ preventScroll: true });
  }
  waiting = null;  // handed on, or the user has gone elsewhere
}

const usable = (element) => !element.disabled && element.checkVisibility();
