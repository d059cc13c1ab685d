// How the server is: says it in the header, asks again until it is known, and looks for a server that was lost.

import { connection, pause, request } from "./api.js";
import { byId, el } from "./dom.js";
import { ApiError, ServerLostError } from "./errors.js";
import { say } from "./notices.js";

/** Seconds before the next try, the last one again and again: of a server that is gone, and of one that answers nonsense. */
const SEARCH_WAITS = [1, 1, 2, 2, 3, 5], FAULT_WAITS = [0.5, 1, 2, 3, 5];
const LOADING_WAIT = 0.7;
const PATIENCE_MS = 5000;
const STATES = { ready: "Ready", loading: "The model is loading…", not_ready: "No model is ready" };
/** Health needs no key, and a server that only starts up may answer anything. */
const HEALTH = ["GET", "/api/health"];

const nth = (waits, turn) => waits[Math.min(turn, waits.length - 1)];

/** Watch the server from now on. `onKnown()` each time that its model is ready, or is known not to be. */
export class Watch {
  constructor(onKnown) {
    this.onKnown = onKnown;
    this.round = 0;  // of asking; an older one ends by itself
    /** Resolves at the first answer that says anything. */
    this.heard = new Promise((resolve) => { this.hear = resolve; });
    connection.addEventListener("lost", () => this.search());
    connection.addEventListener("back", () => {
      byId("banner").hidden = true;
      say("The server is back.");
      this.ask();
    });
    this.ask();
  }

  async ask() {
    const round = ++this.round;
    for (let faults = 0; round === this.round;) {
      const health = await readHealth().catch((error) => error);
      if (round !== this.round || health instanceof ServerLostError) return;  // if lost, it is being looked for
      if (health instanceof Error) {
        state("faulty", "No clear answer yet", ": asking again…");
        await pause(1000 * nth(FAULT_WAITS, faults++));
        continue;
      }
      show(health);
      this.hear();
      if (health.models_status !== "loading") return this.onKnown();
      faults = 0;
      await pause(1000 * LOADING_WAIT);
    }
  }

  async search() {
    this.round++;
    state("lost", "No answer");
    byId("banner").hidden = false;
    for (let turn = 0; ; turn++) if (await nextTry(nth(SEARCH_WAITS, turn))) return;
  }
}

/** The server's answer, if it is one. */
async function readHealth() {
  const response = await request(...HEALTH, { quiet: true, signal: AbortSignal.timeout(PATIENCE_MS) });
  const health = await response.json();
  if (!STATES[health?.models_status]) throw new TypeError("no answer about the models");
  return health;
}

function show({ models_status: known, model, device, queue_length: waiting, reason }) {
  const more = { ready: `: ${model} on ${device}${waiting ? `, ${waiting} waiting` : ""}`, not_ready: `: ${reason}` };
  state(known, STATES[known], more[known]);
}

function state(name, text, more = "") {
  byId("server").dataset.state = name;
  byId("server-text").replaceChildren(text, el("span", { className: "server-more" }, more));
}

async function nextTry(seconds) {
  for (let left = seconds; left > 0; left--) {
    byId("banner-text").textContent = "The server does not answer. Check that it still runs. "
      + `Trying again in ${left} s; work goes on by itself when it is back.`;
    if (await second()) break;
  }
  byId("banner-text").textContent = "The server does not answer. Trying again now…";
  const options = { quiet: true, signal: AbortSignal.timeout(PATIENCE_MS) };
  return request(...HEALTH, options).then(() => true, (error) => error instanceof ApiError);
}

/** Resolves after a second, or with true at once when the user is impatient. */
function second() {
  return new Promise((resolve) => {
    const done = (early) => {
      clearTimeout(timer);
      byId("banner-retry").removeEventListener("click", now);
      resolve(early);
    };
    const now = () => done(true);
    const timer = setTimeout(() => done(false), 1000);
    byId("banner-retry").addEventListener("click", now);
  });
}
