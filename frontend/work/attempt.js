// One attempt at a model of a picture: what was asked for, since when, and what came in its way. `Jobs` makes and changes
// attempts; everybody else only looks at them.

const ACTIVE = new Set(["queued", "initializing", "processing", "generating_3d"]);
const ASKED = ["quality", "dimensions", "fit", "remove_background", "target_faces", "seed", "prompt", "model"];
const SIDES = ["width", "height", "depth"];
/** What leaving a field out means. */
const LEFT_OUT = { fit: "contain", target_faces: null, seed: 0, prompt: "" };

export class Attempt {
  /** The request's fields, without its job and format. */
  wish;
  /** When the button was pressed, in milliseconds. */
  began;
  /** Seconds that the server took when it answered at once; null when the job had to be waited for. */
  took = null;
  /** How often the server was stopped under it and it was started again. */
  restarts = 0;
  /** Whether the picture was sent once more because the server no longer had it. */
  resent = false;
  /** Cancelled before the server had said that it is under way. */
  unwanted = false;
  /** What the server said of single fields when it refused: field → text. */
  refusal = null;
  /** Nothing more will come of it. */
  over = false;

  constructor(wish, began = Date.now()) {
    this.wish = wish;
    this.began = began;
    Object.seal(this);
  }

  /** The attempt that a job is, which was begun before the page was loaded; null when none is under way. */
  static underWay(job) {
    return isActive(job) ? new Attempt(wishOf(job), Date.parse(job.started_at ?? "") || Date.now()) : null;
  }
}

export const isActive = (job) => ACTIVE.has(job.status);

/** What a job was asked for, as a request. */
export function wishOf(job) {
  return Object.fromEntries(ASKED.map((name) => [name, job[name]]).filter(([, value]) => value !== undefined && value !== null));
}

/** Whether the wish is what the job was made with. */
export function isRepeat(job, wish, usualModel) {
  if (SIDES.some((side) => (job.dimensions[side] ?? null) !== (wish.dimensions[side] ?? null))) return false;
  if ((job.model ?? usualModel) !== (wish.model ?? usualModel)) return false;
  return ["quality", "fit", "remove_background", "target_faces", "seed", "prompt"].every((name) => {
    const wanted = wish[name] ?? LEFT_OUT[name];
    return wanted === undefined || wanted === job[name];
  });
}
