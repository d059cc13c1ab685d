// What of the picture at hand is taken for the object: asks the server, and puts what the user has made of it in force.

import { blob, patiently, put, remove } from "../shared/api.js";
import { byId } from "../shared/dom.js";
import { explain } from "../shared/errors.js";
import { say } from "../shared/notices.js";
import { MaskCanvas } from "./mask_canvas.js";
import { MaskLayer } from "./mask_layer.js";

const DOUBTFUL = "Much of the picture is taken as the object; correct it with the brush.";
const NO_PREVIEW = "This browser cannot show the picture. The server can read it all the same.";

export class Mask {
  constructor(pictures, background) {
    this.pictures = pictures;
    this.background = background;  // () → the choice of remove_background
    this.canvas = new MaskCanvas(() => this.leave());
    this.picture = null;
    this.shownJob = null;
    this.turn = 0;  // of looking for the object
    this.looking = false;
    byId("mask-edit").addEventListener("click", () => this.edit(true));
    byId("mask-drop").addEventListener("click", () => this.leave());
    byId("mask-use").addEventListener("click", () => this.use());
    byId("mask-auto").addEventListener("click", () => this.backToAuto());
    byId("remove_background").addEventListener("change", () => this.picture && !this.picture.mask && this.find());
  }

  get layer() {
    return this.canvas.layer;
  }

  /** Look at another picture, or at none. */
  show(picture) {
    const same = this.picture === picture && this.shownJob === picture?.jobId;
    const other = this.picture && this.picture !== picture;
    if (other && this.canvas.editing && this.layer?.past.length) this.picture.draft = this.layer;
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
    byId("mask-idle").hidden = this.canvas.editing || !picture.jobId;
    byId("no-preview").textContent = picture.phase === "failed" ? "There is nothing to show of this file." : NO_PREVIEW;
    if (same && (this.layer || this.looking)) return;
    this.edit(false);
    this.canvas.show(null);
    this.shownJob = picture.jobId;
    if (picture.draft) this.takeUp(picture);
    else if (picture.jobId) this.find();
  }

  /** Another picture was looked at in the middle of the strokes: go on with them. */
  takeUp(picture) {
    this.canvas.show(picture.draft);
    picture.draft = null;
    byId("mask-edit").disabled = false;
    byId("mask-note").textContent = "Your strokes are not in force yet: use the mask or leave it.";
    this.edit(true, false);
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
      this.canvas.show(new MaskLayer(image));
      this.showFound();
      byId("mask-edit").disabled = false;
    } catch (error) {
      if (this.turn !== turn) return;
      this.canvas.show(null);
      note.textContent = explain(error);
      this.offerBlank(error);
    }
    this.looking = false;
  }

  showFound() {
    byId("mask-note").textContent = this.picture.mask ? "Your own mask decides what the object is."
      : byId("photo").hidden ? NO_PREVIEW : this.layer.doubtful ? DOUBTFUL : "";
  }

  /** Nothing was found: let the user paint it from nothing. */
  offerBlank(error) {
    const photo = byId("photo");
    if (error.code !== "empty_image" || !photo.naturalWidth) return;
    this.canvas.show(new MaskLayer(blank(photo.naturalWidth, photo.naturalHeight)));
    this.canvas.choose("add");  // there is nothing to remove
    byId("mask-edit").disabled = false;
  }

  edit(on, focus = on) {
    byId("mask-tools").hidden = !on;
    byId("mask-idle").hidden = on || !this.picture?.jobId;
    this.canvas.edit(on);
    if (focus) this.canvas.focus();
  }

  leave() {
    this.layer.reset();
    if (!this.layer.empty) this.showFound();  // else the note says why nothing was found
    this.edit(false);
    byId("mask-edit").focus();
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
    const before = picture.mask;
    picture.mask = mask;
    try {
      // A finished model keeps its own mask: the new one goes with a job of its own.
      if (picture.job?.status === "completed") {
        if (!(await this.pictures.send(picture))) return;
      } else if (mask) await patiently(() => put(`/api/jobs/${picture.jobId}/mask`, mask));
      else await patiently(() => remove(`/api/jobs/${picture.jobId}/mask`));
      picture.maskChanged();
      this.canvas.show(null);
      this.edit(false);
      this.shownJob = null;
      this.show(picture);
      this.pictures.changed(picture);
      say(done);
      byId("mask-edit").focus();
    } catch (error) {
      picture.mask = before;
      byId("mask-note").textContent = explain(error);
      say(byId("mask-note").textContent);
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
