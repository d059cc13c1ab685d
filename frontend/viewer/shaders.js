// The programs that run on the graphics card. Lengths are millimetres, colours are linear until the last line.

const TO_SCREEN = `
vec3 encoded(vec3 c) {
  c = clamp(c, 0.0, 1.0);
  return mix(c * 12.92, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, c));
}`;

export const MESH = {
  vertex: `#version 300 es
in vec3 position; in vec3 normal; in vec2 uv; in vec4 colour;
uniform mat4 clip;
out vec3 place; out vec3 facing; out vec2 spot; out vec4 paint;
void main() {
  place = position; facing = normal; spot = uv; paint = colour;
  gl_Position = clip * vec4(position, 1.0);
}`,
  fragment: `#version 300 es
precision highp float;
in vec3 place; in vec3 facing; in vec2 spot; in vec4 paint;
uniform vec3 eye, right, up, back; uniform vec4 base;
uniform sampler2D skin; uniform bool textured, hasNormals; uniform int mode; uniform float ground, height;
out vec4 pixel;
${TO_SCREEN}
void main() {
  vec3 flat_ = normalize(cross(dFdx(place), dFdy(place)));
  vec3 n = hasNormals && mode != 1 ? normalize(facing) : flat_;
  vec3 v = normalize(eye - place);
  if (mode == 1 || !hasNormals) n *= sign(dot(n, v) + 1e-6); else if (!gl_FrontFacing) n = -n;
  if (mode == 2) { pixel = vec4(n * 0.5 + 0.5, 1.0); return; }
  vec3 albedo = base.rgb * paint.rgb * (textured ? texture(skin, spot).rgb : vec3(1.0));
  if (mode == 3) albedo = vec3(0.40, 0.375, 0.345);
  // A studio: a large soft key from the upper left of the viewer, a cool fill from the right, a rim from behind.
  vec3 key = normalize(-0.55 * right + 0.75 * up + 0.75 * back);
  vec3 fill = normalize(0.9 * right + 0.1 * up + 0.6 * back);
  vec3 rim = normalize(0.35 * right + 0.6 * up - 0.8 * back);
  float soft = smoothstep(-0.35, 1.0, dot(n, key));
  vec3 light = mix(vec3(0.17, 0.155, 0.145), vec3(0.42, 0.44, 0.47), n.y * 0.5 + 0.5);
  light += vec3(0.92, 0.89, 0.84) * soft * soft + vec3(0.13, 0.15, 0.18) * max(dot(n, fill), 0.0);
  light += vec3(0.2) * pow(max(dot(n, rim), 0.0), 2.0);
  light *= mix(0.72, 1.0, smoothstep(0.0, 0.35, (place.y - ground) / max(height, 1e-6)));  // darker towards the ground
  float shine = pow(max(dot(n, normalize(key + v)), 0.0), 38.0) * 0.13;
  float edge = pow(1.0 - max(dot(n, v), 0.0), 4.0) * 0.07;
  vec3 c = albedo * light + shine + edge;
  c = mix(c, 1.0 - exp(-c * 1.5), smoothstep(0.6, 1.2, c));  // highlights roll off, they do not clip
  pixel = vec4(encoded(c), 1.0);
}`,
};

export const LINES = {
  vertex: `#version 300 es
in vec3 position; uniform mat4 clip;
void main() { gl_Position = clip * vec4(position, 1.0); gl_Position.z -= 0.0015 * gl_Position.w; }`,
  fragment: `#version 300 es
precision highp float; uniform vec4 ink; out vec4 pixel;
void main() { pixel = vec4(ink.rgb * ink.a, ink.a); }`,
};

/** The object seen from below: dark where it is near the ground. */
export const FOOTPRINT = {
  vertex: `#version 300 es
in vec3 position; uniform vec4 window; uniform vec2 rise; out float above;
void main() {
  above = (position.y - rise.x) / rise.y;
  gl_Position = vec4((position.xz - window.xy) / window.zw, clamp(above, 0.0, 1.0) * 1.8 - 0.9, 1.0);
}`,
  fragment: `#version 300 es
precision highp float; in float above; out vec4 pixel;
void main() { pixel = vec4(exp(-4.5 * max(above, 0.0)) * 0.85 + 0.15 * exp(-1.2 * max(above, 0.0))); }`,
};

export const BLUR = {
  vertex: `#version 300 es
in vec2 position; out vec2 spot;
void main() { spot = position * 0.5 + 0.5; gl_Position = vec4(position, 0.0, 1.0); }`,
  fragment: `#version 300 es
precision highp float; in vec2 spot; uniform sampler2D source; uniform vec2 step_; out vec4 pixel;
void main() {
  float sum = 0.0, all = 0.0;
  for (int i = -12; i <= 12; i++) {
    float w = exp(-float(i * i) / 60.0);
    sum += w * texture(source, spot + float(i) * step_).r; all += w;
  }
  pixel = vec4(sum / all);
}`,
};

/** The ground: the shadow and a grid in millimetres that fades out. */
export const GROUND = {
  vertex: `#version 300 es
in vec2 position; uniform mat4 clip; uniform vec3 middle; uniform float reach; out vec2 place;
void main() {
  place = middle.xz + position * reach;
  gl_Position = clip * vec4(place.x, middle.y, place.y, 1.0);
}`,
  fragment: `#version 300 es
precision highp float; in vec2 place;
uniform vec3 middle, ink; uniform float reach, cell, strength; uniform vec4 window;
uniform sampler2D shadow; uniform bool lines, below;
out vec4 pixel;
float grid(vec2 p, float size, float width) {
  vec2 q = p / size, d = fwidth(q), a = abs(fract(q - 0.5) - 0.5);
  vec2 line = 1.0 - smoothstep(d * (width - 0.5), d * (width + 0.5), a);
  line *= 1.0 - smoothstep(0.2, 0.5, d);  // too fine to be told apart
  return max(line.x, line.y);
}
void main() {
  float far = length(place - middle.xz) / reach, fade = pow(clamp(1.0 - far, 0.0, 1.0), 1.6);
  vec2 spot = (place - window.xy) / window.zw * 0.5 + 0.5;
  vec2 inside = step(vec2(0.0), spot) * step(spot, vec2(1.0));
  float dark = below ? 0.0 : texture(shadow, spot).r * inside.x * inside.y * strength;
  float mark = lines ? max(grid(place, cell, 0.7) * 0.26, grid(place, cell * 5.0, 0.9) * 0.5) * fade : 0.0;
  float alpha = dark + mark * (1.0 - dark);
  pixel = vec4(ink * mark * (1.0 - dark), alpha);
}`,
};
