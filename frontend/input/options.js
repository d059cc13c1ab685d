// The form: what is asked for, remembered from visit to visit, checked before it is sent.

import { byId, el } from "../shared/dom.js";
import { visits } from "../shared/store.js";
import { millimetres } from "../shared/words.js";
import { fits, Limits, wanted } from "./limits.js";

const KEY = "orfeas.options";
/** Until the server says otherwise. */
const STANDARD = {
  quality: "7", side: "longest", millimetres: "100", target_faces: "", remove_background: "auto", seed: "0", prompt: "",
};
const NAMES = Object.keys(STANDARD);
const UNUSUAL = ["target_faces", "remove_background", "prompt"];
const SIDES = ["width", "height", "depth"];

export class Options {
  /** `onChange()` after each change. */
  constructor(onChange) {
    this.form = byId("options");
    this.limits = new Limits();
    this.reads = new Set(["quality"]);
    this.standard = { ...STANDARD };
    this.given = remembered();  // what was chosen, here or by looking at a model; the rest follows the defaults
    this.extents = null;
    this.fill();
    this.form.addEventListener("input", ({ target }) => {
      this.clearErrors();
      if (NAMES.includes(target.name)) this.give({ ...this.given, [target.name]: target.value });
      this.showSize();
      onChange();
    });
    byId("defaults").addEventListener("click", () => this.change({}));
    this.showSize();
  }

  values() {
    return Object.fromEntries(NAMES.map((name) => [name, this.form.elements[name].value]));
  }

  give(values) {
    this.given = values;
    visits.set(KEY, JSON.stringify(values));
  }

  /** As if the user had chosen these values and nothing else. */
  change(values) {
    this.give(values);
    this.fill();
    this.form.dispatchEvent(new Event("input"));
  }

  fill() {
    for (const name of NAMES) {
      const field = this.form.elements[name], value = this.given[name] ?? this.standard[name];
      if (field.value !== value) field.value = value;
      if (field.value === "" && value !== "") field.value = this.standard[name];  // no such choice any more
    }
    byId("advanced").open ||= UNUSUAL.some((name) => this.form.elements[name].value !== this.standard[name]);
  }

  /** Take over the server's bounds, choices and defaults; only what the model reads is asked for. */
  follow(limits, reads) {
    this.limits = limits;
    this.reads = reads;
    for (const name of ["quality", "seed", "prompt"]) byId(`${name}-field`).hidden = !reads.has(name);
    const { least, most } = limits.bounds("quality");
    if (least !== undefined) byId("quality").min = least;
    if (most !== undefined) byId("quality").max = most;
    const longest = limits.longest("prompt");
    if (longest === undefined) byId("prompt").removeAttribute("maxlength");
    else byId("prompt").maxLength = longest;
    offer(byId("remove_background"), limits.choices("remove_background"));
    for (const name of ["quality", "target_faces", "remove_background", "seed", "prompt"]) {
      this.standard[name] = String(limits.standard(name) ?? STANDARD[name]);
    }
    this.fill();
    this.showSize();
  }

  /** The fields of the request, or null after saying at the field what is wrong with it. */
  wish() {
    this.clearErrors();
    const values = this.values(), { reads } = this;
    const sides = values.side === "longest" ? SIDES : [values.side];
    const size = this.number("millimetres", this.limits.bounds("dimensions", sides[0]), " of millimetres");
    const faces = values.target_faces.trim()
      && this.number("target_faces", this.limits.bounds("target_faces"), "", ", or leave it empty");
    const seed = reads.has("seed") && this.number("seed", this.limits.bounds("seed"));
    const bad = this.form.querySelector("input[aria-invalid=true]");
    if (bad) {
      if (byId("advanced").contains(bad)) byId("advanced").open = true;
      bad.focus();
      byId(`${bad.id}-error`).scrollIntoView({ block: "nearest" });
      return null;
    }
    return {
      ...(reads.has("quality") ? { quality: Number(values.quality) } : {}),
      dimensions: Object.fromEntries(sides.map((side) => [side, size])),
      remove_background: values.remove_background,
      ...(faces !== "" ? { target_faces: faces } : {}),
      ...(reads.has("seed") ? { seed } : {}),
      ...(reads.has("prompt") && values.prompt.trim() ? { prompt: values.prompt.trim() } : {}),
    };
  }

  /** The number in a field; says there what to give instead when it is none, or not within the bounds. */
  number(field, bounds, unit = "", more = "") {
    const value = asNumber(byId(field).value);
    if (!fits(value, bounds)) this.refuse(field, `${wanted(bounds, unit)}${more}.`);
    return value;
  }

  refuse(field, text) {
    byId(`${field}-error`).textContent = text;
    byId(field)?.setAttribute("aria-invalid", "true");
  }

  /** What the server refused, at the fields. */
  showRefusal(details) {
    for (const [path, text] of Object.entries(details ?? {})) {
      const field = path.startsWith("dimensions") ? "millimetres" : path;
      if (byId(`${field}-error`)) this.refuse(field, `${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
    }
  }

  clearErrors() {
    for (const field of this.form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
    for (const error of this.form.querySelectorAll(".error[id]")) error.textContent = "";
  }

  /** The options that a job was made with. */
  restore(job) {
    const given = Object.entries(job.dimensions).filter(([, value]) => value);
    const alone = given.length === 1;
    this.change({
      quality: String(job.quality),
      side: alone ? given[0][0] : "longest",
      millimetres: String(alone ? given[0][1] : Math.max(...given.map(([, value]) => value), 0) || this.standard.millimetres),
      target_faces: job.target_faces ? String(job.target_faces) : "",
      remove_background: job.remove_background,
      seed: String(job.seed),
      prompt: job.prompt,
    });
  }

  /** The proportions of the model at hand, [width, height, depth] in any unit, or null. */
  setProportions(extents) {
    this.extents = extents;
    this.showSize();
  }

  showSize() {
    const { side, millimetres: text } = this.values(), size = asNumber(text);
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

/** Let a list offer these choices, with its own words where it has some; null: as it is. */
function offer(select, choices) {
  if (!choices) return;
  const known = new Map([...select.options].map((option) => [option.value, option]));
  select.replaceChildren(...choices.map((value) => known.get(value) ?? el("option", { value }, value)));
}

function remembered() {
  try {
    const kept = JSON.parse(visits.get(KEY)) ?? {};
    return Object.fromEntries(NAMES.filter((name) => typeof kept[name] === "string").map((name) => [name, kept[name]]));
  } catch {
    return {};
  }
}

/** A number as people write it; NaN when it is none. */
function asNumber(text) {
  const trimmed = text.trim().replace(/^(\d+),(\d+)$/, "$1.$2");
  return trimmed === "" ? NaN : Number(trimmed);
}
