// The viewer: a canvas that shows a GLB, how it is moved and lit, and what happens when the graphics card gives up.
// It draws only when something has changed.

import { Camera } from "./camera.js";
import { attachControls } from "./controls.js";
import { decodePictures, parseGlb } from "./glb.js";
import { MODES, Painter } from "./painter.js";

export { GlbError } from "./glb.js";
export { MODES };

const SLOW_FRAME_MS = 45;
const SETTLE_MS = 180;
const LONGEST_STEP_MS = 200;
const GLIDE_MS = 320;
const TURN_PER_MS = 0.00045;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Viewer {
  /** `onChange(viewer)` after anything that the controls around the canvas show. */
  constructor(canvas, onChange = () => {}) {
    this.canvas = canvas;
    this.onChange = onChange;
    this.camera = new Camera();
    this.look = { mode: "shaded", wireframe: false, grid: true, ground: true };
    this.model = null;
    this.pictures = [];
    this.rotating = false;
    this.frame = 0;
    this.coarse = 1;
    this.gl = canvas.getContext("webgl2", { antialias: true, powerPreference: "high-performance" });
    this.supported = Boolean(this.gl);
    if (!this.supported) return;
    this.painter = new Painter(this.gl);
    this.listen();
  }

  listen() {
    const { canvas } = this;
    attachControls(canvas, {
      orbit: (right, up) => this.move(() => this.camera.orbit(right, up)),
      pan: (right, up) => this.move(() => this.camera.pan(right, up)),
      zoom: (factor) => this.move(() => this.camera.zoom(factor)),
      reset: () => this.reset(),
      key: (letter) => this.key(letter),
    });
    canvas.addEventListener("webglcontextlost", (event) => {
      event.preventDefault();
      this.painter = null;
      cancelAnimationFrame(this.frame);
      this.frame = 0;
      canvas.dataset.state = "lost";
      this.onChange(this);
    });
    canvas.addEventListener("webglcontextrestored", () => {
      this.painter = new Painter(this.gl);
      this.painter.setModel(this.model, this.pictures);
      canvas.dataset.state = this.model ? "ready" : "empty";
      this.onChange(this);
      this.redraw();
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    new MutationObserver(() => this.redraw()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.watchDensity();
  }

  /** A window moved to a screen of another pixel density needs another drawing. */
  watchDensity() {
    matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => {
      this.redraw();
      this.watchDensity();
    }, { once: true });
  }

  /** Show the GLB in an ArrayBuffer; GlbError when it cannot be read, and then nothing is shown. */
  async load(buffer) {
    const turn = this.loading = {};
    this.clear();
    this.canvas.dataset.state = "loading";
    try {
      const model = parseGlb(buffer);
      const pictures = await decodePictures(model);
      if (turn !== this.loading) return false;  // another model was asked for in the meantime
      this.model = model;
      this.pictures = pictures;
      this.painter?.setModel(model, pictures);
      this.camera.reset(model, this.aspect);
      this.canvas.dataset.state = this.painter ? "ready" : "lost";
      this.canvas.dataset.triangles = model.triangles;
      this.onChange(this);
      this.redraw();
      return true;
    } catch (error) {
      if (turn === this.loading) this.canvas.dataset.state = "error";
      throw error;
    }
  }

  clear() {
    this.model = null;
    this.pictures = [];
    this.painter?.setModel(null, []);
    this.canvas.dataset.state = "empty";
    delete this.canvas.dataset.triangles;
    this.redraw();
  }

  get aspect() {
    return this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight);
  }

  move(change) {
    if (!this.model) return;
    this.glide = null;
    change();
    this.lastMove = performance.now();
    this.redraw();
  }

  reset() {
    if (this.model) this.glideTo((camera) => camera.reset(this.model, this.aspect));
  }

  fit() {
    if (this.model) this.glideTo((camera) => camera.fit(this.model, this.aspect));
  }

  glideTo(change) {
    const from = this.camera.state();
    change(this.camera);
    if (calm.matches) return this.redraw();
    const to = this.camera.state();
    to.yaw = from.yaw + Math.atan2(Math.sin(to.yaw - from.yaw), Math.cos(to.yaw - from.yaw));  // the short way round
    this.glide = { from, to, began: performance.now() };
    this.camera.between(from, to, 0);
    this.redraw();
  }

  set(change) {
    Object.assign(this.look, change);
    this.onChange(this);
    this.redraw();
  }

  rotate(on = !this.rotating) {
    this.rotating = on;
    this.onChange(this);
    this.redraw();
  }

  /** True when the letter is one of the viewer's. */
  key(letter) {
    if (letter === "f") this.fit();
    else if (letter === "w") this.set({ wireframe: !this.look.wireframe });
    else if (letter === "r") this.rotate();
    else if (letter === "g") this.set({ grid: !this.look.grid });
    else if (MODES[letter - 1]) this.set({ mode: MODES[letter - 1] });
    else return false;
    return true;
  }

  redraw() {
    if (!this.painter || this.frame) return;
    this.asked = performance.now();
    this.frame = requestAnimationFrame((now) => this.paint(now));
  }

  paint(now) {
    this.frame = 0;
    if (!this.painter) return;
    this.animate(now, Math.min(now - (this.lastFrame ?? now), LONGEST_STEP_MS));
    this.lastFrame = now;
    const moving = this.rotating || this.glide || now - (this.lastMove ?? -Infinity) < SETTLE_MS;
    // A card that cannot keep up makes frames wait: fewer pixels while things move, all of them once they rest.
    if (moving && performance.now() - this.asked > SLOW_FRAME_MS) this.coarse = Math.max(0.4, this.coarse * 0.8);
    this.resize(moving ? this.coarse : 1);
    this.draw();
    if (this.rotating || this.glide) return this.redraw();
    this.lastFrame = undefined;
    if (moving && this.coarse < 1) {
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.redraw(), SETTLE_MS + 20);
    }
  }

  animate(now, passed) {
    if (this.glide) {
      const share = Math.min(1, (now - this.glide.began) / GLIDE_MS);
      this.camera.between(this.glide.from, this.glide.to, 1 - (1 - Math.max(0, share)) ** 3);
      if (share >= 1) this.glide = null;
    }
    if (this.rotating && this.model) this.camera.orbit(-passed * TURN_PER_MS, 0);
  }

  resize(share) {
    const density = Math.min(devicePixelRatio || 1, 3) * share;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * density));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * density));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
  }

  draw() {
    this.painter.draw(this.camera, this.canvas.width, this.canvas.height, { ...this.look, ...this.colours() });
    // For whoever wants to see that a view at rest is not drawn again.
    this.canvas.dataset.frames = Number(this.canvas.dataset.frames ?? 0) + 1;
  }

  colours() {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    return dark
      ? { ink: [0.75, 0.78, 0.82], shade: 0.6, wireInk: [1, 1, 1, 0.32] }
      : { ink: [0.25, 0.22, 0.2], shade: 0.42, wireInk: [0.08, 0.06, 0.05, 0.4] };
  }

  get cellMm() {
    return this.model && this.painter ? this.painter.cellMm : null;
  }

  /** What is seen now as a PNG, twice as sharp as a usual screen, on a transparent ground. */
  snapshot() {
    if (!this.painter || !this.model) return null;
    const { canvas } = this, density = Math.max(devicePixelRatio || 1, 2);
    canvas.width = Math.round(canvas.clientWidth * density);
    canvas.height = Math.round(canvas.clientHeight * density);
    this.draw();
    const copy = new OffscreenCanvas(canvas.width, canvas.height);
    copy.getContext("2d").drawImage(canvas, 0, 0);
    this.resize(1);  // before the browser shows the larger one
    this.draw();
    return copy.convertToBlob({ type: "image/png" });
  }
}
