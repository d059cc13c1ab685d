// The buttons, labels and messages around the 3D view.

import { byId, el, saveBlob } from "../shared/dom.js";
import { say, tell } from "../shared/notices.js";
import { count } from "../shared/words.js";
import { GlbError, MODES, Viewer } from "./viewer.js";

const NO_WEBGL2 = "This browser shows no 3D here (it has no WebGL2). Everything else works: make the model and download it.";
const LOST = "The graphics card took the view away. It comes back by itself as soon as the card is free.";
const BROKEN = "The model could not be shown. The download still works; reload the page to try again.";
const NAMES = { shaded: "Shaded", flat: "Flat", normals: "Normals", clay: "Clay" };

export class View {
  constructor() {
    this.name = "model";
    try {
      this.viewer = new Viewer(byId("viewer"), () => this.update());
    } catch (error) {
      this.viewer = { supported: false };
      console.warn(error);
    }
    for (const id of ["tool-snapshot", "snapshot"]) byId(id).addEventListener("click", () => this.snapshot());
    if (!this.viewer.supported) {
      byId("viewer").hidden = true;
      this.say(NO_WEBGL2, false);
      return;
    }
    this.modes = MODES.map((mode) => el("input", { type: "radio", name: "mode", value: mode }));
    byId("modes").append(...this.modes.map((input, i) => {
      const name = NAMES[input.value];
      return el("label", { title: `${name} (${i + 1})` }, input, el("span", {}, name));
    }));
    byId("modes").addEventListener("change", (event) => this.viewer.set({ mode: event.target.value }));
    byId("tool-wire").addEventListener("click", () => this.viewer.key("w"));
    byId("tool-grid").addEventListener("click", () => this.viewer.key("g"));
    byId("tool-rotate").addEventListener("click", () => this.viewer.key("r"));
    byId("tool-fit").addEventListener("click", () => this.viewer.fit());
    this.update();
  }

  update() {
    const { look, rotating, cellMm, model, painter } = this.viewer;
    this.modes.forEach((input) => { input.checked = input.value === look.mode; });
    byId("tool-wire").setAttribute("aria-pressed", look.wireframe);
    byId("tool-grid").setAttribute("aria-pressed", look.grid);
    byId("tool-rotate").setAttribute("aria-pressed", rotating);
    byId("toolbar").hidden = byId("hand").hidden = !model;
    byId("scale").hidden = !cellMm || !look.grid;
    byId("scale").textContent = cellMm ? `1 square = ${cellMm < 1 ? cellMm.toPrecision(1) : count(cellMm)} mm` : "";
    if (model && !painter) this.say(LOST);
    else if (model) this.quiet();
  }

  /** Show the GLB in a Blob. `name` is for its pictures and for screen readers. */
  async show(file, name) {
    if (!this.viewer.supported) return;
    this.name = name;
    byId("view-empty").hidden = true;
    this.quiet();
    try {
      if (!(await this.viewer.load(await file.arrayBuffer()))) return;
      byId("viewer").setAttribute("aria-label", `3D view of ${name}, ${count(this.viewer.model.triangles)} triangles`);
    } catch (error) {
      const known = error instanceof GlbError;
      if (!known) console.warn(error);
      this.say(known ? error.message : BROKEN);
    }
  }

  clear() {
    if (!this.viewer.supported) return;
    this.viewer.clear();
    this.quiet();
    byId("view-empty").hidden = false;
    byId("viewer").setAttribute("aria-label", "3D view: empty");
    this.update();
  }

  say(text, aloud = true) {
    byId("view-empty").hidden = true;
    byId("view-message").hidden = false;
    byId("view-message").textContent = text;
    byId("toolbar").hidden = !this.viewer.model;
    if (aloud) say(text);
  }

  quiet() {
    byId("view-message").hidden = true;
  }

  async snapshot() {
    const picture = this.viewer.supported && await this.viewer.snapshot();
    if (picture) saveBlob(picture, `${this.name}.png`);
    else tell("There is no 3D view to save.");
  }
}
