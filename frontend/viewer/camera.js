// The camera that orbits a target: where it is, what it sees, and how it comes to another place.

const FIELD_OF_VIEW = 28 * Math.PI / 180;
const HOME = { yaw: 0.55, pitch: 0.28 };
const STEEPEST = 1.54;

export class Camera {
  constructor() {
    this.target = [0, 0, 0];
    this.radius = 1;
    Object.assign(this, HOME, { distance: 5 });
  }

  /** Look at a box from the usual side. */
  reset(box, aspect, filled) {
    Object.assign(this, HOME);
    this.fit(box, aspect, filled);
  }

  /** Keep the direction, bring the whole box {min, max} into view, so that it fills this share of it. */
  fit({ min, max }, aspect, filled = 0.94) {
    this.target = max.map((value, i) => (value + min[i]) / 2);
    this.radius = Math.hypot(...max.map((value, i) => value - min[i])) / 2 || 1;
    const { x, y, z } = this.axes(), up = Math.tan(FIELD_OF_VIEW / 2) * filled;
    this.distance = 0;
    for (let corner = 0; corner < 8; corner++) {
      const arm = max.map((value, i) => (corner >> i & 1 ? value : min[i]) - this.target[i]);
      const along = (axis) => arm[0] * axis[0] + arm[1] * axis[1] + arm[2] * axis[2];
      const needed = Math.max(Math.abs(along(y)) / up, Math.abs(along(x)) / (up * aspect));
      this.distance = Math.max(this.distance, along(z) + needed);
    }
  }

  orbit(right, up) {
    this.yaw -= right;
    this.pitch = clamp(this.pitch + up, -STEEPEST, STEEPEST);
  }

  zoom(factor) {
    this.distance = clamp(this.distance * factor, this.radius * 0.25, this.radius * 40);
  }

  /** Shift by shares of the view's height. */
  pan(right, up) {
    const span = 2 * this.distance * Math.tan(FIELD_OF_VIEW / 2);
    const { x, y } = this.axes();
    this.target = this.target.map((value, i) => value - x[i] * right * span + y[i] * up * span);
  }

  get eye() {
    const { z } = this.axes();
    return this.target.map((value, i) => value + z[i] * this.distance);
  }

  /** The camera's right, up and backward directions. */
  axes() {
    const [sy, cy, sp, cp] = [Math.sin(this.yaw), Math.cos(this.yaw), Math.sin(this.pitch), Math.cos(this.pitch)];
    return { x: [cy, 0, -sy], y: [-sy * sp, cp, -cy * sp], z: [sy * cp, sp, cy * cp] };
  }

  /** Column-major matrix from the world to clip space. */
  matrix(aspect) {
    const { x, y, z } = this.axes(), eye = this.eye;
    const dot = (a) => a[0] * eye[0] + a[1] * eye[1] + a[2] * eye[2];
    const near = Math.max(this.distance - this.radius * 4, this.distance * 0.01);
    const far = this.distance + this.radius * 12;
    const f = 1 / Math.tan(FIELD_OF_VIEW / 2), a = (far + near) / (near - far), b = 2 * far * near / (near - far);
    const clip = [x.map((v) => v * f / aspect), y.map((v) => v * f), z.map((v) => v * a), z.map((v) => -v)];
    const shift = [-dot(x) * f / aspect, -dot(y) * f, -dot(z) * a + b, dot(z)];
    return new Float32Array([0, 1, 2].flatMap((column) => clip.map((row) => row[column])).concat(shift));
  }

  state() {
    return { yaw: this.yaw, pitch: this.pitch, distance: this.distance, target: [...this.target], radius: this.radius };
  }

  /** Between two states; 0 is the first. */
  between(from, to, share) {
    const mix = (a, b) => a + (b - a) * share;
    this.radius = to.radius;
    this.yaw = mix(from.yaw, to.yaw);
    this.pitch = mix(from.pitch, to.pitch);
    this.distance = from.distance * (to.distance / from.distance) ** share;
    this.target = from.target.map((value, i) => mix(value, to.target[i]));
  }
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
