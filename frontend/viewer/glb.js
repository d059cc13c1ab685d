// Reads a GLB (glTF 2.0, binary) into plain arrays: triangles in world space, and what colours them.
// Every way in which a file can be wrong ends as a GlbError whose text is for people.

export class GlbError extends Error {}

const COMPONENTS = {
  5120: { array: Int8Array, get: "getInt8", scale: 127 },
  5121: { array: Uint8Array, get: "getUint8", scale: 255 },
  5122: { array: Int16Array, get: "getInt16", scale: 32767 },
  5123: { array: Uint16Array, get: "getUint16", scale: 65535 },
  5125: { array: Uint32Array, get: "getUint32", scale: 4294967295 },
  5126: { array: Float32Array, get: "getFloat32", scale: 1 },
};
const WIDTHS = { SCALAR: 1, VEC2: 2, VEC3: 3, VEC4: 4, MAT4: 16 };
const READABLE = new Set(["KHR_mesh_quantization", "KHR_materials_unlit", "KHR_lights_punctual"]);
const COMPRESSIONS = {
  KHR_draco_mesh_compression: "Draco",
  EXT_meshopt_compression: "meshopt",
  KHR_texture_basisu: "Basis textures",
};
const TRIANGLES = 4, STRIP = 5, FAN = 6;
const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];

/** ArrayBuffer → {primitives, min, max, triangles}; positions keep the file's own unit. */
export function parseGlb(buffer) {
  const { json, binary } = chunks(buffer);
  checkExtensions(json);
  const file = { json, binary };
  const primitives = [];
  for (const { mesh, matrix } of placedMeshes(json)) {
    for (const primitive of list(json, "meshes")[mesh]?.primitives ?? []) {
      if ([undefined, TRIANGLES, STRIP, FAN].includes(primitive.mode)) primitives.push(read(file, primitive, matrix));
    }
  }
  const filled = primitives.filter((each) => each.triangles > 0);
  if (!filled.length) throw new GlbError("The file is a GLB, but there are no triangles in it.");
  return { primitives: filled, ...bounds(filled), triangles: filled.reduce((sum, each) => sum + each.triangles, 0) };
}

/** The model's textures, ready for the card; null where there is none or it is damaged. */
export function decodePictures(model) {
  const decode = (blob) => createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  return Promise.all(model.primitives.map(({ image }) => (image ? decode(image).catch(() => null) : null)));
}

function chunks(buffer) {
  const view = new DataView(buffer);
  if (buffer.byteLength < 12) throw new GlbError("The file is cut short: it has not even a GLB's first 12 bytes.");
  if (view.getUint32(0, true) !== 0x46546c67) throw new GlbError("This is not a GLB file: it does not begin with “glTF”.");
  const version = view.getUint32(4, true);
  if (version !== 2) throw new GlbError(`This GLB is of version ${version}; only version 2 can be shown.`);
  const length = view.getUint32(8, true);
  if (length > buffer.byteLength) {
    throw new GlbError(`The file is cut short: ${buffer.byteLength} of ${length} bytes are there. Load it again.`);
  }
  let json = null, binary = null;
  for (let at = 12; at + 8 <= length;) {
    const size = view.getUint32(at, true), kind = view.getUint32(at + 4, true);
    if (at + 8 + size > length) throw new GlbError("The file is damaged: one of its parts reaches beyond its end.");
    const part = new Uint8Array(buffer, at + 8, size);
    if (kind === 0x4e4f534a && !json) json = parseJson(part);
    if (kind === 0x004e4942 && !binary) binary = part;
    at += 8 + size + (-size & 3);
  }
  if (!json) throw new GlbError("The file is damaged: it has no description of its content.");
  return { json, binary };
}

function parseJson(bytes) {
  try {
    const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    if (json && typeof json === "object") return json;
  } catch { /* said below */ }
  throw new GlbError("The file is damaged: the description of its content cannot be read.");
}

function checkExtensions(json) {
  for (const name of list(json, "extensionsRequired")) {
    if (READABLE.has(name)) continue;
    const what = COMPRESSIONS[name] ? `is packed with ${COMPRESSIONS[name]}` : `needs the extension ${name}`;
    throw new GlbError(`This GLB ${what}, which the viewer cannot unpack. Export it again without it.`);
  }
}

const list = (json, name) => (Array.isArray(json[name]) ? json[name] : []);

