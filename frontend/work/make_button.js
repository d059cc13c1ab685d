// The button that makes models: which pictures it would start, what it is called, and why it does nothing.

import { byId } from "../shared/dom.js";
import { isEvicted } from "../shared/errors.js";

export class MakeButton {
  constructor(pictures) {
    this.pictures = pictures;
  }

  /** The picture at hand, and all others that nothing was made of yet. */
  get targets() {
    const { current, list } = this.pictures;
    const waiting = list.filter((each) => each.phase === "ready" && !each.result && each !== current);
    return [...(current && !current.busy && !current.refused && current.phase !== "sending" ? [current] : []), ...waiting];
  }

  show() {
    const { current } = this.pictures, { targets } = this, button = byId("make");
    const made = current?.result && current.phase === "done" && targets.length === 1;
    const stuck = ["failed", "cancelled"].includes(current?.phase) && !current.refused;
    const again = made || (stuck && isEvicted(current.job)) ? "Make it again" : stuck ? "Try again" : "Make the model";
    button.disabled = !targets.length;
    button.textContent = targets.length > 1 ? `Make ${targets.length} models` : again;
    byId("make-note").textContent = note(current, made);
    byId("make-note").classList.toggle("error", Boolean(current?.error));
  }
}

function note(current, made) {
  if (!current) return "Choose a picture first.";
  if (current.phase === "sending") return "Sending the picture…";
  if (current.busy) return "Working on it.";
  if (current.error) return current.error;
  if (made) return "Another size takes no new shape.";
  return current.phase === "ready" && current.result ? "The mask has changed: make the model anew." : "";
}
