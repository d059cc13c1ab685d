// Which models there are, which of them is to make the next model, and why some cannot.

import { get } from "../shared/api.js";
import { byId, el } from "../shared/dom.js";
import { visits } from "../shared/store.js";
import { Limits } from "./limits.js";

const KEY = "orfeas.model";
const NAMES = { builtin: "Built-in" };

export class Models {
  /** `onChange()` when another model is chosen. */
  constructor(onChange) {
    this.onChange = onChange;
    this.info = null;  // the answer of `/api/models-info`
    this.wanted = visits.get(KEY);  // the id that was asked for, whether it can be had or not
    byId("models").addEventListener("change", (event) => this.want(event.target.value));
    byId("defaults").addEventListener("click", () => this.want(null));
  }

  async refresh() {
    this.info = await get("/api/models-info");
    this.render();
  }

  get list() {
    return this.info?.models ?? [];
  }

  named(id) {
    return this.list.find((model) => model.id === id) ?? null;
  }

  /** The id of the model that makes what asks for none. */
  get usual() {
    return this.info?.default ?? this.list.find((model) => model.loaded)?.id ?? null;
  }

  /** Whether a request may ask for this model; a server that names no default has but the one it has loaded. */
  canBeChosen(model) {
    return this.info.default === undefined ? model.loaded : model.available;
  }

  /** The model that the next request is for, or null. */
  get chosen() {
    const able = this.list.filter((model) => this.canBeChosen(model));
    const first = [this.wanted, this.usual].map((id) => able.find((model) => model.id === id)).find(Boolean);
    return first ?? able.find((model) => model.loaded) ?? null;
  }

  /** What of a request the chosen model reads. */
  get reads() {
    const { parameters, reads = [] } = this.chosen ?? {};
    return new Set(parameters ? Object.keys(parameters.properties ?? {}) : ["quality", ...reads]);
  }

  get limits() {
    return new Limits(this.info?.request, this.chosen?.parameters);
  }

  /** The request's field, where it takes one. */
  wish() {
    const { chosen } = this;
    return chosen && chosen.id !== this.usual ? { model: chosen.id } : {};
  }

  /** Ask for this model from now on; null: for the one that the server prefers. */
  want(id) {
    this.wanted = id;
    visits.set(KEY, id ?? "");
    this.render();
    this.onChange();
  }

  render() {
    if (!this.info) return;
    const { chosen } = this, focused = byId("models").contains(document.activeElement);
    const tone = chosen ? "hint" : "error";
    const note = this.info.reason && el("p", { className: tone }, `The server says: ${this.info.reason}`);
    const rows = this.list.map((model) => this.row(model, model === chosen));
    byId("model-rows").replaceChildren(...rows, ...(note ? [note] : []));
    if (focused) byId("models").querySelector(":checked")?.focus();
  }

  /** Nothing is known: say why instead of waiting. */
  fail(text) {
    if (!this.info) byId("model-rows").replaceChildren(el("p", { className: "error" }, text));
  }

  row(model, checked) {
    const { id } = model, able = this.canBeChosen(model);
    const radio = el("input", { type: "radio", name: "model", value: id, checked, disabled: !able });
    return el("label", {}, radio, el("span", {}, NAMES[id] ?? id), el("span", { className: "hint" }, describe(model, able)));
  }
}

function describe({ id, loaded, available, reason, licence, reads = [] }, able) {
  const uses = reads.filter((each) => !["image", "quality"].includes(each)).join(", ");
  const text = able ? `${loaded ? "" : "Loaded on first use. "}Uses the picture${uses ? ` and ${uses}` : ""}. Licence: ${licence}.`
    : available ? `Available: start the server with ORFEAS_MODEL=${id} to use it. Licence: ${licence}.`
      : `Not available: ${reason}.`;
  return text.replace("..", ".");
}
