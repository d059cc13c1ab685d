// What a quality means and how long it will take.

import { byId } from "../shared/dom.js";
import { count, roughly } from "../shared/words.js";

const WORDS = ["Draft", "Quick", "Good", "Fine", "Finest"];
/** What the built-in model aims at, and its seconds on a usual processor core: a first guess, until there are runs. */
const TYPICAL = [
  null, [2e3, 0.05], [5e3, 0.06], [1e4, 0.08], [2e4, 0.12], [4e4, 0.2],
  [7e4, 0.35], [12e4, 0.5], [2e5, 0.95], [32e4, 1.6], [5e5, 2.7],
];

/** Say beside the slider what its value means for the model, one of `/api/models-info` or null. */
export function showQuality(model) {
  const slider = byId("quality"), quality = Number(slider.value);
  const least = Number(slider.min), most = Number(slider.max);
  const share = (quality - least) / Math.max(1, most - least);
  const word = WORDS[Math.min(WORDS.length - 1, Math.floor(share * WORDS.length))];
  const expected = expectedTime(model, quality);
  const source = expected?.measured ? " as in past runs" : "";
  const time = expected ? `${roughly(expected.seconds)}${source}` : "its time is not known yet";
  byId("quality-word").textContent = `${quality} · ${word}`;
  slider.setAttribute("aria-valuetext", `${quality} of ${most}, ${word}, ${time}`);
  const faces = model?.id === "builtin" && TYPICAL[quality]?.[0];
  const text = `${faces ? `about ${count(faces)} triangles, ` : ""}${time}.`;
  byId("quality-note").textContent = text.charAt(0).toUpperCase() + text.slice(1);
}

/** Seconds to expect: measured, else scaled from the nearest quality that was, else the typical ones; or null. */
export function expectedTime(model, quality) {
  const past = model?.expected_seconds ?? {};
  if (past[quality]) return { seconds: past[quality], measured: true };
  const near = Object.keys(past).map(Number).sort((a, b) => Math.abs(a - quality) - Math.abs(b - quality))[0];
  const usual = TYPICAL[quality]?.[1];
  if (near && usual && TYPICAL[near]) return { seconds: past[near] * usual / TYPICAL[near][1], measured: false };
  return usual && model?.id === "builtin" ? { seconds: usual, measured: false } : null;
}
