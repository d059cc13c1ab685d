// The pictures on the table: each with its file, its job on the server and what became of it. Which one is looked at is
// kept in the address, the others in the tab, so that a reload loses nothing.

import { ApiError, blob, get, patiently, put, remove, request } from "../shared/api.js";
import { tab } from "../shared/store.js";
import { explain } from "../shared/words.js";

const TABLE = "orfeas.table";
/** Sending it once more would end in the same way. */
const NO_PICTURE = new Set(["bad_image", "not_an_image", "too_large", "bad_request"]);
const ACTIVE = new Set(["queued", "initializing", "processing", "generating_3d"]);

class Picture {
  constructor(name) {
    this.name = name;
    this.file = null;
    this.url = null;
    this.jobId = null;
    this.job = null;  // the status as last heard
    this.result = null;  // the status of the last model that was made
    this.phase = "sending";  // or ready, starting, active, done, failed, cancelled
    this.error = null;
    this.refused = false;  // the server takes no such file
    this.mask = null;  // a Blob: the user's own
  }

  get busy() {
    return this.phase === "starting" || this.phase === "active";
  }
}

/** Events: `change` with the picture in `detail` (null: the list itself), `select`, and `file` once that of the current one is here. */
export class Pictures extends EventTarget {
  list = [];
  current = null;

  changed(picture = null) {
    this.dispatchEvent(new CustomEvent("change", { detail: picture }));
  }

  select(picture) {
    this.current = picture;
    this.keep();
    this.dispatchEvent(new CustomEvent("select", { detail: picture }));
    this.changed();
  }

  keep() {
    const id = this.current?.jobId;
    history.replaceState(null, "", id ? `#job=${id}` : location.pathname + location.search);
    tab.set(TABLE, JSON.stringify(this.list.map((each) => each.jobId).filter(Boolean)));
  }

  /** Put files on the table, show the first, and send them one after the other. */
  async add(files) {
    const added = files.map((file) => {
      const picture = new Picture(file.name);
      picture.file = file;
      picture.url = URL.createObjectURL(file);
      return picture;
    });
    this.list.push(...added);
    this.select(added[0]);
    for (const picture of added) if (this.list.includes(picture)) await this.send(picture);
  }

  /** Upload, or upload anew for another model of the same picture. */
  async send(picture) {
    picture.phase = "sending";
    picture.error = null;
    this.changed(picture);
    try {
      const answer = await patiently(() => this.upload(picture));
      picture.jobId = answer.job_id;
      picture.job = null;
      if (picture.mask) await patiently(() => put(`/api/jobs/${picture.jobId}/mask`, picture.mask));
      picture.phase = "ready";
    } catch (error) {
      picture.phase = "failed";
      picture.error = explain(error);
      picture.refused = !picture.jobId && NO_PICTURE.has(error.code);
    }
    this.keep();
    this.changed(picture);
    return picture.phase === "ready";
  }

  async upload(picture) {
    const body = new FormData();
    body.append("image", await this.fileOf(picture), picture.name);
    return (await request("POST", "/api/upload-image", { body })).json();
  }

  async fileOf(picture) {
    picture.file ??= new File([await blob(picture.job.preview_url)], picture.name);
    return picture.file;
  }

  remove(picture) {
    const at = this.list.indexOf(picture);
    this.list.splice(at, 1);
    if (picture.url) URL.revokeObjectURL(picture.url);
    // Nothing was made of it: the server need not keep it.
    if (picture.jobId && !picture.result) remove(`/api/jobs/${picture.jobId}`).catch(() => {});
    if (this.current === picture) this.select(this.list[Math.min(at, this.list.length - 1)] ?? null);
    else this.keep();
    this.changed();
  }

  /** What was on the table before the reload, with the address's job in front of the viewer. */
  async restore() {
    const wanted = new URLSearchParams(location.hash.slice(1)).get("job");
    const ids = new Set(JSON.parse(tab.get(TABLE) ?? "[]"));
    if (wanted) ids.add(wanted);
    let missing = false;
    for (const id of ids) {
      try {
        const picture = this.fromJob(await patiently(() => get(`/api/job-status/${encodeURIComponent(id)}`)));
        this.list.push(picture);
        if (id === wanted) this.select(picture);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        missing ||= id === wanted;
      }
    }
    if (!this.current && this.list.length) this.select(this.list[0]);
    this.changed();
    return !missing;
  }

  /** A job of the server's, from the history or from before a reload. */
  fromJob(job) {
    const picture = new Picture(job.original_filename);
    picture.jobId = job.job_id;
    this.take(picture, job);
    if (picture.phase === "active") picture.began = Date.parse(job.started_at ?? "") || Date.now();
    this.showFile(picture);
    return picture;
  }

  async showFile(picture) {
    try {
      const file = await blob(picture.job.preview_url);
      picture.file = new File([file], picture.name, { type: file.type });
      picture.url = URL.createObjectURL(picture.file);
      if (picture.job.has_user_mask) picture.mask = await blob(`/api/jobs/${picture.jobId}/mask`);
    } catch { /* the row goes without a thumbnail */ }
    this.changed(picture);
    if (picture === this.current) this.dispatchEvent(new CustomEvent("file", { detail: picture }));
  }

  /** Hear a job's status. */
  take(picture, job) {
    picture.job = job;
    picture.error = null;
    if (ACTIVE.has(job.status)) picture.phase = "active";
    else if (job.status === "completed") Object.assign(picture, { phase: "done", result: job });
    else if (job.status === "cancelled") picture.phase = "cancelled";
    else if (job.status === "failed") Object.assign(picture, { phase: "failed", error: explain(job) });
    else picture.phase = "ready";
    this.changed(picture);
  }
}
