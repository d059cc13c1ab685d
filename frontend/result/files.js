// A job's files: where they are, what they are called, how large they will be, and how they are saved.

import { blob, hasKey } from "../shared/api.js";
import { save, saveBlob } from "../shared/dom.js";

export const path = (job, format) => `/api/download/${job.job_id}/model_${job.job_id}.${format}`;

const stem = (job) => job.original_filename.replace(/\.[^.]*$/, "") || "model";
export const filename = (job, format) => `${stem(job)}.${format}`;
export const link = (job, format) => `${path(job, format)}?name=${encodeURIComponent(stem(job))}`;

/** Save a job's model. With a key the page has to fetch it, as a link cannot carry one. */
export async function download(job, format) {
  if (hasKey()) saveBlob(await blob(path(job, format)), filename(job, format));
  else save(link(job, format), filename(job, format));
}

/** Bytes by format, from the counts of points and triangles; the text formats can only be guessed. */
export function estimates({ mesh: { vertices, faces }, format }) {
  const all = {
    glb: 36 * vertices + 12 * faces,
    stl: 84 + 50 * faces,
    "3mf": 11 * vertices + 15 * faces,
    obj: 54 * vertices + 20 * faces,
    ply: 260 + 15 * vertices + 13 * faces,
  };
  return { ...all, [format]: undefined };
}
