// A request as a command that can be pasted into bash or another POSIX shell.

import { hasKey } from "../shared/api.js";

/**
 * Send the picture with the same options, wait for the model, save it in the format. Sending the picture itself works
 * after the job was deleted, too; only a mask of the user's own is nowhere but at the job.
 */
export function curlCommand(job, format) {
  const { origin } = location, key = hasKey() ? ' -H "X-API-Key: $ORFEAS_API_KEY"' : "";
  const fields = [["format", format], ["quality", job.quality]];
  if (job.has_user_mask) fields.unshift(["job_id", job.job_id]);
  const sides = Object.fromEntries(Object.entries(job.dimensions).filter(([, value]) => value));
  if (Object.keys(sides).length) fields.push(["dimensions", JSON.stringify(sides)]);
  if (job.fit !== "contain") fields.push(["fit", job.fit]);
  if (job.target_faces) fields.push(["target_faces", job.target_faces]);
  if (job.remove_background !== "auto") fields.push(["remove_background", job.remove_background]);
  if (job.seed) fields.push(["seed", job.seed]);
  if (job.model) fields.push(["model", job.model]);
  if (job.prompt) fields.push(["prompt", job.prompt]);
  const form = fields.map(([name, value]) => ` --form-string ${quoted(`${name}=${value}`)}`).join("");
  // Within curl's own quotes a name may hold commas and semicolons.
  const file = job.original_filename.replace(/["\\]/g, "\\$&");
  const picture = job.has_user_mask ? "" : ` -F ${quoted(`image=@"${file}"`)}`;
  const ask = `curl -fsS${key}${picture}${form} ${origin}/api/generate-3d`;
  const status = `curl -fsS${key} "${origin}/api/job-status/$id?wait=30&until=final"`;
  return [
    `id=$(${ask} | grep -o '"job_id": *"[^"]*') && id=\${id##*\\"}`,
    // Ends with the job, and with the server: the next line fails, and saves nothing, unless there is a model.
    `while ${status} | grep -Eq '"status": *"(queued|initializing|processing|generating_3d)"'; do :; done`,
    `curl -fsS${key} -o model.${format} "${origin}/api/download/$id/model.${format}"`,
  ].join(" &&\n");
}

/** What the command needs. */
export function curlNeeds(job) {
  return "For bash or another POSIX shell. "
    + (job.has_user_mask ? "It uses the mask that you painted, so the model has to be in the history still."
      : `The picture, ${job.original_filename}, has to lie in the terminal's folder.`)
    + (hasKey() ? " Set ORFEAS_API_KEY in the terminal first." : "");
}

const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;
