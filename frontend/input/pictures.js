// The pictures on the table. Which one is looked at is kept in the address, the others in the tab, so that a reload loses
// nothing.

import { blob, get, patiently, put, remove, request } from "../shared/api.js";
import { ApiError } from "../shared/errors.js";
import { tab } from "../shared/store.js";
import { Picture } from "./picture.js";

const TABLE = "orfeas.table";

/** Events: `change` with the picture in `detail` (null: the list itself), `select`, and `file` once that of the current one is here. */
export class Pictures extends EventTarget {
  list = [];
  current = null;
  /** The largest file that the server takes, in MB. */
  mostMb = Infinity;

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
    const added = files.map((file) => Picture.ofFile(file));
    this.list.push(...added);
    this.select(added[0]);
    for (const picture of added) if (this.list.includes(picture)) await this.send(picture);
  }

  /** Upload, or upload anew for another model of the same picture. */
  async send(picture) {
    picture.enter("sending");
    this.changed(picture);
    try {
      const answer = await patiently(() => this.upload(picture));
      picture.sent(answer.job_id);
      if (picture.mask) await patiently(() => put(`/api/jobs/${picture.jobId}/mask`, picture.mask));
      picture.enter("ready");
    } catch (error) {
      picture.notSent(error);
    }
    this.keep();
    this.changed(picture);
    return picture.phase === "ready";
  }

  async upload(picture) {
    if (!picture.file) picture.keepFile(await this.fetchFile(picture));
    if (picture.file.size > this.mostMb * 1e6) {
      throw new ApiError(413, { error: `the picture is larger than ${this.mostMb} MB`, code: "too_large" });
    }
    const body = new FormData();
    body.append("image", picture.file, picture.name);
    return (await request("POST", "/api/upload-image", { body })).json();
  }

  async fetchFile(picture) {
    const file = await blob(picture.job.preview_url);
    return new File([file], picture.name, { type: file.type });
  }

  remove(picture) {
    const at = this.list.indexOf(picture);
    this.list.splice(at, 1);
    if (picture.url) URL.revokeObjectURL(picture.url);
    // Nothing was made of it: the server need not keep it.
    if (picture.jobId && !picture.wasMade) remove(`/api/jobs/${picture.jobId}`).catch(() => {});
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
        missing ||= id === wanted && [404, 410].includes(error.status);
      }
    }
    if (!this.current && this.list.length) this.select(this.list[0]);
    this.changed();
    return !missing;
  }

  /** A job of the server's as a picture, which is not on the table yet. */
  fromJob(job) {
    const picture = Picture.ofJob(job);
    this.showFile(picture);
    return picture;
  }

  async showFile(picture) {
    try {
      picture.keepFile(await this.fetchFile(picture));
      if (picture.job.has_user_mask) picture.mask = await blob(`/api/jobs/${picture.jobId}/mask`);
    } catch { /* the row goes without a thumbnail */ }
    this.changed(picture);
    if (picture === this.current) this.dispatchEvent(new CustomEvent("file", { detail: picture }));
  }

  /** Hear a job's status. */
  hear(picture, job) {
    picture.hear(job);
    this.changed(picture);
  }
}
