// Draws one frame: the ground with its shadow and grid, the model, the wireframe over it.

import { Part, program, square, target } from "./gpu.js";
import { BLUR, FOOTPRINT, GROUND, LINES, MESH } from "./shaders.js";

export const MODES = ["shaded", "flat", "normals", "clay"];
const SHADOW_SIZE = 256;
const MM_PER_UNIT = 1000;
const CROWDED = 30_000;

/** Everything on the card; made anew after a lost context. */
export class Painter {
  constructor(gl) {
    this.gl = gl;
    this.programs = Object.fromEntries(
      Object.entries({ mesh: MESH, lines: LINES, footprint: FOOTPRINT, blur: BLUR, ground: GROUND })
        .map(([name, sources]) => [name, program(gl, sources)]),
    );
    this.square = square(gl);
    this.shadow = [target(gl, SHADOW_SIZE), target(gl, SHADOW_SIZE)];
    this.parts = [];
    this.model = null;
  }

  /** `model` as the parser made it, with `pictures` decoded for its primitives. */
  setModel(model, pictures) {
    this.parts.forEach((part) => part.free());
    this.model = model;
    this.parts = model ? model.primitives.map((each, i) => new Part(this.gl, each, pictures[i])) : [];
    if (model) this.castShadow();
  }

  get box() {
    const { min, max } = this.model;
    const size = max.map((value, i) => value - min[i]);
    const centre = max.map((value, i) => (value + min[i]) / 2);
    return { size, centre, radius: Math.hypot(...size) / 2, ground: min[1] };
  }

  /** Millimetres from one line of the grid to the next: 1, 2 or 5 times a power of ten. */
  get cellMm() {
    const wanted = Math.max(this.box.size[0], this.box.size[2], this.box.size[1] * 0.5) * MM_PER_UNIT / 10 || 1;
    const power = 10 ** Math.floor(Math.log10(wanted));
    return power * ([1, 2, 5].find((step) => step * power >= wanted * 0.999) ?? 10);
  }

  use(name, uniforms) {
    const { made, set } = this.programs[name];
    this.gl.useProgram(made);
    for (const [key, value] of Object.entries(uniforms)) set[key]?.(value);
  }

  castShadow() {
    const { gl, box } = this, [first, second] = this.shadow;
    const reach = Math.max(box.size[0], box.size[2]) * 0.5 + Math.max(...box.size) * 0.22;
    this.window = [box.centre[0], box.centre[2], reach, reach];
    gl.viewport(0, 0, SHADOW_SIZE, SHADOW_SIZE);
    gl.bindFramebuffer(gl.FRAMEBUFFER, first.frame);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    this.use("footprint", { window: this.window, rise: [box.ground, Math.max(...box.size)] });
    this.parts.forEach((part) => part.draw());
    gl.disable(gl.DEPTH_TEST);
    gl.bindVertexArray(this.square);
    for (const [from, to, step] of [[first, second, [1.6 / SHADOW_SIZE, 0]], [second, first, [0, 1.6 / SHADOW_SIZE]]]) {
      gl.bindFramebuffer(gl.FRAMEBUFFER, to.frame);
      gl.bindTexture(gl.TEXTURE_2D, from.colour);
      this.use("blur", { source: 0, step_: step });
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  }

  /** `look`: mode, wireframe, grid, ink (rgb of the lines), shade (0–1), dark. */
  draw(camera, width, height, look) {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.model) return;
    const clip = camera.matrix(width / height);
    this.drawMesh(clip, camera, look);
    if (look.wireframe) this.drawWireframe(clip, look);
    if (look.ground) this.drawGround(clip, camera, look);
  }

  drawMesh(clip, camera, look) {
    const { gl, box } = this, { x, y, z } = camera.axes();
    gl.enable(gl.DEPTH_TEST);
    gl.depthMask(true);
    gl.disable(gl.BLEND);
    for (const part of this.parts) {
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, part.texture ?? this.shadow[0].colour);
      this.use("mesh", {
        clip, eye: camera.eye, right: x, up: y, back: z, base: part.primitive.base, skin: 0,
        textured: Boolean(part.texture), hasNormals: Boolean(part.primitive.normals),
        mode: MODES.indexOf(look.mode), ground: box.ground, height: box.size[1],
      });
      part.draw();
    }
  }

  drawWireframe(clip, look) {
    const { gl } = this;
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    const [r, g, b, strength] = look.wireInk;  // fainter where the lines are so many that they would cover all
    this.use("lines", { clip, ink: [r, g, b, strength * Math.min(1, Math.sqrt(CROWDED / this.model.triangles))] });
    this.parts.forEach((part) => part.drawLines());
    gl.depthMask(true);
  }

  drawGround(clip, camera, look) {
    const { gl, box } = this;
    const reach = Math.max(box.radius * 3.2, this.window[2] * 1.5);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    gl.depthMask(false);
    gl.bindTexture(gl.TEXTURE_2D, this.shadow[0].colour);
    gl.bindVertexArray(this.square);
    this.use("ground", {
      clip, middle: [box.centre[0], box.ground - box.radius * 0.002, box.centre[2]], reach, window: this.window,
      cell: this.cellMm / MM_PER_UNIT, ink: look.ink, strength: look.shade, shadow: 0, lines: look.grid,
      below: camera.eye[1] < box.ground,
    });
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.depthMask(true);
  }
}
