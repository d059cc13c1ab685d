// The picture at hand with its mask over it, and the brush that corrects the mask.

import { byId } from "../shared/dom.js";

const VEIL = [24, 20, 18], RIM = [255, 122, 66];
const KEY_STEP = 0.02;
const SHOWING = "What the server takes for the object";
const EDITING = "Mask: arrow keys move the brush, Space paints, A adds, X removes, U undoes";

export class MaskCanvas {
  /** `onLeave()` when the keyboard wants to leave the brush. */
  constructor(onLeave) {
    this.onLeave = onLeave;
    this.canvas = byId("mask");
    this.layer = null;  // a MaskLayer, or nothing to show
    this.editing = false;
    this.cursor = [0.5, 0.5];
    this.last = null;  // where the stroke under way has come to
    this.frame = 0;
    byId("mask-show").addEventListener("change", () => this.paint());
    byId("mask-undo").addEventListener("click", () => this.undo());
    byId("brush-size").addEventListener("input", () => this.paint());
    byId("photo").addEventListener("error", () => this.showPhoto(false));
    byId("photo").addEventListener("load", () => this.showPhoto(true));
    new ResizeObserver(() => this.paint()).observe(byId("stage-frame"));
    this.listen();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.editing || event.button) return;
      canvas.setPointerCapture(event.pointerId);
      this.layer.remember();
      this.last = this.point(event);
      this.draw(this.last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.editing) return;
      this.cursor = this.share(event);
      if (this.last) this.draw(this.point(event));
      else this.paint();
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { this.last = null; });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  show(layer) {
    this.layer = layer;
    this.paint();
  }

  showPhoto(works) {
    byId("photo").hidden = !works;
    this.paint();
  }

  edit(on) {
    this.editing = on;
    this.canvas.dataset.editing = on;
    this.canvas.tabIndex = on ? 0 : -1;
    this.canvas.setAttribute("aria-label", on ? EDITING : SHOWING);
    this.paint();
  }

  focus() {
    this.canvas.focus({ preventScroll: true });
  }

  undo() {
    this.layer.undo();
    this.paint();
  }

  share(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  point(event) {
    return this.share(event).map((value, i) => value * [this.layer.width, this.layer.height][i]);
  }

  get radius() {
    return Number(byId("brush-size").value) / 100 * Math.max(this.layer.width, this.layer.height) / 2;
  }

  choose(brush) {
    document.querySelector(`[name=brush][value=${brush}]`).checked = true;
  }

  get adding() {
    return document.querySelector("[name=brush]:checked").value === "add";
  }

  draw(to) {
    this.layer.stroke(this.last, to, this.radius, this.adding ? 255 : 0);
    this.last = to;
    this.paint();
  }

  key(event) {
    if (!this.editing) return;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const brush = { a: "add", x: "remove" }[event.key.toLowerCase()];
    if (arrow) {
      const step = KEY_STEP * (event.shiftKey ? 3 : 1);
      this.cursor = this.cursor.map((value, i) => Math.min(1, Math.max(0, value + arrow[i] * step)));
      this.paint();
    } else if (event.key === " ") {
      this.layer.remember();
      this.last = [this.cursor[0] * this.layer.width, this.cursor[1] * this.layer.height];
      this.draw(this.last);
      this.last = null;
    } else if (brush) this.choose(brush);
    else if (event.key.toLowerCase() === "u") this.undo();
    else if (event.key === "Escape") this.onLeave();
    else return;
    event.preventDefault();
  }

  paint() {
    if (!this.frame) this.frame = requestAnimationFrame(() => this.paintNow());
  }

  paintNow() {
    this.frame = 0;
    const { canvas, layer } = this;
    const shown = layer && (this.editing || byId("mask-show").checked);
    canvas.hidden = !shown;
    byId("no-preview").hidden = shown || !byId("photo").hidden;
    canvas.dataset.state = layer ? "found" : "none";
    if (!shown) return;
    byId("mask-undo").disabled = !layer.past.length;
    const { width, height } = layer;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const photo = byId("photo"), seen = !photo.hidden;
    const [room, tall] = seen ? [photo.clientWidth, photo.clientHeight] : [byId("stage-frame").clientWidth, innerHeight * 0.3];
    canvas.style.width = `${Math.min(room, tall * width / height)}px`;
    const pen = canvas.getContext("2d");
    pen.putImageData(layer.overlay(VEIL, RIM), 0, 0);
    if (this.editing) {
      pen.beginPath();
      pen.arc(this.cursor[0] * layer.width, this.cursor[1] * layer.height, this.radius, 0, 2 * Math.PI);
      pen.strokeStyle = this.adding ? "#fff" : "#111";
      pen.lineWidth = Math.max(2, layer.width / 300);
      pen.stroke();
    }
  }
}
