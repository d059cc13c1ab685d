// Uploads the picture, follows the job, shows what was made.

const FORMATS = ["glb", "stl", "3mf", "obj", "ply"];
const byId = (id) => document.getElementById(id);
const form = byId("form");
let jobId = null;

async function api(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function say(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

function setBusy(busy) {
  byId("start").disabled = busy;
  byId("cancel").hidden = byId("progress").hidden = !busy;
}

function showResult(job, started) {
  const [width, height, depth] = job.mesh.extents_mm.map((side) => side.toFixed(1));
  const seconds = ((performance.now() - started) / 1000).toFixed(2);
  say(job.cached ? `Ready, from the cache, in ${seconds} s.` : `Ready in ${seconds} s, made by the model ${job.model}.`);
  const facts = {
    "Width × height × depth": `${width} × ${height} × ${depth} mm`,
    Triangles: job.mesh.faces.toLocaleString(),
    Volume: `${(job.mesh.volume_mm3 / 1000).toFixed(1)} cm³`,
    Watertight: job.mesh.watertight ? "yes, ready to print" : "no, a slicer may have to repair it",
    "File size": `${(job.file_size / 1e6).toFixed(2)} MB`,
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  byId("downloads").replaceChildren(...FORMATS.map((format) => {
    const link = element("a", `Download ${format.toUpperCase()}`);
    link.href = `/api/download/${job.job_id}/model_${job.job_id}.${format}`;
    return link;
  }));
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

async function follow(job, started) {
  while (!["completed", "failed", "cancelled"].includes(job.status)) {
    byId("progress").value = job.progress ?? 0;
    say(job.queue_position ? `Waiting, place ${job.queue_position} in the queue.` : `Working: ${job.step}.`);
    job = await api(`/api/job-status/${job.job_id}?wait=10`);
  }
  if (job.status === "completed") showResult(job, started);
  else say(job.error ?? "Cancelled.", job.status === "failed");
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const started = performance.now();
  const body = new FormData(form);
  const side = Number(byId("side").value);
  body.set("dimensions", JSON.stringify({ width: side, height: side, depth: side }));
  byId("facts").replaceChildren();
  byId("downloads").replaceChildren();
  setBusy(true);
  say("Uploading.");
  try {
    const job = await api("/api/generate-3d", { method: "POST", body });
    jobId = job.job_id;
    await follow(job, started);
  } catch (error) {
    say(`${error.message} Please try again.`, true);
  } finally {
    setBusy(false);
  }
});

byId("cancel").addEventListener("click", () => {
  if (jobId) fetch(`/api/jobs/${jobId}`, { method: "DELETE" });
});

byId("image").addEventListener("change", () => {
  const [file] = byId("image").files;
  const preview = byId("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = !file;
  if (file) preview.src = URL.createObjectURL(file);
});
