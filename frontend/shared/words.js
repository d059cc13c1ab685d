// Numbers in words for people.

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
