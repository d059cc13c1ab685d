// The cache's entries, a page at a time.

import { get, put, remove } from "../shared/api.js";
import { byId, el, iconButton } from "../shared/dom.js";
import { explain } from "../shared/errors.js";
import { say, tell } from "../shared/notices.js";
import { bytes, count, seconds } from "../shared/words.js";

const PAGE = 10;
const KINDS = { cutout: "Cut-out", shape: "Shape", file: "File" };

export class CacheEntries {
  constructor(onChange) {
    this.onChange = onChange;
    this.offset = 0;
    /** Whether there is a disk tier, on which an entry can be pinned. */
    this.onDisk = false;
    byId("entries-back").addEventListener("click", () => this.load(this.offset - PAGE));
    byId("entries-on").addEventListener("click", () => this.load(this.offset + PAGE));
  }

  async load(offset = this.offset, options = {}) {
    const { entries, total } = await get(`/api/cache/entries?limit=${PAGE}&offset=${Math.max(0, offset)}`, options);
    if (!entries.length && offset > 0) return this.load(offset - PAGE, options);
    this.offset = Math.max(0, offset);
    const rows = entries.map((entry) => this.row(entry)), { key, act } = document.activeElement?.dataset ?? {};
    const none = el("tr", {}, el("td", { colSpan: 6, className: "hint" }, "Nothing is cached."));
    byId("entries").replaceChildren(...(rows.length ? rows : [none]));
    const buttons = [...byId("entries").querySelectorAll("button")];
    buttons.find(({ dataset }) => dataset.key === key && dataset.act === act)?.focus();
    const last = this.offset + entries.length;
    byId("entries-page").textContent = total ? `${count(this.offset + 1)} to ${count(last)} of ${count(total)}` : "";
    byId("entries-back").disabled = this.offset === 0;
    byId("entries-on").disabled = last >= total;
  }

  row({ key, size_mb: size, age_seconds: age, access_count: hits, tier, on_disk: onDisk, pinned }) {
    const [kind, digest] = key.split(":");
    const name = `${KINDS[kind] ?? kind} ${digest?.slice(0, 8) ?? ""}`;
    const pin = this.onDisk && iconButton(
      "pin", `Keep ${name} on the disk`, () => this.pin(key, name, !pinned),
      { "aria-pressed": String(pinned), dataset: { key, act: "pin" } },
    );
    const drop = iconButton("trash", `Delete ${name}`, () => this.drop(key, name), { dataset: { key, act: "drop" } });
    return el(
      "tr", {},
      el("td", { title: key }, `${KINDS[kind] ?? kind} `, el("code", {}, digest?.slice(0, 8) ?? "")),
      el("td", {}, bytes(Math.round(size * 1e6))),
      el("td", {}, tier === "disk" ? "Disk" : onDisk ? "Both" : "Memory"),
      el("td", { className: "beside" }, age === null ? "–" : seconds(age)),
      el("td", { className: "beside" }, hits === null ? "–" : count(hits)),
      el("td", {}, ...(pin ? [pin] : []), drop),
    );
  }

  async pin(key, name, pinned) {
    const path = `/api/cache/entries/${encodeURIComponent(key)}/pin`;
    try {
      await (pinned ? put(path) : remove(path));
      say(pinned ? `${name} stays on the disk until it is unpinned.` : `${name} is no longer pinned.`);
    } catch (error) {
      tell(error.status === 404 ? `${name} is not on the disk any more, or has no room there.` : explain(error));
    }
    await this.load();
    this.onChange();
  }

  async drop(key, name) {
    try {
      await remove(`/api/cache/entries/${encodeURIComponent(key)}`);
      tell(`${name} was deleted.`);
    } catch (error) {
      if (error.status !== 404) return tell(explain(error));
    }
    await this.load();
    (byId("entries").querySelector("button") ?? byId("close-cache")).focus();
    this.onChange();
  }
}
