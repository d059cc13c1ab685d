// Asks in which format a past result is to be saved.

import { byId, el } from "../shared/dom.js";
import { explain } from "../shared/errors.js";
import { tell } from "../shared/notices.js";
import { bytes } from "../shared/words.js";
import { download, estimates } from "./files.js";
import { formats, useOf } from "./formats.js";

export function saveAs(job) {
  const dialog = byId("save-as"), sizes = { ...estimates(job), [job.format]: job.file_size };
  byId("save-as-title").textContent = `Save ${job.original_filename} as`;
  byId("save-as-formats").replaceChildren(...formats().map((format) => {
    const size = sizes[format] ? `${format === job.format ? "" : "≈ "}${bytes(sizes[format])}` : "";
    const name = el("b", {}, format.toUpperCase()), use = el("small", {}, useOf(format));
    return el("button", { value: format }, name, use, el("span", {}, size));
  }));
  dialog.returnValue = "";
  dialog.showModal();
  dialog.addEventListener("close", () => {
    if (dialog.returnValue) download(job, dialog.returnValue).catch((error) => tell(explain(error)));
  }, { once: true });
}
