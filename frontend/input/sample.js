// The built-in sample: a glazed teapot, drawn here, so that there is something to try without a picture at hand.

const WIDTH = 960, HEIGHT = 720;
const CLAY = ["#e08a5b", "#b4512c", "#6e2a15"];
const GLAZE = ["#fff6e4", "#f0dcb8", "#b3956a"];

/** Draw it into a context whose canvas has any size. */
export function drawSample(pen) {
  pen.save();
  pen.scale(pen.canvas.width / WIDTH, pen.canvas.height / HEIGHT);
  pen.lineJoin = pen.lineCap = "round";
  handle(pen);
  spout(pen);
  body(pen);
  lid(pen);
  pen.restore();
}

/** The sample as a file, as if it had been chosen. */
export async function sampleFile() {
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  drawSample(canvas.getContext("2d"));
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  return new File([blob], "teapot.png", { type: "image/png" });
}

function shade(pen, [light, middle, dark], x, y, radius) {
  const paint = pen.createRadialGradient(x - radius * 0.35, y - radius * 0.45, radius * 0.05, x, y, radius * 1.15);
  paint.addColorStop(0, light);
  paint.addColorStop(0.45, middle);
  paint.addColorStop(1, dark);
  return paint;
}

function handle(pen) {
  pen.strokeStyle = shade(pen, CLAY, 780, 340, 190);
  pen.lineWidth = 46;
  pen.beginPath();
  pen.moveTo(690, 300);
  pen.bezierCurveTo(860, 200, 950, 390, 700, 505);
  pen.stroke();
}

function spout(pen) {
  pen.fillStyle = shade(pen, CLAY, 190, 360, 210);
  pen.beginPath();
  pen.moveTo(300, 350);
  pen.bezierCurveTo(210, 350, 220, 240, 120, 205);
  pen.lineTo(62, 236);
  pen.bezierCurveTo(130, 300, 120, 470, 310, 520);
  pen.closePath();
  pen.fill();
}

function body(pen) {
  const outline = new Path2D();
  outline.moveTo(390, 196);
  outline.bezierCurveTo(190, 240, 170, 560, 350, 632);
  outline.lineTo(610, 632);
  outline.bezierCurveTo(790, 560, 770, 240, 570, 196);
  outline.closePath();
  pen.fillStyle = shade(pen, CLAY, 480, 420, 300);
  pen.fill(outline);
  pen.save();
  pen.clip(outline);
  pen.fillStyle = shade(pen, GLAZE, 480, 400, 320);
  pen.beginPath();
  pen.ellipse(480, 340, 330, 92, 0, 0, Math.PI);
  pen.ellipse(480, 450, 330, 92, 0, Math.PI, 0, true);
  pen.fill();
  for (let i = -4; i <= 4; i++) {
    const angle = i * 0.31, x = 480 + Math.sin(angle) * 290, y = 396 + Math.cos(angle) * 88;
    pen.fillStyle = i % 2 ? "#2f6f73" : "#b4512c";
    pen.beginPath();
    pen.ellipse(x, y, 21 * Math.cos(angle) + 3, 23, 0, 0, 2 * Math.PI);
    pen.fill();
  }
  pen.fillStyle = "#6e2a15";
  pen.fillRect(330, 606, 300, 30);
  pen.restore();
}

function lid(pen) {
  pen.fillStyle = shade(pen, GLAZE, 480, 170, 150);
  pen.beginPath();
  pen.moveTo(372, 204);
  pen.bezierCurveTo(390, 120, 570, 120, 588, 204);
  pen.bezierCurveTo(560, 224, 400, 224, 372, 204);
  pen.fill();
  pen.fillStyle = shade(pen, ["#7cc0bf", "#2f6f73", "#173f42"], 480, 108, 44);
  pen.beginPath();
  pen.arc(480, 106, 38, 0, 2 * Math.PI);
  pen.fill();
}
