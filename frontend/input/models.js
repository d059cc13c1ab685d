// Which models there are and why some are not available; what a quality means and how long it will take.

import { get } from "../shared/api.js";
import { byId, el } from "../shared/dom.js";
import { count, roughly } from "../shared/words.js";

const NAMES = { builtin: "Built-in" };
const WORDS = [null, "Draft", "Draft", "Quick", "Quick", "Good", "Good", "Fine", "Fine", "Finest", "Finest"];
/** What the built-in model aims at, and its seconds on a usual processor core: a first guess, until there are runs. */
const TYPICAL = [
  null, [2e3, 0.05], [5e3, 0.06], [1e4, 0.08], [2e4, 0.12], [4e4, 0.2],
  [7e4, 0.35], [12e4, 0.5], [2e5, 0.95], [32e4, 1.6], [5e5, 2.7],
];

export class Models {
  constructor() {
    this.loaded = null;
    byId("quality").addEventListener("input", () => this.showQuality());
    byId("options").addEventListener("input", () => this.showQuality());
  }

  async refresh() {
    const info = await get("/api/models-info");
    this.loaded = info.models.find((model) => model.loaded) ?? null;
    const rows = info.models.map((model) => row(model));
    const tone = this.loaded ? "hint" : "error";
    const note = info.reason && el("p", { className: tone }, `The server says: ${info.reason}`);
    byId("models").replaceChildren(el("legend", {}, "Model"), ...rows, ...(note ? [note] : []));
    this.showQuality();
    return this.loaded;
  }

  /** Nothing is known: say why instead of waiting. */
  fail(text) {
    if (!this.loaded) byId("models").replaceChildren(el("legend", {}, "Model"), el("p", { className: "error" }, text));
  }

  showQuality() {
    const quality = Number(byId("quality").value);
    const expected = this.expected(quality);
    const source = expected?.measured ? " as in past runs" : "";
    const time = expected ? `${roughly(expected.seconds)}${source}` : "its time is not known yet";
    byId("quality-word").textContent = `${quality} · ${WORDS[quality]}`;
    byId("quality").setAttribute("aria-valuetext", `${quality} of 10, ${WORDS[quality]}, ${time}`);
    const faces = this.loaded?.id === "builtin" ? `up to ${count(TYPICAL[quality][0])} triangles, ` : "";
    const text = `${faces}${time}.`;
    byId("quality-note").textContent = text.charAt(0).toUpperCase() + text.slice(1);
  }

  /** Seconds to expect: measured, else scaled from the nearest quality that was, else the typical ones. */
  expected(quality) {
    const past = this.loaded?.expected_seconds ?? {};
    if (past[quality]) return { seconds: past[quality], measured: true };
    const near = Object.keys(past).map(Number).sort((a, b) => Math.abs(a - quality) - Math.abs(b - quality))[0];
    if (near) return { seconds: past[near] * TYPICAL[quality][1] / TYPICAL[near][1], measured: false };
    return this.loaded?.id === "builtin" ? { seconds: TYPICAL[quality][1], measured: false } : null;
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
