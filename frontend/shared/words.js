// Numbers and states in words for people.

const plain = new Intl.NumberFormat("en");

export const count = (value) => plain.format(value);

export function millimetres(value) {
  return value >= 1000 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toPrecision(2);
}

/** Width × depth × height, from the server's width, height, depth. */
export function sizes([width, height, depth]) {
  return `${[width, depth, height].map(millimetres).join(" × ")} mm`;
}

export const sizesInShort = ([width, height, depth]) =>
  `${[width, depth, height].map((side) => (side < 10 ? millimetres(side) : Math.round(side))).join(" × ")} mm`;

export function bytes(size) {
  if (size < 1000) return `${size} B`;
  if (size < 1e6) return `${(size / 1e3).toFixed(size < 1e4 ? 1 : 0)} kB`;
  return `${(size / 1e6).toFixed(size < 1e8 ? 1 : 0)} MB`;
}

export function seconds(value) {
  if (value <= 0) return "0 s";
  if (value < 0.995) return `${Math.max(1, Math.round(value * 1000))} ms`;
  if (value < 9.95) return `${value.toFixed(1)} s`;
  if (value < 59.5) return `${Math.round(value)} s`;
  if (value < 3570) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** A time to come, which nobody knows to the millisecond. */
export function roughly(value) {
  return value < 0.1 ? "under 0.1 s" : value < 1 ? `about ${value.toFixed(1)} s` : `about ${seconds(value)}`;
}

export function volume(mm3) {
  return mm3 >= 1000 ? `${(mm3 / 1000).toFixed(mm3 >= 1e5 ? 0 : 1)} cm³` : `${mm3.toPrecision(3)} mm³`;
}

export function when(iso) {
  const date = new Date(iso), today = new Date();
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (date.toDateString() === today.toDateString()) return time;
  return `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

export const FORMATS = {
  glb: "Blender, games",
  stl: "3D printing",
  "3mf": "printing in colour",
  obj: "3D programs",
  ply: "MeshLab, scans",
};

const ADVICE = {
  empty_image: "Choose another picture, correct what was found with the brush, or change Background under More options.",
  bad_image: "Choose another file, or save it again as PNG or JPEG.",
  not_an_image: "Save it as PNG or JPEG and choose that file; photos from a phone may have to be exported first.",
  too_large: "Make the picture smaller and try again.",
  upload_lost: "Add the picture again.",
  empty_mesh: "Try a larger size, or a picture in which the object is thicker.",
  out_of_memory: "Lower the quality, or close other programs, then try again.",
  model_unavailable: "Look at the reason under Model, then restart the server.",
  model_not_ready: "Look at the reason under Model, then restart the server.",
  shape_lost: "Make the model again.",
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
  const said = String(error ?? message ?? "Something went wrong").replace(/\.?$/, ".");
  const advice = ADVICE[code ?? type] ?? "Try again.";
  return `${said.charAt(0).toUpperCase()}${said.slice(1)} ${advice}`;
}
