// How pictures come in: dropped anywhere, pasted, or chosen; and the sample.

import { byId } from "../shared/dom.js";
import { drawSample, sampleFile } from "./sample.js";

/** `onFiles(files)` with one or more files, whatever way they came. */
export function setUpIntake(onFiles) {
  const input = byId("file"), veil = byId("veil");
  const choose = (event) => {
    event.stopPropagation();
    input.click();
  };
  byId("choose").addEventListener("click", choose);
  byId("more").addEventListener("click", choose);
  byId("drop").addEventListener("click", choose);
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = "";  // the same file again is a change again
    if (files.length) onFiles(files);
  });

  drawSample(byId("sample-preview").getContext("2d"));
  byId("sample").addEventListener("click", async (event) => {
    event.stopPropagation();
    onFiles([await sampleFile()]);
  });

  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    veil.hidden = Boolean(document.querySelector("dialog[open]"));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    const files = [...event.dataTransfer.files];
    if (files.length) onFiles(files);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    onFiles(files.map(named));
  });
}

/** Say what files the server reads. */
export function showFormats(names) {
  const list = new Intl.ListFormat("en-GB", { type: "disjunction" });
  byId("picture-formats").textContent = list.format(names.map((name) => (name === "WEBP" ? "WebP" : name)));
}

/** Every pasted picture is called image.png: tell them apart. */
function named(file) {
  if (file.name !== "image.png") return file;
  const time = new Date().toTimeString().slice(0, 8).replaceAll(":", ".");
  return new File([file], `pasted ${time}.png`, { type: file.type });
}
