// The cache panel: what the cache does, drawn over time and tier by tier, with its entries and its limits.

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
/** What is said before a tier is cleared. */
const CLEARING = {
  all: ["Clear the cache?", "Every cached cut-out, shape and file is dropped, from memory and from the disk, pinned ones "
    + "too; the next requests take their full time."],
  memory: ["Clear the memory?", "What is on the disk, too, is read from there when it is asked for again."],
  disk: ["Clear the disk?", "What is in memory, too, is answered from there until the server stops. Pinned entries are "
    + "dropped, too."],
};

export class CachePanel {
  constructor() {
    this.samples = [];
    this.dialog = byId("cache");
    this.charts = {
      rate: new Chart("Hit rate"), memory: new Chart("Memory"), disk: new Chart("Disk"), saved: new Chart("Time saved"),
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
    this.entries.onDisk = stats.disk.max_mb > 0;
    byId("cache-rate").textContent = stats.hits + stats.misses ? `${Math.round(stats.hit_rate_percent)} %` : "";
    if (!this.dialog.open) return;
    this.draw(stats);
    byId("cache-note").textContent = !enabled ? "The cache is off (DISABLE_RESULT_CACHE): every request generates."
      : fallback ? `The cache had a fault, and a plain dictionary took over until the restart: ${fallback}`
        : backend === "dict" ? "A plain dictionary is in use in memory (CACHE_BACKEND=dict): it has no limits."
          : "The same request again, or the same picture in another format or size, is answered from here.";
  }

  draw(stats) {
    const over = (read) => this.samples.map((each) => [each.time, read(each.stats) ?? 0]);
    const { disk, max_memory_mb: bound } = stats, used = stats.memory_utilization_percent.toFixed(1);
    this.charts.rate.draw(over((each) => each.hit_rate_percent), {
      value: `${stats.hit_rate_percent.toFixed(1)} %`, top: 100,
      note: `${count(stats.hits)} hits, ${count(stats.misses)} misses`,
    });
    this.charts.memory.draw(over((each) => each.current_memory_mb), {
      value: `${megabytes(stats.current_memory_mb)} MB`, top: stats.current_memory_mb * 1.1, bound,
      note: bound === null ? "no bound" : `${used} % of ${megabytes(bound)} MB, most ${megabytes(stats.max_memory_seen_mb)} MB`,
    });
    this.charts.disk.draw(over((each) => each.disk.mb), {
      value: `${megabytes(disk.mb)} MB`, top: disk.mb * 1.1, bound: disk.max_mb,
      note: disk.max_mb ? `${disk.utilization_percent.toFixed(1)} % of ${megabytes(disk.max_mb)} MB` : "off: CACHE_DISK_MB is 0",
    });
    this.charts.saved.draw(over((each) => each.seconds_saved), {
      value: seconds(stats.seconds_saved), top: 1,
      note: "less waiting, since the server started",
    });
    this.charts.evictions.draw(over((each) => each.evictions + each.disk.evictions), {
      value: count(stats.evictions + disk.evictions), top: 1,
      note: `memory: ${count(stats.evictions_by_count)} for their number, ${count(stats.evictions_by_size)} for their size; `
        + `disk: ${count(disk.evictions)}`,
    });
    this.charts.coalesced.draw(over((each) => each.coalesced), {
      value: count(stats.coalesced), top: 1,
      note: "asked for while already under way",
    });
    byId("cache-facts").replaceChildren(...facts(stats).map(([name, memory, onDisk]) => (
      el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, memory), el("td", {}, onDisk))
    )));
  }

  async clear() {
    const tier = byId("clear-tier").value, [title, text] = CLEARING[tier];
    if (!(await confirmed(title, `${text} Finished models in the history stay.`, "Clear it"))) return;
    try {
      tell((await post(`/api/cache/clear?tier=${tier}`, {})).message);
      await this.refresh();
    } catch (error) {
      tell(explain(error));
    }
  }
}

/** Rows of the table: what it is, in memory, on the disk. */
function facts(stats) {
  const { disk } = stats;
  const of = (value, most, unit = "") => `${value}${most === null ? "" : ` of ${most}`}${unit}`;
  const most = (value, write) => (value === null ? null : write(value));
  return [
    ["Entries", of(count(stats.current_items), most(stats.max_items, count)), count(disk.items)],
    [
      "Size", of(megabytes(stats.current_memory_mb), most(stats.max_memory_mb, megabytes), " MB"),
      disk.max_mb ? of(megabytes(disk.mb), megabytes(disk.max_mb), " MB") : "off",
    ],
    ["Hits", count(stats.hits - disk.hits), count(disk.hits)],
    ["Evicted", count(stats.evictions), count(disk.evictions)],
    ["Expired", count(stats.expirations), count(disk.expirations)],
    ["Too large", count(stats.rejected), count(disk.rejected)],
    ["Damaged", "–", count(disk.damaged)],
    ["Pinned", "–", count(disk.pinned)],
  ];
}

const megabytes = (value) => (value >= 100 ? value.toFixed(0) : value.toFixed(1));
