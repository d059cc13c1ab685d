// What is happening while a model is made: stages, time gone, time left, place in the queue.

import { byId, el } from "../shared/dom.js";
import { say } from "../shared/notices.js";
import { roughly } from "../shared/words.js";

const STAGES = [
  "Sending the picture", "Waiting for its turn", "Reading the picture",
  "Finding the object", "Building the shape", "Writing the file",
];
const BY_STEP = { queued: 1, initializing: 2, decode: 2, foreground: 3, export: 5 };
const TICK_MS = 100;

export class Progress {
  /** `expect(picture)`: seconds that such a job takes, for when the server has no past runs to tell from; or null. */
  constructor(expect) {
    this.expect = expect;
    this.items = STAGES.map((text) => el("li", {}, text, el("small")));
    byId("stages").replaceChildren(...this.items);
    this.title = document.title;
    this.timer = null;
    this.spoken = null;
  }

  /** Show the picture's job, or nothing when it is not at work. */
  show(picture) {
    const atWork = Boolean(picture?.atWork);
    byId("work").hidden = !atWork;
    clearInterval(this.timer);
    if (!atWork) {
      this.spoken = null;
      document.title = this.title;
      return;
    }
    this.picture = picture;
    this.heard = Date.now();
    const now = stage(picture);
    this.items.forEach((item, i) => {
      item.dataset.state = i < now ? "done" : i === now ? "now" : "next";
      if (i === now) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
      item.lastChild.textContent = i === now ? detail(picture) : "";
    });
    byId("progress").value = picture.job?.progress ?? 0;
    document.title = `${picture.job?.progress ?? 0} % · ${picture.name}`;
    this.speak(now, picture);
    this.timer = setInterval(() => this.tick(), TICK_MS);
    this.tick();
  }

  tick() {
    const { attempt, job } = this.picture;
    byId("elapsed").textContent = `${((Date.now() - attempt.began) / 1000).toFixed(1)} s so far`;
    const left = this.picture.phase === "active" ? this.left(job) : null;
    byId("eta").textContent = left === null ? "" : left > 0.3 ? `${roughly(left)} left` : "nearly done";
  }

  left({ eta_seconds: eta, queue_position: position, started_at: started }) {
    if (eta !== null) return eta - (Date.now() - this.heard) / 1000;
    const usual = position ? null : this.expect(this.picture);
    return usual === null ? null : usual - (Date.now() - (Date.parse(started ?? "") || this.heard)) / 1000;
  }

  /** Only a new stage is worth a word. */
  speak(now, picture) {
    const text = now === 1 ? `Waiting, number ${picture.job?.queue_position ?? 1} in the queue.` : `${STAGES[now]}.`;
    if (text !== this.spoken) say(this.spoken = text);
  }
}

function stage({ phase, job }) {
  if (phase === "sending") return 0;
  if (phase === "starting" || !job) return 1;
  return BY_STEP[job.step] ?? 4;
}

function detail({ phase, job }) {
  if (phase !== "active") return "";
  if (job.queue_position) return `number ${job.queue_position} in the queue`;
  return BY_STEP[job.step] === undefined && job.step !== "shape" ? job.step : "";
}