function placedMeshes(json) {
  const nodes = list(json, "nodes"), placed = [];
  const scene = list(json, "scenes")[json.scene ?? 0];
  const walk = (number, parent, depth) => {
    const node = nodes[number];
    if (!node || depth > 100) throw new GlbError("The file is damaged: its parts refer to each other in a wrong way.");
    const matrix = multiply(parent, localMatrix(node));
    if (node.mesh !== undefined) placed.push({ mesh: node.mesh, matrix });
    for (const child of node.children ?? []) walk(child, matrix, depth + 1);
  };
  for (const root of scene?.nodes ?? nodes.keys()) walk(root, IDENTITY, 0);
  if (!nodes.length) list(json, "meshes").forEach((_, mesh) => placed.push({ mesh, matrix: IDENTITY }));
  return placed;
}

function localMatrix(node) {
  if (node.matrix) return node.matrix;
  const { translation: t = [0, 0, 0], rotation: [x, y, z, w] = [0, 0, 0, 1], scale: s = [1, 1, 1] } = node;
  return [
    (1 - 2 * (y * y + z * z)) * s[0], 2 * (x * y + z * w) * s[0], 2 * (x * z - y * w) * s[0], 0,
    2 * (x * y - z * w) * s[1], (1 - 2 * (x * x + z * z)) * s[1], 2 * (y * z + x * w) * s[1], 0,
    2 * (x * z + y * w) * s[2], 2 * (y * z - x * w) * s[2], (1 - 2 * (x * x + y * y)) * s[2], 0,
    ...t, 1,
  ];
}

function multiply(a, b) {
  return b.map((_, i) => [0, 1, 2, 3].reduce((sum, k) => sum + a[(i & 3) + 4 * k] * b[k + (i & ~3)], 0));
}

function read(file, primitive, matrix) {
  const { attributes = {}, material } = primitive;
  const positions = numbers(file, attributes.POSITION, 3);
  const normals = attributes.NORMAL === undefined ? null : numbers(file, attributes.NORMAL, 3);
  const count = positions.length / 3;
  let indices = primitive.indices === undefined ? null : whole(file, primitive.indices);
  if (indices?.some((index) => index >= count)) {
    throw new GlbError("The file is damaged: a triangle has a corner that is not there.");
  }
  if (primitive.mode > TRIANGLES) indices = unrolled(indices ?? inOrder(count), primitive.mode);
  if (matrix !== IDENTITY && matrix.some((value, i) => value !== IDENTITY[i])) {
    indices = moved(positions, normals, indices, matrix);
  }
  return {
    positions,
    normals,
    indices,
    triangles: Math.floor((indices ? indices.length : count) / 3),
    ...colouring(file, attributes, list(file.json, "materials")[material]?.pbrMetallicRoughness ?? {}),
  };
}

function colouring(file, attributes, surface) {
  const texture = list(file.json, "textures")[surface.baseColorTexture?.index];
  const image = texture && list(file.json, "images")[texture.source];
  const uvs = attributes[`TEXCOORD_${surface.baseColorTexture?.texCoord ?? 0}`];
  const textured = image?.bufferView !== undefined && uvs !== undefined;
  const colours = attributes.COLOR_0;
  const width = colours === undefined ? 0 : WIDTHS[list(file.json, "accessors")[colours]?.type];
  return {
    base: surface.baseColorFactor ?? [1, 1, 1, 1],
    uvs: textured ? numbers(file, uvs, 2) : null,
    image: textured ? new Blob([viewBytes(file, image.bufferView)], { type: image.mimeType }) : null,
    repeat: list(file.json, "samplers")[texture?.sampler]?.wrapS !== 33071,
    colours: colours === undefined ? null : numbers(file, colours, width),
    colourWidth: width,
  };
}

function viewBytes({ json, binary }, number) {
  const view = list(json, "bufferViews")[number];
  if (!view) throw new GlbError("The file is damaged: it refers to data that is not described.");
  if (!binary || list(json, "buffers")[view.buffer]?.uri !== undefined) {
    throw new GlbError("This GLB keeps its data in other files. Export it as one file.");
  }
  const { byteOffset: start = 0, byteLength: size } = view;
  if (start + size > binary.length) throw new GlbError("The file is cut short: some of its data is missing. Load it again.");
  return binary.subarray(start, start + size);
}

