// Requests to the server: JSON in and out, the API key, and what happens when nobody answers.

import { ApiError, ServerLostError } from "./errors.js";
import { tab } from "./store.js";

const KEY = "orfeas.key";
const GIVE_UP_AFTER = 3;

/** `lost` when the server no longer answers, `back` when it does again. */
export const connection = new EventTarget();
let lost = false;

let askForKey = async () => null;
/** `ask(wasWrong)` → the key or null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

export const hasKey = () => Boolean(tab.get(KEY));

/** The answer, whatever its kind; ApiError for a refusal, ServerLostError for none. `quiet`: ask for no key. */
export async function request(method, path, { json, body, signal, quiet } = {}) {
  const headers = {};
  const key = tab.get(KEY);
  if (key) headers["X-API-Key"] = key;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    const content = json === undefined ? body : JSON.stringify(json);
    response = await fetch(path, { method, headers, signal, cache: "no-store", body: content });
  } catch (error) {
    if (signal?.aborted && error.name !== "TimeoutError") throw error;
    setLost(true);
    throw new ServerLostError("the server does not answer");
  }
  setLost(false);
  if (response.ok) return response;
  if (response.status === 401 && !quiet) return withNewKey(key, () => request(method, path, { json, body, signal }));
  throw new ApiError(response.status, await response.json().catch(() => ({})));
}

async function withNewKey(used, again) {
  if (tab.get(KEY) === used) {  // else another request has asked in the meantime
    const given = await askForKey(Boolean(used));
    if (!given) throw new ApiError(401, { error: "this server needs a key", code: "unauthorized" });
    tab.set(KEY, given);
  }
  return again();
}

function setLost(now) {
  if (now === lost) return;
  lost = now;
  connection.dispatchEvent(new Event(now ? "lost" : "back"));
}

async function answer(response) {
  try {
    return await response.json();
  } catch {
    setLost(true);  // the answer broke off
    throw new ServerLostError("the server's answer broke off");
  }
}

export const get = async (path, options) => answer(await request("GET", path, options));
export const post = async (path, json, options) => answer(await request("POST", path, { json, ...options }));
export const put = async (path, body) => answer(await request("PUT", path, { body }));
export const remove = async (path) => answer(await request("DELETE", path));

export async function blob(path, options) {
  try {
    return await (await request("GET", path, options)).blob();
  } catch (error) {
    if (error instanceof ApiError || error instanceof ServerLostError || options?.signal?.aborted) throw error;
    setLost(true);
    throw new ServerLostError("the download broke off");
  }
}

/** Bytes of a download, before it is downloaded. */
export async function size(path) {
  const response = await request("HEAD", path);
  await response.arrayBuffer();  // there is none, but the browser counts an unread answer as broken off
  return Number(response.headers.get("Content-Length"));
}

export const untilBack = () =>
  lost ? new Promise((resolve) => connection.addEventListener("back", resolve, { once: true })) : Promise.resolve();

export const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Do it again when the server was gone, is still loading, or is full; `onWait(error)` before each wait. */
export async function patiently(action, onWait = () => {}) {
  for (let lostTimes = 0; ;) {
    try {
      return await action();
    } catch (error) {
      const gone = error instanceof ServerLostError && ++lostTimes <= GIVE_UP_AFTER;
      const later = ["loading", "queue_full", "stopping"].includes(error.code);
      if (!gone && !later) throw error;
      onWait(error);
      await (gone ? untilBack() : pause(1000 * Math.min(5, error.details.retry_after ?? 2)));
    }
  }
}
