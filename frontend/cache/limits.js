// The cache's limits: shown, edited, and refused at the field by the server's own check.

import { get, post } from "../shared/api.js";
import { byId } from "../shared/dom.js";
import { explain } from "../shared/errors.js";
import { say } from "../shared/notices.js";

const FIELDS = ["max_size", "max_memory_mb", "default_ttl_seconds"];

export class CacheLimits {
  constructor(onChange) {
    this.onChange = onChange;
    this.known = {};
    byId("limits").addEventListener("submit", (event) => {
      event.preventDefault();
      this.save();
    });
    byId("limits").addEventListener("input", () => { byId("limits-done").textContent = ""; });
  }

  async load() {
    this.fill((await get("/api/cache/config")).config);
  }

  fill(config) {
    this.known = Object.fromEntries(FIELDS.map((name) => [name, config[name] === null ? "" : String(config[name])]));
    for (const name of FIELDS) byId(name).value = this.known[name];
    this.showErrors({});
  }

  async save() {
    const changed = FIELDS.filter((name) => byId(name).value.trim() !== this.known[name]);
    if (!changed.length) {
      this.showErrors({});
      byId("limits-done").textContent = "Nothing was changed.";
      return;
    }
    const changes = Object.fromEntries(changed.map((name) => [name, typed(name, byId(name).value.trim())]));
    try {
      this.fill((await post("/api/cache/config", changes)).config);
      byId("limits-done").textContent = "The limits are in force.";
      this.onChange();
    } catch (error) {
      this.showErrors(error.details ?? {});
      const bad = FIELDS.find((name) => error.details?.[name]);
      if (bad) byId(bad).focus();
      byId("limits-done").textContent = bad ? "Nothing was changed: correct the marked field." : explain(error);
      say(byId("limits-done").textContent);
    }
  }

  showErrors(details) {
    for (const name of FIELDS) {
      byId(`${name}-error`).textContent = details[name] ? `${details[name]}.` : "";
      byId(name).setAttribute("aria-invalid", String(Boolean(details[name])));
    }
  }
}

/** What was typed, as JSON; the server says what is wrong with it. */
function typed(name, text) {
  if (text === "") return name === "default_ttl_seconds" ? null : text;
  return Number.isNaN(Number(text)) ? text : Number(text);
}
