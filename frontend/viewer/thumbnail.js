// Renders small pictures of models, away from the page, for the history.

import { Camera } from "./camera.js";
import { decodePictures, parseGlb } from "./glb.js";
import { Painter } from "./painter.js";

const WIDTH = 384, HEIGHT = 256;
const LOOK = { mode: "shaded", wireframe: false, ground: true, grid: false, ink: [0, 0, 0], shade: 0.4 };
let canvas = null, painter = null;

/** The GLB in an ArrayBuffer from its usual side, as a WebP or, where the browser cannot, a PNG; null without WebGL2. */
export async function thumbnail(buffer) {
  const model = parseGlb(buffer);
  const pictures = await decodePictures(model);
  if (!ready()) return null;
  painter.setModel(model, pictures);
  const camera = new Camera();
  camera.reset(model, WIDTH / HEIGHT, 1.0);
  painter.draw(camera, WIDTH, HEIGHT, LOOK);
  const picture = canvas.convertToBlob({ type: "image/webp", quality: 0.88 });
  painter.setModel(null, []);
  return picture;
}

function ready() {
  if (painter && !painter.gl.isContextLost()) return true;
  canvas = new OffscreenCanvas(WIDTH, HEIGHT);
  const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
  painter = gl && new Painter(gl);
  return Boolean(painter);
}
