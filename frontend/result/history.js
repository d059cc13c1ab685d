// Past results, newest first: look at one again with its options, save it in any format, delete it.

import { blob, get, patiently, put, remove } from "../shared/api.js";
import { byId, el, iconButton } from "../shared/dom.js";
import { explain, isEvicted } from "../shared/errors.js";
import { confirmed, tell } from "../shared/notices.js";
import { sizesInShort, when } from "../shared/words.js";
import { thumbnail } from "../viewer/thumbnail.js";
import { path } from "./files.js";
import { saveAs } from "./save_as.js";

const PAGE = 24;
/** The server keeps no more jobs. */
const ALL = 500;

export class History {
  /** `onOpen(job)` when one is chosen, `onMake(job)` to have it made again, `onDelete(job)` after one is gone. */
  constructor(onOpen, onMake, onDelete) {
    this.onOpen = onOpen;
    this.onMake = onMake;
    this.onDelete = onDelete;
    this.jobs = [];
    this.limit = PAGE;
    this.total = 0;
    this.shots = new Map();  // job id → address of its picture
    this.current = null;
    byId("history-more").addEventListener("click", () => this.load(this.limit + PAGE));
  }

  /** Completed jobs, and those whose model had to make room. */
  async load(limit = this.limit) {
    const page = await patiently(() => get(`/api/jobs?status=completed&limit=${limit}`));
    const failed = await patiently(() => get(`/api/jobs?status=failed&limit=${ALL}`));
    const evicted = failed.jobs.filter(isEvicted), all = [...page.jobs, ...evicted];
    this.limit = limit;
    this.jobs = all.sort((a, b) => Date.parse(b.created_at) - Date.parse(a.created_at)).slice(0, limit);
    this.total = page.total + evicted.length;
    this.render();
  }

  render() {
    byId("history-empty").hidden = this.jobs.length > 0;
    byId("history-count").textContent = this.total ? String(this.total) : "";
    byId("history-more").hidden = this.jobs.length >= this.total;
    const strip = byId("history"), focused = document.activeElement?.closest("#history li")?.dataset.job;
    strip.replaceChildren(...this.jobs.map((job) => this.card(job)));
    if (focused) strip.querySelector(`[data-job="${focused}"] .open`)?.focus();
  }

  /** The picture whose model is looked at, or null. */
  mark(picture) {
    const jobId = this.current = picture?.result?.job_id ?? picture?.jobId ?? null;
    for (const item of byId("history").children) item.dataset.current = item.dataset.job === jobId;
  }

  card(job) {
    const name = job.original_filename, evicted = isEvicted(job);
    const shot = el("img", { className: "shot", alt: "" });
    this.showShot(job, shot);
    const open = el(
      "button", { type: "button", className: "open", title: `Show ${name} and its options again` },
      shot,
      el("b", {}, name),
      el("small", {}, evicted ? "Had to make room" : sizesInShort(job.mesh.extents_mm)),
      el("small", {}, `Quality ${job.quality} · ${when(job.finished_at)}`),
    );
    open.addEventListener("click", () => this.onOpen(job));
    const act = evicted ? link("Make again", `Make again: ${name}`, () => this.onMake(job))
      : link("Save as…", `Save ${name} in a format`, () => saveAs(job));
    const actions = el("div", { className: "strip-actions" }, act, iconButton("trash", `Delete ${name}`, () => this.drop(job)));
    return el("li", { dataset: { job: job.job_id, current: job.job_id === this.current } }, open, actions);
  }

  /** The model's thumbnail where there is one, else the picture it was made from. */
  async showShot(job, image) {
    const kept = this.shots.get(job.job_id);
    if (kept?.of === (job.thumbnail_url ?? job.preview_url)) {
      image.src = kept.url;
      image.classList.toggle("photo", !job.thumbnail_url);
      return;
    }
    try {
      const of = job.thumbnail_url ?? job.preview_url;
      const url = URL.createObjectURL(await blob(of));
      if (kept) URL.revokeObjectURL(kept.url);
      this.shots.set(job.job_id, { of, url });
      image.src = url;
      image.classList.toggle("photo", !job.thumbnail_url);
    } catch { /* a card without a picture is still of use */ }
  }

  async drop(job) {
    const text = `${job.original_filename} and its files will be gone from the server.`;
    if (!(await confirmed("Delete this model?", text, "Delete"))) return;
    try {
      await remove(`/api/jobs/${job.job_id}`);
    } catch (error) {
      if (error.status !== 404) return tell(explain(error));
    }
    tell(`${job.original_filename} was deleted.`);
    this.onDelete(job);
    await this.load();
    (byId("history").querySelector(".open") ?? byId("make")).focus();
  }

  /** A model was made: draw its thumbnail, give it to the server, show it. */
  async added(job, glb = null) {
    if (!job.thumbnail_url) {
      try {
        const file = glb ?? await blob(path(job, "glb"));
        const picture = await thumbnail(await file.arrayBuffer());
        if (picture) await put(`/api/jobs/${job.job_id}/thumbnail`, picture);
      } catch (error) {
        console.info("no thumbnail:", error.message);
      }
    }
    this.forgetShot(job.job_id);
    await this.load();
  }

  forgetShot(jobId) {
    const kept = this.shots.get(jobId);
    if (kept) URL.revokeObjectURL(kept.url);
    this.shots.delete(jobId);
  }
}

function link(text, label, onClick) {
  const button = el("button", { type: "button", className: "link", "aria-label": label }, text);
  button.addEventListener("click", onClick);
  return button;
}
