// The mask as pixels: what is the object, brush strokes on it, and the way back.

const LONGEST = 1024;
const KEEP_UNDO = 24;
/** Shares of the picture and of its rim that one object rarely takes. */
const MOST_INSIDE = 0.8, MOST_ON_RIM = 0.4;

export class MaskLayer {
  /** `found` is the mask as a grey picture: white is the object. */
  constructor(found) {
    const scale = Math.min(1, LONGEST / Math.max(found.width, found.height));
    this.width = Math.max(1, Math.round(found.width * scale));
    this.height = Math.max(1, Math.round(found.height * scale));
    const pen = this.pen();
    pen.drawImage(found, 0, 0, this.width, this.height);
    const { data } = pen.getImageData(0, 0, this.width, this.height);
    this.values = new Uint8Array(this.width * this.height);
    for (let i = 0; i < this.values.length; i++) this.values[i] = data[4 * i];
    this.found = this.values.slice();
    this.past = [];
  }

  pen() {
    return new OffscreenCanvas(this.width, this.height).getContext("2d", { willReadFrequently: true });
  }

  /** Whether so much is the object that some of the background must be part of it. */
  get doubtful() {
    const { width, height, values } = this;
    let inside = 0, onRim = 0;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (values[i] <= 127) continue;
        inside++;
        if (x === 0 || y === 0 || x === width - 1 || y === height - 1) onRim++;
      }
    }
    return inside > MOST_INSIDE * values.length || onRim > MOST_ON_RIM * 2 * (width + height);
  }

  get empty() {
    return !this.values.some((value) => value > 127);
  }

  remember() {
    this.past.push(this.values.slice());
    if (this.past.length > KEEP_UNDO) this.past.shift();
  }

  undo() {
    if (this.past.length) this.values = this.past.pop();
  }

  /** Back to what was found, however many strokes ago. */
  reset() {
    this.values = this.found.slice();
    this.past = [];
  }

  /** A stroke from one point to another, in pixels of the layer. */
  stroke([x0, y0], [x1, y1], radius, value) {
    const { width, height, values } = this;
    const span = (a, b, end) => [
      Math.max(0, Math.floor(Math.min(a, b) - radius)),
      Math.min(end, Math.ceil(Math.max(a, b) + radius)),
    ];
    const [left, right] = span(x0, x1, width - 1), [top, bottom] = span(y0, y1, height - 1);
    const dx = x1 - x0, dy = y1 - y0, length2 = dx * dx + dy * dy || 1;
    for (let y = top; y <= bottom; y++) {
      for (let x = left; x <= right; x++) {
        const along = Math.min(1, Math.max(0, ((x - x0) * dx + (y - y0) * dy) / length2));
        const away = Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
        const cover = Math.min(1, Math.max(0, radius + 0.5 - away));  // a soft rim of one pixel
        if (cover > 0) values[y * width + x] += (value - values[y * width + x]) * cover;
      }
    }
  }

  /** The overlay: what is not the object is veiled, and a line runs along the object's rim. Colours are [r, g, b]. */
  overlay(veil, line) {
    const { width, height, values } = this;
    const image = this.image ??= new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [veiled, rim] = [veil, line].map(([r, g, b]) => b << 16 | g << 8 | r);
    const outside = (i) => values[i] <= 127;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const edge = !outside(i) && ((x > 1 && outside(i - 2)) || (x < width - 2 && outside(i + 2))
          || (y > 1 && outside(i - 2 * width)) || (y < height - 2 && outside(i + 2 * width)));
        pixels[i] = edge ? rim | 0xff000000 : veiled | Math.round((255 - values[i]) * 0.72) << 24;
      }
    }
    return image;
  }

  /** The mask as the server takes it: a grey PNG, white is the object. */
  async toBlob() {
    const pen = this.pen(), image = new ImageData(this.width, this.height);
    this.values.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
    pen.putImageData(image, 0, 0);
    return pen.canvas.convertToBlob({ type: "image/png" });
  }
}
