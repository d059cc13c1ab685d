// A figure over time: its name, its value now, and a curve of what it was.

import { el } from "../shared/dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const WIDTH = 200, HEIGHT = 54;

export class Chart {
  constructor(name) {
    this.value = el("strong");
    this.note = el("small");
    this.svg = document.createElementNS(SPACE, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", name);
    this.name = name;
    this.element = el("figure", { className: "chart" }, el("figcaption", {}, name), this.value, this.svg, this.note);
  }

  /** `points` [time, value], oldest first; `top` the least upper end of the scale, `bound` a line across it. */
  draw(points, { value, note, top, bound = null }) {
    this.value.textContent = value;
    this.note.textContent = note;
    const highest = Math.max(top, ...points.map(([, each]) => each), 1e-9);
    const first = points[0][0], span = Math.max(1, points.at(-1)[0] - first);
    const level = (each) => HEIGHT - 2 - each / highest * (HEIGHT - 4);
    const spots = points.map(([time, each]) => [(time - first) / span * WIDTH, level(each)]);
    if (spots.length === 1) spots.push([WIDTH, spots[0][1]]);
    const line = spots.map((spot) => spot.map((each) => each.toFixed(1)).join(",")).join(" L");
    const parts = [["area", `M0,${HEIGHT} L${line} L${WIDTH},${HEIGHT} Z`], ["curve", `M${line}`]];
    if (bound !== null && bound <= highest) parts.push(["bound", `M0,${level(bound)} h${WIDTH}`]);
    this.svg.replaceChildren(...parts.map(([kind, d]) => {
      const path = document.createElementNS(SPACE, "path");
      path.setAttribute("class", kind);
      path.setAttribute("d", d);
      return path;
    }));
    const values = points.map(([, each]) => each);
    const range = `from ${Math.min(...values).toFixed(1)} to ${Math.max(...values).toFixed(1)}`;
    const text = `${this.name} over the last ${Math.round(span / 1000)} seconds: ${range}; now ${value}`;
    this.svg.setAttribute("aria-label", text);
  }
}
