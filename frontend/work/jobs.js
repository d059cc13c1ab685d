// Starts jobs, follows them until they end, cancels them; carries on after the server was lost.

import { get, patiently, pause, post, remove, untilBack } from "../shared/api.js";
import { ApiError, isPictureGone, ServerLostError } from "../shared/errors.js";
import { Attempt, isRepeat } from "./attempt.js";

const LONGEST_WAIT_S = 10;
const BREATH_MS = 80;
/** After this long without the answer that was due, the server counts as lost. */
const SILENCE_S = 8;
const MOST_RESTARTS = 2;

/** Event: `end` with the picture in `detail`, once its job is done, failed or cancelled. */
export class Jobs extends EventTarget {
  /** `usualModel()`: the id of the model that makes what asks for none. */
  constructor(pictures, usualModel) {
    super();
    this.pictures = pictures;
    this.usualModel = usualModel;
    this.following = false;
  }

  /** `wish`: the fields of the request without its job. */
  async start(picture, wish) {
    const { job } = picture;
    picture.attempt = new Attempt(wish);
    // Another model of the same picture gets a job of its own, so that the history keeps both.
    const another = job?.status === "completed" && !isRepeat(job, wish, this.usualModel());
    if (another || !picture.jobId) {
      if (!(await this.pictures.send(picture))) return this.ended(picture);
    }
    await this.begin(picture);
  }

  async begin(picture) {
    const { attempt } = picture;
    picture.enter("starting");
    this.pictures.changed(picture);
    const clock = performance.now();
    try {
      const job = await patiently(() => this.ask(picture), () => this.pictures.changed(picture));
      if (job.status === "completed") attempt.took = (performance.now() - clock) / 1000;
      this.hear(picture, job);
    } catch (error) {
      if (isPictureGone(error) && picture.file && !attempt.resent) return this.resend(picture);
      this.fail(picture, error);
    }
    if (attempt.unwanted && !attempt.over) await this.cancel(picture);
    this.follow();
  }

  async ask({ attempt, jobId }) {
    try {
      return await post("/api/generate-3d", { ...attempt.wish, job_id: jobId, format: "glb" });
    } catch (error) {
      // The first try had come through, only its answer was lost.
      if (error.code === "job_busy") return get(`/api/job-status/${jobId}`);
      throw error;
    }
  }

  /** The server no longer has the picture: send it again. */
  async resend(picture) {
    picture.attempt.resent = true;
    if (await this.pictures.send(picture)) await this.begin(picture);
    else this.ended(picture);
  }

  hear(picture, job) {
    const { attempt } = picture;
    this.pictures.hear(picture, job);
    const failure = picture.phase === "failed" ? job.error_type : null;
    if (failure === "stopped" && attempt.restarts < MOST_RESTARTS) {
      attempt.restarts++;  // the server was restarted under it
      this.begin(picture);
    } else if (failure === "upload_lost" && picture.file && !attempt.resent) this.resend(picture);
    else if (!picture.busy) this.ended(picture);
  }

  fail(picture, error) {
    picture.attempt.refusal = error.details ?? null;
    picture.fail(error);
    this.pictures.changed(picture);
    this.ended(picture);
  }

  ended(picture) {
    picture.attempt.over = true;
    this.dispatchEvent(new CustomEvent("end", { detail: picture }));
  }

  async cancel(picture) {
    if (picture.phase !== "active") {
      if (picture.atWork) picture.attempt.unwanted = true;
      return;
    }
    try {
      await remove(`/api/jobs/${picture.jobId}`);
      this.hear(picture, { ...picture.job, status: "cancelled" });
    } catch (error) {
      if (![404, 410].includes(error.status) && !(error instanceof ServerLostError)) throw error;
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
    const { attempt, jobId, job: { version } } = picture;
    const query = wait ? `?wait=${wait}&since=${version ?? 0}` : "";
    const stillMeant = () => picture.phase === "active" && picture.attempt === attempt && picture.jobId === jobId;
    try {
      const signal = AbortSignal.timeout((wait + SILENCE_S) * 1000);
      const job = await get(`/api/job-status/${jobId}${query}`, { signal });
      if (stillMeant()) this.hear(picture, job);
    } catch (error) {
      if (error instanceof ServerLostError) return untilBack();
      if (!(error instanceof ApiError)) throw error;
      if (!stillMeant()) return;
      if (isPictureGone(error) && picture.file) await this.resend(picture);
      else if (error.status === 410) this.hear(picture, { ...picture.job, status: "cancelled" });
      else this.fail(picture, error);
    }
  }
}
