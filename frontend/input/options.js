// The form: what is asked for, remembered from visit to visit, checked before it is sent.

import { byId } from "../shared/dom.js";
import { visits } from "../shared/store.js";
import { millimetres } from "../shared/words.js";

const KEY = "orfeas.options";
const DEFAULTS = {
  quality: "7", side: "longest", millimetres: "100", target_faces: "", remove_background: "auto", seed: "0", prompt: "",
};
const UNUSUAL = ["target_faces", "remove_background", "prompt"];
const SIDES = ["width", "height", "depth"];
const LONGEST_MM = 100_000, MOST_FACES = 5_000_000;

export class Options {
  /** `onChange()` after each change. */
  constructor(onChange) {
    this.form = byId("options");
    this.reads = new Set();
    this.extents = null;
    this.fill({ ...DEFAULTS, ...remembered() });
    this.form.addEventListener("input", () => {
      this.clearErrors();
      visits.set(KEY, JSON.stringify(this.values()));
      this.showSize();
      onChange();
    });
    byId("defaults").addEventListener("click", () => {
      this.fill(DEFAULTS);
      this.form.dispatchEvent(new Event("input"));
    });
    this.showSize();
  }

  values() {
    return Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, this.form.elements[name].value]));
  }

  fill(values) {
    for (const name of Object.keys(DEFAULTS)) this.form.elements[name].value = values[name] ?? DEFAULTS[name];
    byId("advanced").open ||= UNUSUAL.some((name) => this.form.elements[name].value !== DEFAULTS[name]);
  }

  /** Only what the model reads is asked for. */
  setReads(reads) {
    this.reads = new Set(reads);
    byId("seed-field").hidden = !this.reads.has("seed");
    byId("prompt-field").hidden = !this.reads.has("prompt");
  }

  /** The fields of the request, or null after saying at the field what is wrong with it. */
  wish() {
    this.clearErrors();
    const values = this.values();
    const size = number(values.millimetres), faces = number(values.target_faces), seed = number(values.seed);
    if (!(size > 0 && size <= LONGEST_MM)) {
      this.refuse("millimetres", "Give a number of millimetres, more than 0 and up to 100,000.");
    }
    if (values.target_faces.trim() && !(Number.isInteger(faces) && faces >= 4 && faces <= MOST_FACES)) {
      this.refuse("target_faces", "Give a whole number from 4 to 5,000,000, or leave it empty.");
    }
    if (this.reads.has("seed") && !(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)) {
      this.refuse("seed", "Give a whole number from 0 to 4,294,967,295.");
    }
    const bad = this.form.querySelector("[aria-invalid=true]");
    if (bad) {
      if (byId("advanced").contains(bad)) byId("advanced").open = true;
      bad.focus();
      return null;
    }
    const sides = values.side === "longest" ? SIDES : [values.side];
    return {
      quality: Number(values.quality),
      dimensions: Object.fromEntries(sides.map((side) => [side, size])),
      remove_background: values.remove_background,
      ...(values.target_faces.trim() ? { target_faces: faces } : {}),
      ...(this.reads.has("seed") ? { seed } : {}),
      ...(this.reads.has("prompt") && values.prompt.trim() ? { prompt: values.prompt.trim() } : {}),
    };
  }

  refuse(field, text) {
    byId(`${field}-error`).textContent = text;
    byId(field).setAttribute("aria-invalid", "true");
  }

  /** What the server refused, at the fields. */
  showRefusal(details) {
    for (const [path, text] of Object.entries(details ?? {})) {
      const field = path.startsWith("dimensions") ? "millimetres" : path;
      if (byId(`${field}-error`)) this.refuse(field, `${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
    }
  }

  clearErrors() {
    for (const field of this.form.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
      byId(`${field.id}-error`).textContent = "";
    }
  }

  /** The options that a job was made with. */
  restore(job) {
    const given = Object.entries(job.dimensions).filter(([, value]) => value);
    const alone = given.length === 1;
    this.fill({
      quality: String(job.quality),
      side: alone ? given[0][0] : "longest",
      millimetres: String(alone ? given[0][1] : Math.max(...given.map(([, value]) => value), 0) || 100),
      target_faces: job.target_faces ? String(job.target_faces) : "",
      remove_background: job.remove_background,
      seed: String(job.seed),
      prompt: job.prompt,
    });
    this.form.dispatchEvent(new Event("input"));
  }

  /** The proportions of the model at hand, [width, height, depth] in any unit, or null. */
  setProportions(extents) {
    this.extents = extents;
    this.showSize();
  }

  showSize() {
    const { side, millimetres: text } = this.values(), size = number(text);
    const note = byId("size-note");
    if (!this.extents || !(size > 0)) {
      note.textContent = "The other sides follow the object's proportions.";
      return;
    }
    const known = side === "longest" ? Math.max(...this.extents) : this.extents[SIDES.indexOf(side)];
    const [width, height, depth] = this.extents.map((extent) => millimetres(extent * size / known));
    note.textContent = `Becomes ${width} wide × ${depth} deep × ${height} high, in mm.`;
  }
}

function remembered() {
  try {
    return JSON.parse(visits.get(KEY)) ?? {};
  } catch {
    return {};
  }
}

/** A number as people write it; NaN when it is none. */
function number(text) {
  const trimmed = text.trim().replace(/^(\d+),(\d+)$/, "$1.$2");
  return trimmed === "" ? NaN : Number(trimmed);
}
