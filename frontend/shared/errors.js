// What can go wrong, and what to do about it, in words for people.

export class ApiError extends Error {
  constructor(status, { error, code, details } = {}) {
    super(error ?? `the server answered ${status}`);
    Object.assign(this, { status, code: code ?? "internal", details: details ?? {} });
  }
}

export class ServerLostError extends Error {
  code = "unreachable";
}

/** The server no longer has the picture or its job: it helps to send it again. */
export const isPictureGone = (error) => error.code === "upload_lost" || error.status === 404;

/** A job was done, but its model had to make room on the server's disk: it can be made again. */
export const isEvicted = (job) => job?.error_type === "result_evicted";

/** Where the server speaks to programs. */
const SAID = {
  result_evicted: "the model had to make room on the server's disk",
  shape_lost: "the shape is no longer on the server's disk",
  interrupted: "the server ended in the middle of this model, and again when it was made once more",
  disk_full: "the server's disk is full",
};

const ADVICE = {
  empty_image: "Choose another picture, correct what was found with the brush, or change Background under More options.",
  not_an_image: "Save it as PNG or JPEG and choose that file; photos from a phone may have to be exported first.",
  too_large: "Make the picture smaller and try again.",
  upload_lost: "Add the picture again.",
  empty_mesh: "Try a larger size, or a picture in which the object is thicker.",
  out_of_memory: "Lower the quality, or close other programs, then try again.",
  model_unavailable: "Choose another model, or look at its reason under Model.",
  model_not_ready: "Look at the reason under Model, then restart the server.",
  shape_lost: "Make the model again.",
  result_evicted: "Its picture and its options are still there: make it again.",
  interrupted: "Try again; if it ends once more, with a lower quality or another model.",
  disk_full: "Delete models that you no longer need, or free the server's disk, then try again.",
  storage: "Check that the server's disk has room and may be written to, then try again.",
  stopped: "Press the button to start it again.",
  unauthorized: "Reload the page to enter the key.",
  rate_limited: "Wait a minute, then try again.",
  queue_full: "Wait for a model to be finished, then try again.",
  not_found: "It may have been deleted. Add the picture again.",
  internal: "Try again. If it happens again, the server's log says why.",
  unreachable: "Check that the server still runs; then try again.",
};

/** What went wrong and what to do next, from an error or from a failed job's status. */
export function explain({ message, error, code, error_type: type }) {
  const kind = code ?? type;
  const said = String(SAID[kind] ?? error ?? message ?? "Something went wrong").replace(/\.?$/, ".");
  const advice = ADVICE[kind] ?? "Try again.";
  return `${said.charAt(0).toUpperCase()}${said.slice(1)} ${advice}`;
}
