// A request as curl commands that can be pasted into a terminal, be it sh or Windows' cmd.

import { hasKey } from "./api.js";

/** Start the same job again, wait for it, save the file in the format. */
export function curlCommands(job, format) {
  const { origin } = location, key = hasKey() ? ` -H "X-API-Key: $ORFEAS_API_KEY"` : "";
  const fields = [["job_id", job.job_id], ["format", format], ["quality", job.quality]];
  const sides = Object.fromEntries(Object.entries(job.dimensions).filter(([, value]) => value));
  if (Object.keys(sides).length) fields.push(["dimensions", JSON.stringify(sides)]);
  if (job.fit !== "contain") fields.push(["fit", job.fit]);
  if (job.target_faces) fields.push(["target_faces", job.target_faces]);
  if (job.remove_background !== "auto") fields.push(["remove_background", job.remove_background]);
  if (job.seed) fields.push(["seed", job.seed]);
  if (job.prompt) fields.push(["prompt", job.prompt]);
  const form = fields.map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`).join(" ");
  const id = job.job_id;
  return [
    `curl -sS${key} ${form} ${origin}/api/generate-3d`,
    `curl -sS${key} "${origin}/api/job-status/${id}?wait=30"`,
    `curl -sS${key} -o model.${format} ${origin}/api/download/${id}/model.${format}`,
  ];
}

function quoted(text) {
  return `"${text.replace(/[\\"$`]/g, "\\$&")}"`;
}
