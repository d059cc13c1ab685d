// Which models there are, and why some are not available.

import { get } from "../shared/api.js";
import { byId, el } from "../shared/dom.js";

const NAMES = { builtin: "Built-in" };

export class Models {
  constructor() {
    this.loaded = null;
  }

  async refresh() {
    const info = await get("/api/models-info");
    this.loaded = info.models.find((model) => model.loaded) ?? null;
    const rows = info.models.map((model) => row(model));
    const tone = this.loaded ? "hint" : "error";
    const note = info.reason && el("p", { className: tone }, `The server says: ${info.reason}`);
    byId("models").replaceChildren(el("legend", {}, "Model"), ...rows, ...(note ? [note] : []));
    return this.loaded;
  }

  /** Nothing is known: say why instead of waiting. */
  fail(text) {
    if (!this.loaded) byId("models").replaceChildren(el("legend", {}, "Model"), el("p", { className: "error" }, text));
  }
}

function row({ id, loaded, available, reason, licence, reads = [] }) {
  const radio = el("input", { type: "radio", name: "model", value: id, checked: loaded, disabled: !loaded });
  const uses = reads.filter((each) => each !== "image").join(", ");
  const state = loaded ? `Uses the picture${uses ? ` and ${uses}` : ""}. Licence: ${licence}.`
    : available ? `Available: start the server with ORFEAS_MODEL=${id} to use it. Licence: ${licence}.`
      : `Not available: ${reason}.`;
  const note = el("span", { className: "hint" }, state.replace("..", "."));
  return el("label", {}, radio, el("span", {}, NAMES[id] ?? id), note);
}
