// The cache's entries, a page at a time.

import { get, remove } from "../shared/api.js";
import { byId, el, iconButton } from "../shared/dom.js";
import { explain } from "../shared/errors.js";
import { tell } from "../shared/notices.js";
import { bytes, count, seconds } from "../shared/words.js";

const PAGE = 10;
const KINDS = { shape: "Shape", file: "File" };

export class CacheEntries {
  constructor(onChange) {
    this.onChange = onChange;
    this.offset = 0;
    byId("entries-back").addEventListener("click", () => this.load(this.offset - PAGE));
    byId("entries-on").addEventListener("click", () => this.load(this.offset + PAGE));
  }

  async load(offset = this.offset, options = {}) {
    const { entries, total } = await get(`/api/cache/entries?limit=${PAGE}&offset=${Math.max(0, offset)}`, options);
    if (!entries.length && offset > 0) return this.load(offset - PAGE, options);
    this.offset = Math.max(0, offset);
    const rows = entries.map((entry) => this.row(entry)), focused = document.activeElement?.dataset.key;
    const none = el("tr", {}, el("td", { colSpan: 5, className: "hint" }, "Nothing is cached."));
    byId("entries").replaceChildren(...(rows.length ? rows : [none]));
    rows.map((each) => each.querySelector("button")).find((button) => button.dataset.key === focused)?.focus();
    const last = this.offset + entries.length;
    byId("entries-page").textContent = total ? `${count(this.offset + 1)} to ${count(last)} of ${count(total)}` : "";
    byId("entries-back").disabled = this.offset === 0;
    byId("entries-on").disabled = last >= total;
  }

  row({ key, size_mb: size, age_seconds: age, access_count: hits }) {
    const [kind, digest] = key.split(":");
    const name = `${KINDS[kind] ?? kind} ${digest?.slice(0, 8) ?? ""}`;
    const drop = iconButton("trash", `Delete ${name}`, () => this.drop(key, name), { dataset: { key } });
    return el(
      "tr", {},
      el("td", { title: key }, `${KINDS[kind] ?? kind} `, el("code", {}, digest?.slice(0, 8) ?? "")),
      el("td", {}, bytes(Math.round(size * 1e6))),
      el("td", {}, age === null ? "–" : seconds(age)),
      el("td", {}, hits === null ? "–" : count(hits)),
      el("td", {}, drop),
    );
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
