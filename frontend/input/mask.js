// The picture at hand with the object that was found in it, and the brush that corrects it.

import { blob, patiently, put, remove } from "../shared/api.js";
import { byId } from "../shared/dom.js";
import { say } from "../shared/notices.js";
import { explain } from "../shared/words.js";
import { MaskLayer } from "./mask_layer.js";

const VEIL = [24, 20, 18], RIM = [255, 122, 66];
const KEY_STEP = 0.02;
const SHOWING = "What the server takes for the object";
const EDITING = "Mask: arrow keys move the brush, Space paints, A adds, X removes, U undoes";
const DOUBTFUL = "Much of the picture is taken as the object; correct it with the brush.";
const NO_PREVIEW = "This browser cannot show the picture. The server can read it all the same.";

export class Mask {
  constructor(pictures, background) {
    this.pictures = pictures;
    this.background = background;  // () → the choice of remove_background
    this.canvas = byId("mask");
    this.layer = null;
    this.editing = false;
    this.turn = 0;  // of looking for the object
    this.looking = false;
    this.cursor = [0.5, 0.5];
    this.listen();
  }

  listen() {
    byId("mask-show").addEventListener("change", () => this.paint());
    byId("mask-edit").addEventListener("click", () => this.edit(true));
    byId("mask-drop").addEventListener("click", () => this.leave());
    byId("mask-undo").addEventListener("click", () => this.undo());
    byId("mask-use").addEventListener("click", () => this.use());
    byId("mask-auto").addEventListener("click", () => this.backToAuto());
    byId("brush-size").addEventListener("input", () => this.paint());
    byId("remove_background").addEventListener("change", () => this.picture && !this.picture.mask && this.find());
    byId("photo").addEventListener("error", () => this.showPhoto(false));
    byId("photo").addEventListener("load", () => this.showPhoto(true));
    new ResizeObserver(() => this.paint()).observe(byId("stage-frame"));
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

  /** Look at another picture, or at none. */
  show(picture) {
    const same = this.picture === picture && this.shownJob === picture?.jobId;
    const other = this.picture && this.picture !== picture;
    if (other && this.editing && this.layer?.past.length) this.picture.draft = this.layer;
    this.picture = picture;
    if (!same) {
      this.turn++;  // what is still being looked for is not for this one
      this.looking = false;
    }
    byId("stage").hidden = !picture;
    if (!picture) return this.edit(false);
    if (!picture.jobId) byId("mask-note").textContent = "";
    if (picture.url && byId("photo").getAttribute("src") !== picture.url) {
      byId("photo").src = picture.url;
      byId("photo").alt = `Your picture: ${picture.name}`;
    }
    byId("mask-auto").hidden = !picture.mask;
    byId("mask-idle").hidden = this.editing || !picture.jobId;
    byId("no-preview").textContent = picture.phase === "failed" ? "There is nothing to show of this file." : NO_PREVIEW;
    if (same && (this.layer || this.looking)) return;
    this.edit(false);
    this.layer = null;
    this.paint();
    this.shownJob = picture.jobId;
    if (picture.draft) this.takeUp(picture);
    else if (picture.jobId) this.find();
  }

  /** Another picture was looked at in the middle of the strokes: go on with them. */
  takeUp(picture) {
    this.layer = picture.draft;
    picture.draft = null;
    byId("mask-edit").disabled = false;
    byId("mask-note").textContent = "Your strokes are not in force yet: use the mask or leave it.";
    this.edit(true, false);
  }

  showPhoto(works) {
    byId("photo").hidden = !works;
    this.paint();
  }

  async find() {
    const { picture } = this, { jobId } = picture, turn = ++this.turn;
    this.looking = true;
    const note = byId("mask-note");
    note.textContent = "Looking for the object…";
    byId("mask-edit").disabled = true;
    try {
      const found = await patiently(() => blob(`/api/jobs/${jobId}/mask?remove_background=${this.background()}`));
      const image = await createImageBitmap(found);
      if (this.turn !== turn) return;  // a later one would replace the strokes made since
      this.layer = new MaskLayer(image);
      this.showFound();
      byId("mask-edit").disabled = false;
    } catch (error) {
      if (this.turn !== turn) return;
      this.layer = null;
      note.textContent = explain(error);
      this.offerBlank(error);
    }
    this.looking = false;
    this.paint();
  }

  showFound() {
    byId("mask-note").textContent = this.picture.mask ? "Your own mask decides what the object is."
      : byId("photo").hidden ? NO_PREVIEW : this.layer.doubtful ? DOUBTFUL : "";
  }

  /** Nothing was found: let the user paint it from nothing. */
  offerBlank(error) {
    const photo = byId("photo");
    if (error.code !== "empty_image" || !photo.naturalWidth) return;
    this.layer = new MaskLayer(blank(photo.naturalWidth, photo.naturalHeight));
    this.choose("add");  // there is nothing to remove
    byId("mask-edit").disabled = false;
  }

  edit(on, focus = on) {
    this.editing = on;
    byId("mask-tools").hidden = !on;
    byId("mask-idle").hidden = on || !this.picture?.jobId;
    this.canvas.dataset.editing = on;
    this.canvas.tabIndex = on ? 0 : -1;
    this.canvas.setAttribute("aria-label", on ? EDITING : SHOWING);
    this.paint();
    if (focus) this.canvas.focus({ preventScroll: true });
  }

  leave() {
    this.layer.reset();
    if (!this.layer.empty) this.showFound();  // else the note says why nothing was found
    this.edit(false);
    byId("mask-edit").focus();
  }

  undo() {
    this.layer.undo();
    this.paint();
  }

  async use() {
    if (this.layer.empty) {
      byId("mask-note").textContent = "The mask is empty: paint over the object first.";
      say(byId("mask-note").textContent);
      return;
    }
    const { picture } = this;
    await this.send(picture, await this.layer.toBlob(), "Your mask is in force.");
  }

  async backToAuto() {
    await this.send(this.picture, null, "Back to what the server found.");
  }

  async send(picture, mask, done) {
    try {
      picture.mask = mask;
      // A finished model keeps its own mask: the new one goes with a job of its own.
      if (picture.job?.status === "completed") {
        if (!(await this.pictures.send(picture))) return;
      } else if (mask) await patiently(() => put(`/api/jobs/${picture.jobId}/mask`, mask));
      else await patiently(() => remove(`/api/jobs/${picture.jobId}/mask`));
      if (["done", "failed", "cancelled"].includes(picture.phase)) picture.phase = "ready";
      picture.error = null;  // it was about the mask before
      this.layer = null;
      this.edit(false);
      this.shownJob = null;
      this.show(picture);
      this.pictures.changed(picture);
      say(done);
      byId("mask-edit").focus();
    } catch (error) {
      byId("mask-note").textContent = explain(error);
      say(byId("mask-note").textContent);
    }
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
    else if (event.key === "Escape") this.leave();
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

/** A picture in which nothing is the object. */
function blank(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext("2d");
  pen.fillRect(0, 0, width, height);
  return canvas;
}
