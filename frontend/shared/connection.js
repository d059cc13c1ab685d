// Says when the server is lost, looks for it until it is back, and shows what it is doing in the header.

import { connection, get, request } from "./api.js";
import { byId, el } from "./dom.js";
import { say } from "./notices.js";

const WAITS = [1, 1, 2, 2, 3, 5];
const PATIENCE_MS = 5000;
const STATES = { ready: "Ready", loading: "The model is loading…", not_ready: "No model is ready" };

export function watchConnection() {
  connection.addEventListener("lost", lookForIt);
  connection.addEventListener("back", () => {
    byId("banner").hidden = true;
    say("The server is back.");
    showHealth();
  });
}

/** Ask how the server is until its model is ready or cannot be. */
export async function showHealth(onReady = () => {}) {
  try {
    const health = await get("/api/health");
    const { models_status: state, model, device, queue_length: waiting, reason } = health;
    byId("server").dataset.state = state;
    const more = { ready: `: ${model} on ${device}${waiting ? `, ${waiting} waiting` : ""}`, not_ready: `: ${reason}` };
    byId("server-text").replaceChildren(STATES[state], el("span", { className: "server-more" }, more[state] ?? ""));
    if (state === "loading") setTimeout(() => showHealth(onReady), 700);
    else onReady(health);
  } catch { /* said by the banner */ }
}

async function lookForIt() {
  byId("server").dataset.state = "lost";
  byId("server-text").textContent = "No answer";
  byId("banner").hidden = false;
  for (let turn = 0; ; turn++) {
    const found = await nextTry(WAITS[Math.min(turn, WAITS.length - 1)]);
    if (found) return;
  }
}

async function nextTry(seconds) {
  for (let left = seconds; left > 0; left--) {
    byId("banner-text").textContent = "The server does not answer. Check that it still runs. "
      + `Trying again in ${left} s; work goes on by itself when it is back.`;
    if (await second()) break;
  }
  byId("banner-text").textContent = "The server does not answer. Trying again now…";
  return request("GET", "/api/health", { signal: AbortSignal.timeout(PATIENCE_MS) }).then(() => true, () => false);
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
