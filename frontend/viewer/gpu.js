// WebGL2 plumbing: programs, buffers of a model, textures, render targets.

const SLOTS = { position: 0, normal: 1, uv: 2, colour: 3 };

/** A linked program, and for each of its uniforms a function that sets it. */
export function program(gl, { vertex, fragment }) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
  }
  for (const [name, slot] of Object.entries(SLOTS)) gl.bindAttribLocation(made, slot, name);
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(made).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`the graphics card refused a program: ${gl.getProgramInfoLog(made)} ${logs.join(" ")}`);
  }
  const set = {};
  for (let i = 0; i < (gl.getProgramParameter(made, gl.ACTIVE_UNIFORMS) ?? 0); i++) {
    const { name, type } = gl.getActiveUniform(made, i);
    set[name] = setter(gl, type, gl.getUniformLocation(made, name));
  }
  return { made, set };
}

function setter(gl, type, place) {
  switch (type) {
    case gl.FLOAT: return (value) => gl.uniform1f(place, value);
    case gl.FLOAT_VEC2: return (value) => gl.uniform2fv(place, value);
    case gl.FLOAT_VEC3: return (value) => gl.uniform3fv(place, value);
    case gl.FLOAT_VEC4: return (value) => gl.uniform4fv(place, value);
    case gl.FLOAT_MAT4: return (value) => gl.uniformMatrix4fv(place, false, value);
    default: return (value) => gl.uniform1i(place, value);
  }
}

/** A square from −1 to 1. */
export function square(gl) {
  const vao = gl.createVertexArray();
  gl.bindVertexArray(vao);
  attribute(gl, "position", new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), 2);
  gl.bindVertexArray(null);
  return vao;
}

function attribute(gl, name, values, width) {
  const buffer = gl.createBuffer();
  gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(SLOTS[name]);
  gl.vertexAttribPointer(SLOTS[name], width, gl.FLOAT, false, 0, 0);
  return buffer;
}

/** One primitive on the card. `picture` is its decoded texture or null. */
export class Part {
  constructor(gl, primitive, picture) {
    this.gl = gl;
    this.primitive = primitive;
    this.vao = gl.createVertexArray();
    gl.bindVertexArray(this.vao);
    const { positions, normals, uvs, colours, colourWidth, indices } = primitive;
    this.places = attribute(gl, "position", positions, 3);
    this.buffers = [this.places];
    if (normals) this.buffers.push(attribute(gl, "normal", normals, 3));
    if (uvs) this.buffers.push(attribute(gl, "uv", uvs, 2));
    if (colours) this.buffers.push(attribute(gl, "colour", colours, colourWidth));
    if (indices) {
      const buffer = gl.createBuffer();
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
      this.buffers.push(buffer);
    }
    gl.bindVertexArray(null);
    this.texture = picture && texture(gl, picture, primitive.repeat);
    this.lines = null;
  }

  draw() {
    const { gl, primitive: { indices, positions } } = this;
    gl.bindVertexArray(this.vao);
    gl.vertexAttrib4f(SLOTS.colour, 1, 1, 1, 1);
    const kind = indices instanceof Uint32Array ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT;
    if (indices) gl.drawElements(gl.TRIANGLES, indices.length, kind, 0);
    else gl.drawArrays(gl.TRIANGLES, 0, positions.length / 3);
  }

  /** The wireframe; its indices are made when it is first wanted. */
  drawLines() {
    const { gl } = this;
    if (!this.lines) {
      const vao = gl.createVertexArray(), buffer = gl.createBuffer(), corners = edges(this.primitive);
      gl.bindVertexArray(vao);
      gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
      gl.enableVertexAttribArray(SLOTS.position);
      gl.vertexAttribPointer(SLOTS.position, 3, gl.FLOAT, false, 0, 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
      this.buffers.push(buffer);
      this.lines = { vao, count: corners.length };
    }
    gl.bindVertexArray(this.lines.vao);
    gl.drawElements(gl.LINES, this.lines.count, gl.UNSIGNED_INT, 0);
  }

  free() {
    for (const buffer of this.buffers) this.gl.deleteBuffer(buffer);
    this.gl.deleteVertexArray(this.vao);
    if (this.lines) this.gl.deleteVertexArray(this.lines.vao);
    if (this.texture) this.gl.deleteTexture(this.texture);
  }
}

/** Every edge once, as pairs of vertex numbers. */
function edges({ indices, positions }) {
  const count = indices ? indices.length : positions.length / 3;
  const keys = new Float64Array(Math.floor(count / 3) * 3);
  const corner = (i) => (indices ? indices[i] : i);
  for (let i = 0; i < keys.length; i++) {
    const a = corner(i), b = corner(i % 3 === 2 ? i - 2 : i + 1);
    keys[i] = a < b ? a * 2 ** 26 + b : b * 2 ** 26 + a;
  }
  keys.sort();
  const pairs = new Uint32Array(keys.length * 2);
  let length = 0;
  for (let i = 0; i < keys.length; i++) {
    if (i && keys[i] === keys[i - 1]) continue;
    pairs[length++] = Math.floor(keys[i] / 2 ** 26);
    pairs[length++] = keys[i] % 2 ** 26;
  }
  return pairs.subarray(0, length);
}

function texture(gl, picture, repeat) {
  const made = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, made);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.SRGB8_ALPHA8, gl.RGBA, gl.UNSIGNED_BYTE, picture);
  gl.generateMipmap(gl.TEXTURE_2D);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
  gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
  const wrap = repeat ? gl.REPEAT : gl.CLAMP_TO_EDGE;
  for (const way of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, way, wrap);
  const anisotropic = gl.getExtension("EXT_texture_filter_anisotropic");
  if (anisotropic) gl.texParameteri(gl.TEXTURE_2D, anisotropic.TEXTURE_MAX_ANISOTROPY_EXT, 4);
  return made;
}

/** A square texture that can be drawn into. */
export function target(gl, size) {
  const colour = gl.createTexture(), frame = gl.createFramebuffer(), depth = gl.createRenderbuffer();
  gl.bindTexture(gl.TEXTURE_2D, colour);
  gl.texStorage2D(gl.TEXTURE_2D, 1, gl.RGBA8, size, size);
  for (const way of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, way, gl.CLAMP_TO_EDGE);
  for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
  gl.bindRenderbuffer(gl.RENDERBUFFER, depth);
  gl.renderbufferStorage(gl.RENDERBUFFER, gl.DEPTH_COMPONENT16, size, size);
  gl.bindFramebuffer(gl.FRAMEBUFFER, frame);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, colour, 0);
  gl.framebufferRenderbuffer(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.RENDERBUFFER, depth);
  gl.bindFramebuffer(gl.FRAMEBUFFER, null);
  return { colour, frame, size };
}
