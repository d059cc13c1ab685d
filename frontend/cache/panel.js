// The cache panel: what the cache does, drawn over time, with its entries and its limits.

import { get, post } from "../shared/api.js";
import { byId, el } from "../shared/dom.js";
import { explain } from "../shared/errors.js";
import { confirmed, tell } from "../shared/notices.js";
import { count, seconds } from "../shared/words.js";
import { Chart } from "./chart.js";
import { CacheEntries } from "./entries.js";
import { CacheLimits } from "./limits.js";

const OPEN_MS = 2000, CLOSED_MS = 15_000;
const KEEP = 600;
/** Nobody pressed anything: no reason to ask for a key. */
const QUIET = { quiet: true };

export class CachePanel {
  constructor() {
    this.samples = [];
    this.dialog = byId("cache");
    this.charts = {
      rate: new Chart("Hit rate"), memory: new Chart("Memory"), saved: new Chart("Time saved"),
      evictions: new Chart("Evictions"), coalesced: new Chart("Coalesced"),
    };
    byId("charts").append(...Object.values(this.charts).map((chart) => chart.element));
    this.entries = new CacheEntries(() => this.sample());
    this.limits = new CacheLimits(() => this.refresh());
    byId("open-cache").addEventListener("click", () => this.open());
    byId("close-cache").addEventListener("click", () => this.dialog.close());
    byId("clear-cache").addEventListener("click", () => this.clear());
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog && event.offsetX < 0) this.dialog.close();  // beside the drawer
    });
    this.tick();
  }

  async open() {
    this.dialog.showModal();
    try {
      await Promise.all([this.limits.load(), this.refresh()]);
    } catch (error) {
      byId("cache-note").textContent = explain(error);
    }
    this.tick();
  }

  async tick() {
    clearTimeout(this.timer);
    if (!document.hidden) await (this.dialog.open ? this.refresh(QUIET) : this.sample(QUIET)).catch(() => {});
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.tick(), this.dialog.open ? OPEN_MS : CLOSED_MS);
  }

  async refresh(options) {
    await this.sample(options);
    await this.entries.load(undefined, options);
  }

  async sample(options) {
    const { stats, cache_enabled: enabled, backend, fallback_reason: fallback } = await get("/api/cache/stats", options);
    this.samples.push({ time: Date.now(), stats });
    if (this.samples.length > KEEP) this.samples.splice(1, 1);
    byId("cache-rate").textContent = stats.hits + stats.misses ? `${Math.round(stats.hit_rate_percent)} %` : "";
    if (!this.dialog.open) return;
    this.draw(stats);
    byId("cache-note").textContent = !enabled ? "The cache is off (DISABLE_RESULT_CACHE): every request generates."
      : fallback ? `The cache had a fault, and a plain dictionary took over until the restart: ${fallback}`
        : backend === "dict" ? "A plain dictionary is in use (CACHE_BACKEND=dict): it has no limits."
          : "The same request again, or the same picture in another format or size, is answered from here.";
  }

  draw(stats) {
    const over = (name) => this.samples.map((each) => [each.time, each.stats[name] ?? 0]);
    const bound = stats.max_memory_mb, used = stats.memory_utilization_percent.toFixed(1);
    this.charts.rate.draw(over("hit_rate_percent"), {
      value: `${stats.hit_rate_percent.toFixed(1)} %`, top: 100,
      note: `${count(stats.hits)} hits, ${count(stats.misses)} misses`,
    });
    this.charts.memory.draw(over("current_memory_mb"), {
      value: `${megabytes(stats.current_memory_mb)} MB`, top: stats.current_memory_mb * 1.1, bound,
      note: bound === null ? "no bound" : `${used} % of ${megabytes(bound)} MB, most ${megabytes(stats.max_memory_seen_mb)} MB`,
    });
    this.charts.saved.draw(over("seconds_saved"), {
      value: seconds(stats.seconds_saved), top: 1,
      note: "less waiting, since the server started",
    });
    this.charts.evictions.draw(over("evictions"), {
      value: count(stats.evictions), top: 1,
      note: `${count(stats.evictions_by_count)} for their number, ${count(stats.evictions_by_size)} for their size`,
    });
    this.charts.coalesced.draw(over("coalesced"), {
      value: count(stats.coalesced), top: 1,
      note: "asked for while already under way",
    });
    const facts = {
      Entries: `${count(stats.current_items)}${stats.max_items === null ? "" : ` of ${count(stats.max_items)}`}`,
      Expired: count(stats.expirations),
      "Too large": count(stats.rejected),
    };
    const pair = ([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
    byId("cache-facts").replaceChildren(...Object.entries(facts).map(pair));
  }

  async clear() {
    const text = "Every cached shape and file is dropped; the next requests take their full time. "
      + "Finished models in the history stay.";
    if (!(await confirmed("Clear the cache?", text, "Clear it"))) return;
    try {
      tell((await post("/api/cache/clear", {})).message);
      await this.refresh();
    } catch (error) {
      tell(explain(error));
    }
  }
}

const megabytes = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
