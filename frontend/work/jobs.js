// Starts jobs, follows them until they end, cancels them; carries on after the server was lost.

import { ApiError, get, patiently, pause, post, remove, ServerLostError, untilBack } from "../shared/api.js";
import { explain } from "../shared/words.js";

const LONGEST_WAIT_S = 10;
const BREATH_MS = 80;
/** After this long without the answer that was due, the server counts as lost. */
const SILENCE_S = 8;

/** Event: `end` with the picture in `detail`, once its job is done, failed or cancelled. */
export class Jobs extends EventTarget {
  constructor(pictures) {
    super();
    this.pictures = pictures;
    this.following = false;
  }

  /** `wish`: the fields of the request without its job. */
  async start(picture, wish) {
    const made = picture.job?.status === "completed";
    const same = picture.wish === JSON.stringify(wish);
    picture.began = Date.now();
    picture.restarts = 0;
    // Another model of the same picture gets a job of its own, so that the history keeps both.
    if ((made && !same) || !picture.jobId) {
      if (!(await this.pictures.send(picture))) return this.ended(picture);
    }
    await this.begin(picture, wish);
  }

  async begin(picture, wish) {
    Object.assign(picture, { phase: "starting", error: null, wishes: wish, wish: JSON.stringify(wish), took: null });
    this.pictures.changed(picture);
    const clock = performance.now();
    try {
      const job = await patiently(() => this.ask(picture, wish), () => this.pictures.changed(picture));
      if (job.status === "completed") picture.took = (performance.now() - clock) / 1000;
      this.hear(picture, job);
    } catch (error) {
      if (error.status === 404 && picture.file && !picture.resent) return this.resend(picture, wish);
      this.fail(picture, error);
    }
    if (picture.unwanted) await this.cancel(picture);
    this.follow();
  }

  async ask(picture, wish) {
    try {
      return await post("/api/generate-3d", { ...wish, job_id: picture.jobId, format: "glb" });
    } catch (error) {
      // The first try had come through, only its answer was lost.
      if (error.code === "job_busy") return get(`/api/job-status/${picture.jobId}`);
      throw error;
    }
  }

  /** The server no longer knows the picture: send it again. */
  async resend(picture, wish) {
    picture.resent = true;
    if (await this.pictures.send(picture)) await this.begin(picture, wish);
    else this.ended(picture);
  }

  hear(picture, job) {
    this.pictures.take(picture, job);
    const restarts = picture.restarts ?? 0;
    if (picture.phase === "failed" && job.error_type === "stopped" && restarts < 2) {
      picture.restarts = restarts + 1;  // the server was restarted under it
      this.begin(picture, wishOf(picture));
    } else if (!picture.busy) {
      this.ended(picture);
    }
  }

  fail(picture, error) {
    Object.assign(picture, { phase: "failed", error: explain(error), refusal: error.details });
    this.pictures.changed(picture);
    this.ended(picture);
  }

  ended(picture) {
    picture.unwanted = picture.resent = false;
    this.dispatchEvent(new CustomEvent("end", { detail: picture }));
  }

  async cancel(picture) {
    if (picture.phase === "starting") {
      picture.unwanted = true;
      return;
    }
    if (picture.phase !== "active") return;
    try {
      await remove(`/api/jobs/${picture.jobId}`);
      this.hear(picture, { ...picture.job, status: "cancelled" });
    } catch (error) {
      if (error.status !== 404 && !(error instanceof ServerLostError)) throw error;
    }
  }

  /** One loop for all jobs: waits for the one that runs, then looks after the others. */
  async follow() {
    if (this.following) return;
    this.following = true;
    try {
      for (let active = this.active(); active.length; active = this.active()) {
        await this.look(active[0], LONGEST_WAIT_S);
        for (const picture of active.slice(1)) await this.look(picture, 0);
        await pause(BREATH_MS);
      }
    } finally {
      this.following = false;
    }
  }

  active() {
    return this.pictures.list
      .filter((picture) => picture.phase === "active")
      .sort((a, b) => (a.job.queue_position ?? 0) - (b.job.queue_position ?? 0));
  }

  async look(picture, wait) {
    if (picture.phase !== "active") return;
    const { jobId, job: { version } } = picture;
    const query = wait ? `?wait=${wait}&since=${version ?? 0}` : "";
    try {
      const signal = AbortSignal.timeout((wait + SILENCE_S) * 1000);
      const job = await get(`/api/job-status/${jobId}${query}`, { signal });
      if (picture.phase === "active" && picture.jobId === jobId) this.hear(picture, job);
    } catch (error) {
      if (error instanceof ServerLostError) await untilBack();
      else if (error.status === 410) this.hear(picture, { ...picture.job, status: "cancelled" });
      else if (error.status === 404 && picture.file) await this.resend(picture, wishOf(picture));
      else if (error instanceof ApiError) this.fail(picture, error);
      else throw error;
    }
  }
}

/** What was asked for: remembered, or after a reload as the job has it. */
function wishOf({ wishes, job }) {
  if (wishes) return wishes;
  const { quality, dimensions, fit, remove_background, target_faces, seed, prompt } = job;
  return { quality, dimensions, fit, remove_background, target_faces, seed, prompt };
}
