// What a picture is: its file, its job on the server, and where it stands.

import { explain, isEvicted } from "../shared/errors.js";
import { Attempt, isActive } from "../work/attempt.js";

/** Sending it once more would end in the same way. */
const NO_PICTURE = new Set(["not_an_image", "too_large", "bad_request"]);

export class Picture {
  name;
  /** The file and its address within the page, once they are here. */
  file = null;
  url = null;
  /** The job on the server, and its status as last heard. */
  jobId = null;
  job = null;
  /** The status of the last model that was made: it stays while another is being made. */
  result = null;
  /** `sending`, `ready`, `starting`, `active`, `done`, `failed` or `cancelled`. */
  phase = "sending";
  /** Why it failed and what to do about it. */
  error = null;
  /** The server takes no such file. */
  refused = false;
  /** The user's own mask, a Blob; and strokes that are not in force yet, a MaskLayer. */
  mask = null;
  draft = null;
  /** The latest attempt at a model of it: an Attempt, which belongs to Jobs. */
  attempt = null;

  constructor(name) {
    this.name = name;
    Object.seal(this);
  }

  static ofFile(file) {
    const picture = new Picture(file.name);
    picture.keepFile(file);
    return picture;
  }

  /** A job of the server's, from the history or from before a reload. */
  static ofJob(job) {
    const picture = new Picture(job.original_filename);
    picture.jobId = job.job_id;
    picture.attempt = Attempt.underWay(job);
    picture.hear(job);
    return picture;
  }

  /** A job is on its way or under way. */
  get busy() {
    return this.phase === "starting" || this.phase === "active";
  }

  /** A model is being made, be it that the picture has to be sent for it first. */
  get atWork() {
    return this.busy || (this.phase === "sending" && Boolean(this.attempt) && !this.attempt.over);
  }

  /** It can be sent again without asking the server for it. */
  keepFile(file) {
    this.file = file;
    this.url ??= URL.createObjectURL(file);
  }

  enter(phase) {
    this.phase = phase;
    this.error = null;
  }

  /** The server has it, as a new job. */
  sent(jobId) {
    this.jobId = jobId;
    this.job = null;
  }

  notSent(error) {
    this.fail(error);
    this.refused = !this.jobId && NO_PICTURE.has(error.code);
  }

  /** `error`: one of ours, or a failed job's status. */
  fail(error) {
    this.phase = "failed";
    this.error = explain(error);
  }

  /** What the job's status means for it. */
  hear(job) {
    this.job = job;
    this.error = null;
    if (isActive(job)) this.phase = "active";
    else if (job.status === "completed") {
      this.phase = "done";
      this.result = job;
    } else if (job.status === "cancelled") this.phase = "cancelled";
    else if (job.status === "failed") {
      this.fail(job);
      if (isEvicted(job)) this.result = null;
    } else this.phase = "ready";
  }

  /** A model was made of it, be it that this has to be made again. */
  get wasMade() {
    return Boolean(this.result) || isEvicted(this.job);
  }

  /** Another mask is in force: what was made or went wrong was with the one before. */
  maskChanged() {
    if (["done", "failed", "cancelled"].includes(this.phase)) this.phase = "ready";
    this.error = null;
  }
}
