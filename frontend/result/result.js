// What was made: its measures, what they mean for printing, the files, and how to ask for the same again.

import { hasKey, size } from "../shared/api.js";
import { byId, el } from "../shared/dom.js";
import { ApiError, explain } from "../shared/errors.js";
import { say, tell } from "../shared/notices.js";
import { visits } from "../shared/store.js";
import { bytes, count, seconds, sizes, volume } from "../shared/words.js";
import { curlCommand, curlNeeds } from "./curl.js";
import { download, estimates, filename, link, path } from "./files.js";
import { formats, offerFormats, useOf } from "./formats.js";

const KEY = "orfeas.format";
const CLOSED = ["Ready to print", "The surface is closed: a slicer knows inside from outside and can fill it."];
const OPEN = [
  "May need a repair",
  "The surface has gaps, so a slicer may leave holes in it. Try a cleaner mask, or the repair function of your slicer.",
];

export class Result {
  constructor() {
    this.job = null;
    this.took = null;
    this.standard = "stl";  // until the server says otherwise
    this.showChoices();
    byId("formats").addEventListener("change", (event) => {
      this.format = event.target.value;
      visits.set(KEY, this.format);
      this.showFormat();
    });
    byId("download").addEventListener("click", (event) => {
      if (!hasKey()) return;  // an ordinary link, which streams to the disk
      event.preventDefault();
      download(this.job, this.format).catch((error) => tell(explain(error)));
    });
    byId("copy-curl").addEventListener("click", () => this.copy());
  }

  /** The formats that the server has, and the one that it would take; undefined or null where it does not say. */
  offer(names, standard) {
    const changed = names && offerFormats(names);
    if (!changed && this.standard === (standard ?? this.standard)) return;
    this.standard = standard ?? this.standard;
    this.showChoices();
    if (this.job) this.showSizes();
  }

  showChoices() {
    this.format = [visits.get(KEY), this.standard].find((each) => formats().includes(each)) ?? formats()[0];
    this.outputs = {};
    byId("formats").replaceChildren(...formats().map((format) => this.choice(format)));
  }

  choice(format) {
    const output = this.outputs[format] = el("output");
    const radio = el("input", { type: "radio", name: "download-format", value: format, checked: format === this.format });
    return el("label", {}, radio, el("b", {}, format.toUpperCase()), el("small", {}, useOf(format)), output);
  }

  /** A completed picture's result, or nothing. */
  show(picture) {
    const job = picture?.result ?? null;
    byId("result").hidden = !job;
    byId("studio").dataset.hasResult = Boolean(job);
    const took = picture?.attempt?.took ?? null;
    if (!job || (job === this.job && took === this.took)) return;
    this.job = job;
    this.took = took;
    this.showBadge(job, took);
    this.showFacts(job.mesh);
    this.showSizes();
  }

  showSizes() {
    const { job } = this, known = estimates(job);
    for (const [format, output] of Object.entries(this.outputs)) {
      output.textContent = format === job.format ? bytes(job.file_size) : known[format] ? `≈ ${bytes(known[format])}` : "";
    }
    this.showFormat();
  }

  showBadge(job, took) {
    const spent = took ?? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000;
    const saved = job.seconds_saved > 0.005 ? ` · saved ${seconds(job.seconds_saved)}` : "";
    byId("badge").dataset.cached = job.cached;
    byId("badge").textContent = job.cached ? `from cache, ${seconds(spent)}${saved}` : `made in ${seconds(spent)}`;
  }

  showFacts(mesh) {
    byId("facts").replaceChildren(
      el("dt", {}, "Width × depth × height"), el("dd", { className: "headline" }, sizes(mesh.extents_mm)),
      el("dt", {}, "Triangles"), el("dd", {}, count(mesh.faces)),
      el("dt", {}, "Volume"), el("dd", {}, volume(mesh.volume_mm3)),
      el("dt", {}, "Watertight"), el("dd", {}, mesh.watertight ? "yes" : "no"),
    );
    const [title, text] = mesh.watertight ? CLOSED : OPEN;
    byId("verdict").dataset.good = mesh.watertight;
    byId("verdict").replaceChildren(el("b", {}, title), text);
  }

  /** The exact size of the chosen format; what its conversion needs is kept for the download. */
  async showFormat() {
    const { job, format } = this, output = this.outputs[format];
    if (!job) return;
    byId("download").href = link(job, format);
    byId("download").download = filename(job, format);
    byId("curl").textContent = curlCommand(job, format);
    byId("curl-note").textContent = curlNeeds(job);
    const label = (known) => {
      byId("download-text").textContent = `Download ${format.toUpperCase()}${known ? ` · ${known}` : ""}`;
    };
    label(output.textContent);
    try {
      const exact = format === job.format ? job.file_size : await size(path(job, format));
      if (this.job !== job) return;
      output.textContent = bytes(exact);
      if (this.format === format) label(bytes(exact));
    } catch (error) {
      if (error instanceof ApiError && this.job === job) output.textContent = "not available";
    }
  }

  async copy() {
    const text = curlCommand(this.job, this.format);
    try {
      await navigator.clipboard.writeText(text);
      say("The curl command is in the clipboard.");
      flash(byId("copy-curl"), "Copied");
    } catch {
      byId("curl").closest("details").open = true;
      getSelection().selectAllChildren(byId("curl"));
      tell("This browser does not let the page copy. The command is selected: copy it with Ctrl C.");
    }
  }
}

function flash(button, text) {
  const label = button.lastChild, before = label.textContent;
  if (before === text) return;
  label.textContent = text;
  setTimeout(() => { label.textContent = before; }, 1500);
}