/** The accessor's values one after the other, whatever lies between them in the file, in their own type. */
function values(file, number, width) {
  const accessor = list(file.json, "accessors")[number];
  const kind = COMPONENTS[accessor?.componentType];
  if (!kind || WIDTHS[accessor.type] !== width) throw new GlbError("The file is damaged: its data is not of a known kind.");
  if (accessor.sparse || accessor.bufferView === undefined) {
    throw new GlbError("This GLB stores its data sparsely or packed, which the viewer cannot unpack.");
  }
  const bytes = viewBytes(file, accessor.bufferView);
  const { byteOffset: start = 0, count } = accessor;
  const size = kind.array.BYTES_PER_ELEMENT, tight = size * width;
  const stride = list(file.json, "bufferViews")[accessor.bufferView].byteStride || tight;
  if (count && start + (count - 1) * stride + tight > bytes.length) {
    throw new GlbError("The file is damaged: some of its data reaches beyond its end.");
  }
  if (stride === tight) {
    const from = bytes.byteOffset + start;
    return { array: new kind.array(bytes.buffer.slice(from, from + count * tight)), accessor, kind };
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const array = new kind.array(count * width);
  for (let i = 0; i < count; i++) {
    for (let k = 0; k < width; k++) array[i * width + k] = view[kind.get](start + i * stride + k * size, true);
  }
  return { array, accessor, kind };
}

function numbers(file, number, width) {
  const { array, accessor, kind } = values(file, number, width);
  if (array instanceof Float32Array) return array;
  return Float32Array.from(array, accessor.normalized ? (value) => Math.max(value / kind.scale, -1) : Number);
}

function whole(file, number) {
  const { array } = values(file, number, 1);
  if (array instanceof Uint32Array || array instanceof Uint16Array) return array;
  if (array instanceof Uint8Array) return Uint16Array.from(array);
  throw new GlbError("The file is damaged: the corners of its triangles are not whole numbers.");
}

const inOrder = (count) => Uint32Array.from({ length: count }, (_, i) => i);

function unrolled(corners, mode) {
  const made = new Uint32Array(Math.max(0, corners.length - 2) * 3);
  for (let i = 0; i + 2 < corners.length; i++) {
    const odd = i & 1;
    const [a, b] = mode === FAN ? [0, i + 1] : [i + odd, i + 1 - odd];
    made.set([corners[a], corners[b], corners[i + 2]], 3 * i);
  }
  return made;
}

/** Puts positions and normals in their place in the world; returns the corners, turned over where that mirrors. */
function moved(positions, normals, indices, m) {
  const rows = [0, 1, 2].map((r) => [m[r], m[r + 4], m[r + 8]]);
  // Normals go with the cofactors, which keeps them upright on stretched meshes.
  const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
  const cofactors = [cross(rows[1], rows[2]), cross(rows[2], rows[0]), cross(rows[0], rows[1])];
  const mirrored = rows[0].reduce((sum, value, i) => sum + value * cofactors[0][i], 0) < 0;
  const sign = mirrored ? -1 : 1;
  const apply = (array, [a, b, c], add, after) => {
    for (let i = 0; i < array.length; i += 3) {
      const [x, y, z] = [array[i], array[i + 1], array[i + 2]];
      array[i] = after * (a[0] * x + a[1] * y + a[2] * z) + add[0];
      array[i + 1] = after * (b[0] * x + b[1] * y + b[2] * z) + add[1];
      array[i + 2] = after * (c[0] * x + c[1] * y + c[2] * z) + add[2];
    }
  };
  apply(positions, rows, [m[12], m[13], m[14]], 1);
  if (normals) apply(normals, cofactors, [0, 0, 0], sign);
  if (!mirrored) return indices;
  const corners = indices ? Uint32Array.from(indices) : inOrder(positions.length / 3);
  for (let i = 0; i + 2 < corners.length; i += 3) [corners[i], corners[i + 1]] = [corners[i + 1], corners[i]];
  return corners;
}

function bounds(primitives) {
  const min = [Infinity, Infinity, Infinity], max = [-Infinity, -Infinity, -Infinity];
  for (const { positions } of primitives) {
    for (let i = 0; i < positions.length; i++) {
      const value = positions[i], axis = i % 3;
      if (value < min[axis]) min[axis] = value;
      if (value > max[axis]) max[axis] = value;
    }
  }
  if (![...min, ...max].every(Number.isFinite)) {
    throw new GlbError("The file is damaged: some of its points are not numbers.");
  }
  return { min, max };
}
