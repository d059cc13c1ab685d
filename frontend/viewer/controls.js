// Turns mouse, touch and keys over the canvas into moves of the camera.

const TURN = 0.0075;
const KEY_TURN = 0.12;

/** `moves`: orbit, pan, zoom, reset, and `key(letter)` → true when the letter meant something. */
export function attachControls(canvas, moves) {
  const pointers = new Map();
  let gap = 0;

  canvas.addEventListener("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    gap = spread(pointers);
  });
  canvas.addEventListener("pointermove", (event) => {
    const last = pointers.get(event.pointerId);
    if (!last) return;
    const right = event.clientX - last[0], down = event.clientY - last[1];
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (pointers.size > 1) {
      moves.pan(right / canvas.clientHeight / pointers.size, -down / canvas.clientHeight / pointers.size);
      const now = spread(pointers);
      if (gap > 0 && now > 0) moves.zoom(gap / now);
      gap = now;
    } else if (event.shiftKey || event.buttons & 6) {
      moves.pan(right / canvas.clientHeight, -down / canvas.clientHeight);
    } else {
      moves.orbit(right * TURN, down * TURN);
    }
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      gap = spread(pointers);
    });
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 33 : 1;
    moves.zoom(Math.exp(Math.max(-80, Math.min(80, event.deltaY * lines)) * (event.ctrlKey ? 0.01 : 0.0022)));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => moves.reset());
  document.addEventListener("keydown", (event) => {
    const onCanvas = document.activeElement === canvas;
    const nowhere = document.activeElement === document.body && !document.querySelector("dialog[open]");
    if (event.ctrlKey || event.metaKey || event.altKey || !(onCanvas || nowhere)) return;
    // Without the focus on the canvas, only letters: arrows scroll the page there.
    if ((onCanvas && moveByKey(event, moves)) || moves.key(event.key.toLowerCase())) event.preventDefault();
  });
}

function moveByKey(event, moves) {
  const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrow && event.shiftKey) moves.pan(arrow[0] * 0.04, -arrow[1] * 0.04);
  else if (arrow) moves.orbit(arrow[0] * KEY_TURN, arrow[1] * KEY_TURN);
  else if (event.key === "+" || event.key === "=") moves.zoom(0.9);
  else if (event.key === "-" || event.key === "_") moves.zoom(1 / 0.9);
  else if (event.key === "Home") moves.reset();
  else return false;
  return true;
}

function spread(pointers) {
  if (pointers.size < 2) return 0;
  const [a, b] = [...pointers.values()];
  return Math.hypot(a[0] - b[0], a[1] - b[1]);
}
